"""What a few labelled defects decided: the records that a model file keeps of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyimgano.metrics.rates import Rate
from pyimgano.registry import VALUES, Metadata

__all__ = ["Setting", "Tuned"]


@VALUES.register("setting", Metadata(summary="Post-processing that a few defects chose."))
@dataclass(frozen=True, slots=True)
class Setting:
    """How a raw map becomes the map and the score that are judged.

    Parameters
    ----------
    sigma : float or None
        Gaussian smoothing in input pixels; None where the detector has no such choice.
    aggregation : callable or None
        From map to score; None likewise, and where the score is not that of the map.
    min_area : float
        Components smaller than this share of the image are lowered; 0 leaves all as they are.
    """

    sigma: float | None = None
    aggregation: Any = None
    min_area: float = 0.0

    def describe(self) -> str:
        """Say it in words."""
        words = [] if self.sigma is None else [f"smoothing {self.sigma:g} px"]
        if self.aggregation is not None:
            words.append(str(self.aggregation))
        if self.min_area:
            words.append(f"regions below {100 * self.min_area:g} % of the image lowered")
        return ", ".join(words) or "as it is"


@VALUES.register("tuned", Metadata(summary="What a few defects changed, with what certainty."))
@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Tuned:
    """What a few labelled defects decided, and how that does on images that did not decide.

    Parameters
    ----------
    setting : Setting or None
        None where the detector's own parameters stay.
    target : float
        False-reject target of the operating point.
    is_default_target : bool
        Whether it is the one that the detector was given.
    miss_cost : float or None
        What an escape was said to cost, in false rejects.
    n_settings, n_targets : int
        How many were to choose from, the defaults included.
    objective : str
        By which a setting was chosen.
    n_good, n_defect : int
        Images.
    map_alone : bool
        Whether the settings change the map, and not the score.
    caught, rejected : int
        Defects caught and good images rejected, out of fold.
    caught_before, rejected_before : int
        The same with the defaults.
    before, after : float or None
        The objective out of fold, with the defaults and as chosen; None if nothing was to choose.
    """

    setting: Setting | None
    target: float
    is_default_target: bool
    miss_cost: float | None
    n_settings: int
    n_targets: int
    objective: str
    n_good: int
    n_defect: int
    caught: int
    rejected: int
    caught_before: int
    rejected_before: int
    before: float | None = None
    after: float | None = None
    map_alone: bool = False

    @property
    def choices(self) -> int:
        """By what the error probability of a bound is divided, so that it holds for all choices.

        Half of it goes to the default, the other half to all others alike (Bonferroni with
        weights): who keeps the defaults pays little for having looked, and where the map alone
        is chosen nobody pays: the scores, and their threshold, are the same.
        """
        scored = 1 if self.map_alone else self.n_settings
        return _divisor(scored, self.setting is None) * _divisor(
            self.n_targets, self.is_default_target
        )

    @property
    def recall(self) -> Rate:
        """Defects caught, of those that did not decide, with their Clopper-Pearson interval."""
        return Rate(self.caught, self.n_defect)

    def describe(self) -> dict[str, str]:
        """Say in words what was tuned, what that gained out of fold, and what is caught."""
        told: dict[str, str] = {}
        if self.n_settings > 1:
            those = f"{self.n_settings} settings{' of the map' * self.map_alone}"
            told["tuned"] = (
                f"nothing: none of {those} beats the defaults beyond chance"
                if self.setting is None
                else f"{self.setting.describe()}; best of {those}"
            )
            if self.map_alone:
                told["tuned"] += "; the score is the detector's own, and stays"
            told["gained"] = f"{self.objective} {self.before:.4f} -> {self.after:.4f} out of fold"
        if self.n_targets > 1:
            told["operating"] = (
                f"{100 * self.target:g} % false rejects asked for, best of {self.n_targets} points "
                f"where an escape costs {self.miss_cost:g} false rejects"
            )
        low, high = (f"{100 * end:.0f}" for end in self.recall.interval)
        if self.n_settings * self.n_targets == 1:
            told["caught"] = (
                f"{self.caught} of {self.n_defect} defects, {low} to {high} % with 95 % confidence;"
                " they decided nothing"
            )
            return told
        told["caught"] = (
            f"{self.caught} of {self.n_defect} defects out of fold, {low} to {high} % with 95 % "
            f"confidence ({self.caught_before} with the defaults); {self.rejected} of "
            f"{self.n_good} good images rejected ({self.rejected_before} with the defaults)"
        )
        return told


def _divisor(n: int, is_default: bool) -> int:
    return 1 if n == 1 else 2 if is_default else 2 * (n - 1)

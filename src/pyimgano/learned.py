"""What a detector has learned, and how it says so."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from pyimgano.drift import sessions
from pyimgano.errors import NotFittedError
from pyimgano.records import _percent, images_needed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pyimgano.drift import Drift
    from pyimgano.parity import Parity
    from pyimgano.records import Certainty
    from pyimgano.tuned import Tuned
    from pyimgano.views.base import Sight
    from pyimgano.views.intake import Intake

__all__ = ["Learned"]

_NAMED = 5


class Learned:
    """The learned attributes of every detector; ``print`` and notebooks tell them in words.

    ``repr`` stays that of a dataclass: the parameters.
    """

    intake_: Intake
    view_: Sight
    hashes_: tuple[str, ...]
    skipped_: tuple[tuple[str, str], ...]
    suspects_: tuple[str, ...]
    suspects_z_: tuple[float, ...]
    odd_: tuple[tuple[str, str], ...]
    dropped_: tuple[tuple[str, str], ...]
    looks_: NDArray[np.float64]
    drift_: Drift
    decision_scores_: NDArray[np.float64]
    threshold_: float
    pixel_threshold_: float | None
    certainty_: Certainty
    tuned_: Tuned
    parity_: Parity

    @property
    def is_calibrated(self) -> bool:
        """Whether there is a threshold."""
        return "threshold_" in vars(self)

    @property
    def seen_size(self) -> tuple[int, int]:
        """Height and width of what is seen of an image of the most frequent size."""
        return self.view_.size(self.intake_.sizes[0])

    def learned(self) -> dict[str, str]:
        """Return in words what was learned: images, features, threshold and its certainty.

        Returns
        -------
        dict of str to str
            By subject; empty before ``fit``.
        """
        known = vars(self)
        if "hashes_" not in known:
            return {}
        height, width = self.intake_.sizes[0]
        several = " and other sizes" if len(self.intake_.sizes) > 1 else ""
        facts = {"learned": f"{len(self.hashes_)} good images of {width} x {height} px{several}"}
        facts |= self.view_.describe()
        if "extractor_" in known:
            facts["features"] = known["extractor_"].fingerprint
        facts["threshold"] = "none: scores only, until calibrate is given good images of their own"
        if "certainty_" in known:
            certain = self.certainty_.describe().removeprefix("threshold: ")
            facts["threshold"] = f"{self.threshold_:.4g}: {certain}"
            apart = "" if self.certainty_.doubt else sessions(self.decision_scores_, self.looks_)
            facts |= {"sessions": apart} if apart else {}
        if "tuned_" in known:
            facts |= self.tuned_.describe()
        if "parity_" in known:
            facts |= self.parity_.describe()
        for kind, names in (
            ("suspects", self.suspects_),
            ("skipped", [name for name, _ in self.skipped_]),
            ("odd", [name for name, _ in self.odd_]),
            ("dropped", [name for name, _ in self.dropped_]),
        ):
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            if names:
                facts[kind] = f"{', '.join(names[:_NAMED])}{more}"
        return facts

    def summary(self) -> str:
        """Return one paragraph: what was learned, what is certain, what is not, what to do next."""
        known = vars(self)
        if "hashes_" not in known:
            return f"{type(self).__name__} has learned nothing yet."
        n = len(self.hashes_)
        seen = known["extractor_"].fingerprint.split()[0] if "extractor_" in known else ""
        what = f"{n} good image{'s look' if n > 1 else ' looks'} like"
        what += f" through {seen} features" if seen else ""
        chosen = "tuned_" in known and known["tuned_"].n_settings * known["tuned_"].n_targets > 1
        rest = "has its settings from the defects given" if chosen else "nothing of defects"
        text = [f"{type(self).__name__} learned what {what}, and {rest}."]
        if "certainty_" not in known:
            text.append(
                "It has no threshold: it gives scores and no verdicts. Next: good images that it "
                "has not learned from (a hold-out), or at least two to fit."
            )
            return " ".join(text)
        sure = self.certainty_
        text.append(_certain(sure, self.threshold_))
        if self.suspects_:
            count = len(self.suspects_)
            text.append(
                f"{count} more {'stand' if count > 1 else 'stands'} out and did not set it: look "
                "whether " + ("they are defects." if count > 1 else "it is a defect.")
            )
        beyond = " beyond those that were given" if "tuned_" in known else ""
        text.append(
            f"Which defects it finds{beyond}, good images cannot tell: judge known ones, or plant "
            f"some (pyimgano pod).{_next(sure)}"
        )
        return " ".join(text)

    def _require_fitted(self) -> Intake:
        if "hashes_" not in vars(self):
            raise NotFittedError(f"{type(self).__name__} is not fitted: call fit with good images")
        return self.intake_

    def _require_threshold(self) -> None:
        self._require_fitted()
        if not self.is_calibrated:
            raise NotFittedError(
                "there is no threshold: fit with at least two good images, or call calibrate with "
                "good images of their own"
            )

    def __str__(self) -> str:
        facts = self.learned()
        if not facts:
            return f"{self!r}, not fitted"
        return "\n".join([type(self).__name__, *(f"  {k:<10} {v}" for k, v in facts.items())])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Tell IPython what it prints in a terminal."""
        printer.text("..." if cycle else str(self))

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{subject}</th><td>{html.escape(text)}</td></tr>"
            for subject, text in (self.learned() or {"not fitted": repr(self)}).items()
        )
        return f"<b>{html.escape(type(self).__name__)}</b><table>{rows}</table>"


def _certain(sure: Certainty, threshold: float) -> str:
    """Return where the threshold lies, and what is certain of it."""
    n = f"{sure.n} good images"
    text = (
        f"An image is NG above {threshold:.4g}, {sure.rule}, scored out of sample ({sure.method})"
    )
    if sure.bound is None:
        return (
            f"{text}; nothing can be certified{': ' if sure.doubt else ' from '}{sure.doubt or n}."
        )
    asked = f" ({_percent(sure.target)} was asked for)" if sure.bound > sure.target else ""
    return (
        f"{text}: with {_percent(sure.confidence)} confidence at most {_percent(sure.bound)} of "
        f"good parts are rejected{asked}, while camera, light and process stay the same."
    )


def _next(sure: Certainty) -> str:
    """Return what would make the threshold surer."""
    steps = []
    missing = images_needed(sure.target, 1 - (1 - sure.confidence) / sure.choices) - sure.n
    goal = _percent(sure.target)
    if not sure.doubt and missing > 0:
        steps.append(f"add {missing} good images (the largest of all scores would certify {goal})")
    elif sure.bound is not None and sure.bound > sure.target:
        steps.append(f"ask for less than {goal} to be sure of it (more defects are missed then)")
    if not sure.doubt and sure.method != "separate images":
        steps.append("set the threshold with good images of another day (a hold-out)")
    return f" Next: {'; '.join(steps)}." if steps else ""

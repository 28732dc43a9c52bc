"""What a detector has learned, and how it says so."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from pyimgano.records import images_needed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pyimgano.records import Certainty
    from pyimgano.tuned import Tuned
    from pyimgano.views.intake import Intake

__all__ = ["Learned"]

_NAMED = 5


class Learned:
    """The learned attributes of every detector; ``print`` and notebooks tell them in words.

    ``repr`` stays that of a dataclass: the parameters.
    """

    intake_: Intake
    hashes_: tuple[str, ...]
    skipped_: tuple[tuple[str, str], ...]
    suspects_: tuple[str, ...]
    decision_scores_: NDArray[np.float64]
    threshold_: float
    pixel_threshold_: float | None
    certainty_: Certainty
    tuned_: Tuned

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
        if "extractor_" in known:
            facts["features"] = known["extractor_"].fingerprint
        facts["threshold"] = "none: scores only, until calibrate is given good images of their own"
        if "certainty_" in known:
            certain = self.certainty_.describe().removeprefix("threshold: ")
            facts["threshold"] = f"{self.threshold_:.4g}: {certain}"
        if "tuned_" in known:
            facts |= self.tuned_.describe()
        for kind, names in (
            ("suspects", self.suspects_),
            ("skipped", [name for name, _ in self.skipped_]),
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
        through = f" through {known['extractor_'].fingerprint.split()[0]}" * ("extractor_" in known)
        what = f"{n} good image{'s look' if n > 1 else ' looks'} like{through}"
        text = [f"{type(self).__name__} learned what {what}; it has seen no defect."]
        if "certainty_" not in known:
            text.append(
                "It has no threshold: it gives scores and no verdicts. Next: good images that it "
                "has not learned from (a hold-out), or at least two to fit."
            )
            return " ".join(text)
        sure = self.certainty_
        certain = sure.describe().partition("; ")[2].rstrip(".")
        text.append(f"Threshold, {sure.rule}: {certain}.")
        if self.suspects_:
            text.append("Look at the suspects: a defect that is learned as good hides its like.")
        beyond = " beyond those that were given" if "tuned_" in known else ""
        text.append(
            f"Which defects it finds{beyond} no good image can tell: judge known ones, or plant "
            f"some (pyimgano pod).{_next(sure)}"
        )
        return " ".join(text)

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


def _next(sure: Certainty) -> str:
    """Return what would make the threshold surer."""
    steps = []
    missing = images_needed(sure.target, sure.confidence) - sure.n
    goal = f"{100 * sure.target:.2g} %"
    if not sure.doubt and missing > 0:
        steps.append(f"{missing} more good images, whose largest score would certify {goal}")
    elif sure.bound is not None and sure.bound > sure.target:
        steps.append(f"a false-reject target below {goal}, for a lower bound and fewer catches")
    if not sure.doubt and sure.method != "separate images":
        steps.append("good images of another day as hold-out")
    return f" Next: {'; '.join(steps)}." if steps else ""

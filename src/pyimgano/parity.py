"""What a lower precision changes: the same detector with fp32 features, on the same images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.registry import VALUES, Metadata

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Judged = tuple[NDArray[np.float64], float]

__all__ = ["Parity", "compare_precision"]


@VALUES.register("parity", Metadata(summary="How a lower precision differs from fp32."))
@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Parity:
    """How verdicts differ from those of fp32.

    Parameters
    ----------
    precision : str
        Of the features, such as ``"bf16"``.
    n : int
        Good images that were scored out of sample by both.
    largest : float
        The largest difference of two scores, each in shares of its threshold.
    flips : int
        Images that only one of the two rejects.
    """

    precision: str
    n: int
    largest: float
    flips: int

    def describe(self) -> dict[str, str]:
        """Return it in words, by subject."""
        verdicts = f"{self.flips} of {self.n} verdicts" if self.flips else "no verdict"
        return {
            "precision": (
                f"{self.precision}: {verdicts} on good images other than with fp32, scores off by "
                f"at most {self.largest:.2g} of the threshold"
            )
        }


def compare_precision(lower: Judged, full: Judged, precision: str) -> Parity:
    """Compare what two detectors say of the same good images: scores (n,) and threshold of each."""
    shares = [scores / abs(threshold or 1.0) for scores, threshold in (lower, full)]
    rejected = [scores > threshold for scores, threshold in (lower, full)]
    return Parity(
        precision=precision,
        n=len(shares[0]),
        largest=float(np.abs(shares[0] - shares[1]).max()),
        flips=int(np.count_nonzero(rejected[0] != rejected[1])),
    )

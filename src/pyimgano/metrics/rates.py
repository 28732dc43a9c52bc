"""Counted shares with what is certain about them: k of n, and its Clopper-Pearson interval."""

from __future__ import annotations

from dataclasses import dataclass

from pyimgano.errors import ParameterError

__all__ = ["Rate", "clopper_pearson"]


@dataclass(frozen=True, slots=True)
class Rate:
    """k of n independent images: false rejects among good ones, escapes among defective ones.

    Examples
    --------
    >>> Rate(3, 60).value, [round(end, 3) for end in Rate(3, 60).interval]
    (0.05, [0.01, 0.139])
    """

    k: int
    n: int

    @property
    def value(self) -> float | None:
        """The share, or None of nothing."""
        return self.k / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        """Lowest and highest rate that agree with what was seen, with 95 % confidence."""
        return clopper_pearson(self.k, self.n)

    def describe(self) -> dict[str, float | int | None]:
        """Return ``count``, ``of``, ``rate``, ``low`` and ``high``; None of nothing."""
        low, high = self.interval if self.n else (None, None)
        return {"count": self.k, "of": self.n, "rate": self.value, "low": low, "high": high}


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided interval (low, high) of a rate of which k of n were seen.

    It assumes that the n are independent, and holds the true rate at least as often as
    ``confidence`` says (Clopper and Pearson, Biometrika 1934). It is (0, 1) for 0 of 0, and a
    `ParameterError` if not 0 <= k <= n or the confidence is no share.
    """
    from scipy.special import betaincinv

    if not 0 <= k <= n or not 0 < confidence < 1:
        raise ParameterError(
            f"an interval needs 0 <= k <= n and a confidence above 0 and below 1, got k = {k}, "
            f"n = {n} and {confidence}"
        )
    tail = (1 - confidence) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k else 0.0
    return low, float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0

"""Detectors that see through an extractor: which one it was goes into the model file."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast, final

from pyimgano.errors import ArchiveError
from pyimgano.features.base import (
    BEST_FIRST,
    EXTRACTORS,
    FeatureExtractor,
    Precise,
    in_fp32,
    resolve_extractor,
)
from pyimgano.map_detector import MapDetector
from pyimgano.parity import compare_precision

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EmbeddingDetector"]

_log = logging.getLogger(__name__)


class _LearnedExtractor:
    extractor_: FeatureExtractor


@dataclass(kw_only=True, eq=False)
class EmbeddingDetector(_LearnedExtractor, MapDetector):
    """A detector whose images go through an extractor first.

    Parameters
    ----------
    extractor : str or FeatureExtractor
        A registered name, ``NAME:PATH`` where it needs a file, ``"auto"`` for the best one
        installed, or an object of your own.
    """

    best_first: ClassVar[tuple[str, ...]] = BEST_FIRST
    """What ``"auto"`` tries, in order."""

    extractor: str | FeatureExtractor = "auto"

    @final
    def resolved_extractor(self) -> FeatureExtractor:
        """Return what ``extractor`` names; see `resolve_extractor`."""
        return resolve_extractor(self.extractor, self.best_first)

    @final
    def _compare_precision(self, fit: Callable[[Any], object]) -> None:
        exact = in_fp32(self.extractor_) if self.is_calibrated else None
        if exact is None:
            return
        other = self.clone()
        other.extractor = exact
        fit(other)
        lower, full = ((one.decision_scores_, one.threshold_) for one in (self, other))
        precision = cast(Precise, self.extractor_).precision
        self.parity_ = compare_precision(lower, full, precision)
        if self.parity_.flips:
            _log.warning("%s", self.parity_.describe()["precision"])

    def _state(self) -> dict[str, Any]:
        stored: dict[str, Any] = {"fingerprint": self.extractor_.fingerprint}
        name = EXTRACTORS.name_of(type(self.extractor_))
        if name is not None and isinstance(self.extractor, str):
            made: Any = self.extractor_
            fields = dataclasses.fields(made) if dataclasses.is_dataclass(made) else ()
            stored["name"] = name
            stored["parameters"] = {f.name: getattr(self.extractor_, f.name) for f in fields}
        return {**super()._state(), "extractor_": stored}

    def _restore(self, state: dict[str, Any]) -> None:
        stored = state.pop("extractor_")
        if "name" in stored:
            self.extractor_ = EXTRACTORS[stored["name"]](**stored["parameters"])
        else:
            self.extractor_ = self.resolved_extractor()
        if self.extractor_.fingerprint != stored["fingerprint"]:
            raise ArchiveError(
                f"the extractor here is {self.extractor_.fingerprint!r}, the model was fitted with "
                f"{stored['fingerprint']!r}: install what it was fitted with, or fit it again"
            )
        super()._restore(state)

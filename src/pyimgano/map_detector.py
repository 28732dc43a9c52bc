"""Detectors that also draw a map."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast, final

import numpy as np

from pyimgano.detector import Detector
from pyimgano.errors import CalibrationError, InputError
from pyimgano.maps.postprocess import LearnedStep, Pipeline, SmallComponentRemoval

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from pyimgano.judging import Reading
    from pyimgano.records import Evidence
    from pyimgano.tuned import Setting

__all__ = ["MapDetector"]


class _LearnedMaps:
    postprocess_: Pipeline


@dataclass(kw_only=True, eq=False)
class MapDetector(_LearnedMaps, Detector):
    """A detector that also draws a map of each image, in the image's own pixels.

    Parameters
    ----------
    postprocess : Pipeline
        Steps applied to every map; statistics are fitted on out-of-sample maps of good images.
        The score does not depend on them.
    """

    postprocess: Pipeline = field(default_factory=Pipeline)

    @property
    def draws(self) -> bool:
        """Whether it draws with these parameters: one that can look at whole images may not."""
        return True

    def _explain(
        self,
        image: NDArray[np.uint8],  # noqa: ARG002
        places: Sequence[tuple[float, float]],  # noqa: ARG002
    ) -> list[Evidence]:
        """Return why each place of an accepted image is unusual; nothing if nothing is known.

        A place is x, y in shares of width and height.
        """
        return []

    @final
    def predict_anomaly_map(
        self,
        X: Any,  # noqa: N803 - scikit-learn's name
    ) -> NDArray[np.float32] | tuple[NDArray[np.float32], ...]:
        """Return the maps, float32 (n, H, W); a tuple of (H, W) if sizes differ.

        Raises
        ------
        InputError
            If it draws none with these parameters.
        UnjudgedError
            If an image could not be judged; all others are in its ``inspections``.
        """
        if not self.draws:
            raise InputError(f"{type(self).__name__} draws no maps with these parameters: {self!r}")
        judged = self._judge_all(X, with_maps=True)
        maps = tuple(drawn for drawn in judged.maps if drawn is not None)
        return np.stack(maps) if len({drawn.shape for drawn in maps}) == 1 else maps

    @final
    def get_anomaly_map(self, path: Any) -> NDArray[np.float32]:
        """Return the map of one image, float32 (H, W).

        Raises
        ------
        UnjudgedError
            If the image could not be judged.
        """
        drawn = self._judge_all([path], with_maps=True)[0].map
        if drawn is None:
            raise InputError(f"{type(self).__name__} gave no map")
        return drawn

    def _calibrate_maps(self, readings: Sequence[Reading], kept: Sequence[int]) -> float | None:
        if not self.draws:
            return None
        maps = _Maps(readings, kept)
        tuned = vars(self).get("tuned_")
        setting = tuned.setting if tuned else None
        self.postprocess_ = self._steps(setting, self.seen_size).fit(maps)
        peaks = [float(self._finish(drawn).max()) for drawn in maps]
        return self.threshold.choose(np.array(peaks), self.contamination).value

    def _pipeline(self, setting: Setting, goods: Sequence[Reading]) -> Pipeline:
        maps = _Maps(goods, range(len(goods)))
        pipeline = self._steps(setting, next(iter(maps)).shape)
        # Most pipelines learn nothing: their maps need not be drawn.
        learns = any(isinstance(step, LearnedStep) for step in pipeline.steps)
        return pipeline.fit(maps) if learns else pipeline

    def _steps(self, setting: Setting | None, size: tuple[int, ...]) -> Pipeline:
        """Return the post-processing of maps of a size, with the least region that was chosen."""
        if setting is None or not setting.min_area:
            return self.postprocess
        least = max(1, round(setting.min_area * size[0] * size[1]))
        return Pipeline((*self.postprocess.steps, SmallComponentRemoval(least)))

    def _finish(self, drawn: NDArray[np.float32]) -> NDArray[np.float32]:
        fitted = vars(self).get("postprocess_")
        return drawn if fitted is None else cast(Pipeline, fitted)(drawn)


class _Maps:
    """Maps of some readings; iterated anew they are drawn anew, so that none is held."""

    def __init__(self, readings: Sequence[Reading], kept: Sequence[int]) -> None:
        self._readings, self._kept = readings, kept

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for i in self._kept:
            drawn = self._readings[i].map
            if drawn is None:
                raise CalibrationError("a MapDetector gave a reading without a map")
            yield drawn

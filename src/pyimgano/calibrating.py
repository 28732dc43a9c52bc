"""The half of a detector that calibrates: from readings of good images to a threshold."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from pyimgano import calibration as calibrations
from pyimgano import images
from pyimgano.errors import CalibrationError
from pyimgano.judging import Batchwise
from pyimgano.learned import Learned
from pyimgano.tuned import Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from pyimgano.calibration import ThresholdRule
    from pyimgano.few_shot import FewShot
    from pyimgano.judging import Reading
    from pyimgano.views.intake import Goods, Images

__all__ = ["Calibrating"]

_OTHER_BATCH = (
    "a score belongs to its batch, and a batch with defects, or of another size, scores good "
    "images otherwise than one of good images alone"
)
_log = logging.getLogger(__name__)


class Calibrating(Batchwise, Learned):
    """What `Detector` does with out-of-sample readings; the hooks are a subclass's to override."""

    if TYPE_CHECKING:  # parameters of the detector
        contamination: float
        threshold: ThresholdRule
        keep_suspects: bool

        def _read(self, images: Images) -> Sequence[Reading]: ...

    def _decide(
        self, readings: Sequence[Reading], goods: Goods, method: str, few: FewShot | None
    ) -> None:
        """Set the threshold, after the defects, if there are any, have chosen how to look."""
        if few is not None:
            self.tuned_ = few.decide(self, readings, goods)
            if self.tuned_.setting is not None:
                readings = self._under(readings, self.tuned_.setting)
        self._set_threshold(readings, goods, method)

    def _settings(self, *, masked: bool) -> tuple[Setting, ...]:  # noqa: ARG002
        """Return what defects may choose from, the parameters first; masked ones tell of maps."""
        return (Setting(),)

    def _under(
        self,
        readings: Sequence[Reading],
        setting: Setting,  # noqa: ARG002
        *,
        small: bool = False,  # noqa: ARG002
    ) -> Sequence[Reading]:
        """Return readings as a setting makes them; ``small``: maps as large as is worth a look."""
        return readings

    def _set_threshold(self, readings: Sequence[Reading], goods: Goods, method: str) -> None:
        names = [images.describe(source) for source in goods.images.sources]
        scores = np.array([reading.score for reading in readings], dtype=np.float64)
        if not np.isfinite(scores).all():
            first = names[int(np.flatnonzero(~np.isfinite(scores))[0])]
            raise CalibrationError(f"the out-of-sample score of {first} is not finite")
        tuned = vars(self).get("tuned_")
        found = calibrations.calibrate(
            scores,
            rule=self.threshold,
            contamination=tuned.target if tuned else self.contamination,
            method=method,
            keep_suspects=self.keep_suspects,
            choices=tuned.choices if tuned else 1,
        )
        if found.warning:
            _log.warning("%s", found.warning)
        self.decision_scores_, self.threshold_ = scores, found.threshold
        doubted = self.is_transductive
        self.certainty_ = found.certainty.doubted(_OTHER_BATCH) if doubted else found.certainty
        self.suspects_ = tuple(names[i] for i in found.suspects)
        kept = [i for i in range(len(names)) if i not in found.suspects]
        self.pixel_threshold_ = self._calibrate_maps(readings, kept)

    def _calibrate_maps(self, readings: Sequence[Reading], kept: Sequence[int]) -> float | None:  # noqa: ARG002
        return None

    def _finish(self, drawn: NDArray[np.float32]) -> NDArray[np.float32]:
        """Post-process a map."""
        return drawn

    def _pipeline(
        self,
        setting: Setting,  # noqa: ARG002
        goods: Sequence[Reading],  # noqa: ARG002
    ) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """Return the post-processing of maps under a setting, fitted on good images."""
        return self._finish

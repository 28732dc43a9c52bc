"""The half of a detector that calibrates: from readings of good images to a threshold."""

from __future__ import annotations

import logging
import math
from array import array
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano import calibration as calibrations
from pyimgano import images
from pyimgano.drift import compare
from pyimgano.errors import CalibrationError
from pyimgano.groups import one_a_group
from pyimgano.judging import Batchwise
from pyimgano.learned import Learned
from pyimgano.records import GOOD, Sample
from pyimgano.tuned import Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from pyimgano.calibration import ThresholdRule
    from pyimgano.drift import Drift
    from pyimgano.few_shot import FewShot
    from pyimgano.inspection import Inspection
    from pyimgano.judging import Reading
    from pyimgano.views.base import View
    from pyimgano.views.intake import Goods, Images

__all__ = ["SEPARATE", "Calibrating"]

COPY = "copy of"  # how the reason of an exact copy starts
SEPARATE = "separate images"
_OTHER_BATCH = (
    "a score belongs to its batch, and a batch with defects, or of another size, scores good "
    "images otherwise than one of good images alone"
)
_log = logging.getLogger(__name__)


class Calibrating(Batchwise, Learned):
    """What `Detector` does with out-of-sample readings; the hooks are a subclass's to override."""

    if TYPE_CHECKING:  # parameters of the detector
        contamination: float
        view: View
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

    def _compare_precision(self, fit: Callable[[Any], object]) -> None:
        """Compare with another detector that is to be ``fit`` to the same images; here to none."""

    def _settings(
        self,
        readings: Sequence[Reading],  # noqa: ARG002
        *,
        masked: bool,  # noqa: ARG002
    ) -> tuple[Setting, ...]:
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
        vars(self).pop("parity_", None)  # it told of another threshold
        names, scores = self._scored(readings, goods)
        tuned = vars(self).get("tuned_")
        each = one_a_group(scores, goods.groups)
        found = calibrations.calibrate(
            scores[each],
            rule=self.threshold,
            contamination=tuned.target if tuned else self.contamination,
            method=method,
            keep_suspects=self.keep_suspects,
            choices=tuned.choices if tuned else 1,
        )
        if found.warning:
            _log.warning("%s", found.warning)
        self.threshold_ = found.threshold
        certainty = calibrations.counted(
            found.certainty,
            removed=0
            if method == SEPARATE
            else sum(not reason.startswith(COPY) for _, reason in self.dropped_),
            grouped=len(scores) - len(each),
        )
        self.certainty_ = certainty.doubted(_OTHER_BATCH) if self.is_transductive else certainty
        doubtful = {goods.groups[i] for i in each[list(found.suspects)]}
        suspects = [i for i, group in enumerate(goods.groups) if group in doubtful]
        self.suspects_ = tuple(names[i] for i in suspects)
        far = calibrations.robust_z(scores[suspects], scores[each])
        self.suspects_z_ = () if far is None else tuple(far.round(2).tolist())
        kept = [i for i in each.tolist() if goods.groups[i] not in doubtful]
        self.pixel_threshold_ = self._calibrate_maps(readings, kept)

    def _scored(
        self, readings: Sequence[Reading], goods: Goods
    ) -> tuple[list[str], NDArray[np.float64]]:
        """Note out-of-sample scores and looks of good images; return their names and scores."""
        names = [images.describe(source) for source in goods.images.sources]
        scores = np.array([reading.score for reading in readings], dtype=np.float64)
        if not np.isfinite(scores).all():
            first = names[int(np.flatnonzero(~np.isfinite(scores))[0])]
            raise CalibrationError(f"the out-of-sample score of {first} is not finite")
        self.decision_scores_, self.looks_ = scores, goods.looks
        return names, scores

    def _stand_out(self, readings: Sequence[Reading], goods: Goods) -> tuple[tuple[str, str], ...]:
        """Return name and reason of good images that stand out but set no threshold."""
        names, scores = self._scored(readings, goods)
        each = one_a_group(scores, goods.groups)
        found = () if self.keep_suspects else calibrations.find_suspects(scores[each])[0]
        far = calibrations.suspicion(scores[each])
        return tuple((names[each[i]], f"score: z = {far[i]:.1f}") for i in found)

    def drift(self, judged: Iterable[Inspection]) -> Drift | None:
        """Compare judged images with the good images that set the threshold.

        Parameters
        ----------
        judged : iterable of Inspection
            What `inspect` returned. Where samples carry labels, the good ones alone are compared.
            All of them are taken, one after another, and nothing but numbers is kept of each.

        Returns
        -------
        Drift or None
            None where nothing can be compared: no threshold, or scores that belong to a batch.
        """
        numbers = array("d")
        for one in judged:
            if one.look is not None and one.error is None:
                label = one.source.label if isinstance(one.source, Sample) else None
                numbers.extend([math.nan if label is None else label, one.score, *one.look])
        if self.is_transductive or not {"threshold_", "looks_"} <= vars(self).keys():
            return None
        seen = np.array(numbers).reshape(-1, 5)
        labelled = not np.isnan(seen[:, 0]).all()
        if labelled:
            seen = seen[seen[:, 0] == GOOD]
        return compare(
            seen[:, 1],
            seen[:, 2:],
            (self.decision_scores_, self.looks_),
            limit=None if labelled else self.threshold_,
        )

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

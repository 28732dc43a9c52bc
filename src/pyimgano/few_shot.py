"""A few labelled defects at the door of ``calibrate``: read, looked at, searched with."""

from __future__ import annotations

import dataclasses
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pyimgano import images
from pyimgano.datasets._checks import read_truth
from pyimgano.datasets._sources import as_sources
from pyimgano.datasets.defects import read_defects
from pyimgano.errors import CalibrationError, InputError, ParameterError
from pyimgano.groups import block_folds
from pyimgano.records import GOOD, Sample
from pyimgano.tuning import FOLDS, Look, Plan, search
from pyimgano.views.intake import learn
from pyimgano.views.tile import asks_for_tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from pyimgano.calibrating import Calibrating
    from pyimgano.judging import Reading
    from pyimgano.tuned import Tuned
    from pyimgano.views.intake import Goods, Images

__all__ = ["FewShot"]

_LATTICE = 1024  # normal values of a map that a search keeps
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class FewShot:
    """Labelled defects, and what may be chosen with them.

    Parameters
    ----------
    defects : sequence of path, array, PIL image or Sample; or a folder
        Defective images; a `Sample` may have a mask. A folder is read by `read_defects`.
    tune : bool
        Choose post-processing, too.
    miss_cost : float or None
        What an escape costs, in false rejects; None leaves the operating point to the good images.
    """

    defects: Any
    tune: bool = False
    miss_cost: float | None = None

    @classmethod
    def asked(
        cls, detector: Calibrating, defects: Any, *, tune: bool, miss_cost: float | None
    ) -> FewShot | None:
        """Return what is asked for, None without defects.

        Raises
        ------
        ParameterError
            If something is to be chosen without defects, the cost is not positive, or the detector
            is transductive: defects by themselves are no batch like those that are to be judged.
        """
        if defects is not None and detector.is_transductive:
            raise ParameterError(
                f"{type(detector).__name__} judges images by the others of their batch, and "
                "defects alone would be judged by each other: leave them out, and judge them in a "
                "batch with good images"
            )
        if defects is not None and asks_for_tiles(detector.view):
            raise ParameterError("defects say nothing yet of images in tiles: leave out either")
        if defects is None and (tune or miss_cost is not None):
            raise ParameterError(
                "tune and miss_cost choose by defects: give some, calibrate(good, defects, ...)"
            )
        if miss_cost is not None and not 0 < miss_cost < math.inf:
            raise ParameterError(f"miss_cost must be a positive number, got {miss_cost}")
        return None if defects is None else cls(defects, tune, miss_cost)

    def decide(self, detector: Calibrating, readings: Sequence[Reading], goods: Goods) -> Tuned:
        """Choose with out-of-sample readings of the good images; see `pyimgano.tuning`.

        Raises
        ------
        InputError
            If there are no defects, one is labelled good, or too many cannot be read.
        CalibrationError
            If a defect is one of the good images, or there are too few to choose with.
        """
        bad = self._read(detector, goods)
        seen = detector._read(bad.images)
        samples = [s for s in bad.images.sources if isinstance(s, Sample)]
        masks = [_carried(bad.images, sample) for sample in samples]
        masked = len(masks) == len(seen) and all(m is not None and m.any() for m in masks)
        settings = detector._settings(readings, masked=masked)[: None if self.tune else 1]
        if self.tune and len(settings) == 1:
            _log.warning(
                "%s has no post-processing to tune that its score depends on%s",
                type(detector).__name__,
                "" if masked else "; a map is tuned with masks",
            )
        plan = Plan(
            detector.threshold, detector.contamination, detector.keep_suspects, self.miss_cost
        )
        if len(settings) * len(plan.targets) > 1:
            _require_enough(goods, bad)
        drawn = masked and len(settings) > 1
        nothing = [None] * len(readings) if drawn else None
        looks = []
        for setting in settings:
            good, poor = (detector._under(each, setting, small=True) for each in (readings, seen))
            finish = detector._pipeline(setting, good) if drawn else detector._finish
            looks.append(
                (_look(good, finish, nothing), _look(poor, finish, masks if drawn else None))
            )
        return search(settings, looks, (_folds(goods), _folds(bad)), plan)

    def _read(self, detector: Calibrating, goods: Goods) -> Goods:
        given = self.defects
        folder = isinstance(given, (str, Path)) and Path(given).is_dir()
        sources = read_defects(Path(given)) if folder else as_sources(given)
        good = [s for s in sources if isinstance(s, Sample) and s.label == GOOD]
        if good:
            raise InputError(f"{len(good)} defects are labelled good, the first is {good[0].path}")
        # To intake they are images like others: it refuses what is labelled defective.
        free = [dataclasses.replace(s, label=None) if isinstance(s, Sample) else s for s in sources]
        bad = learn(free, any_size=True, bit_depth=None, kind="defects")
        bad = bad.seen(detector.intake_, detector.view_, "defects")
        for name, reason in bad.skipped:
            _log.warning("the defect %s is left out: %s", name, reason)
        known = {*detector.hashes_, *goods.hashes}
        for source, digest in zip(bad.images.sources, bad.hashes, strict=True):
            if digest in known:
                raise CalibrationError(
                    f"{images.describe(source)} is given as a defect and as a good image: "
                    "decide which it is"
                )
        return bad


def _carried(images: Images, sample: Sample) -> NDArray[np.bool_] | None:
    """Return the mask of a defect where the detector sees it."""
    mask = read_truth(sample)
    return mask if mask is None else images.look(sample).back.carry(mask)


def _require_enough(goods: Goods, bad: Goods) -> None:
    """Refuse to choose where a fold would be empty."""
    for kind, given in (("good images", goods), ("defects", bad)):
        parts = len(set(given.groups))
        if parts < FOLDS:
            raise CalibrationError(
                f"choosing needs at least {FOLDS} different {kind}, got {parts}: give more, or "
                "leave tune and miss_cost out; the recall is stated all the same"
            )


def _folds(given: Goods) -> NDArray[np.int64]:
    """Return contiguous folds; below 20 parts each part is a block, and blocks take turns."""
    return block_folds(given.groups, FOLDS) % FOLDS


def _look(
    readings: Sequence[Reading],
    finish: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    masks: Sequence[NDArray[np.bool_] | None] | None,
) -> Look:
    """Keep scores and, with masks (None for a good image), a few values of each finished map."""
    if masks is None:
        return Look(np.array([reading.score for reading in readings]))
    scores, normals, regions = [], [], []
    for reading, mask in zip(readings, masks, strict=True):
        scores.append(reading.score)
        drawn = finish(cast("NDArray[np.float32]", reading.map))
        inside = _components(mask, drawn.shape)
        regions.append([drawn[inside == i] for i in range(1, int(inside.max()) + 1)])
        step = max(1, math.ceil(math.sqrt(drawn.size / _LATTICE)))
        lattice = slice(step // 2, None, step)
        normals.append(np.where(inside == 0, drawn, np.nan)[lattice, lattice].ravel())
    return Look(np.array(scores), np.stack(normals), regions)


def _components(mask: NDArray[np.bool_] | None, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Return the number of the defect that each value of a map touches; 0 for none."""
    import cv2

    if mask is None:
        return np.zeros(shape, np.int32)
    painted = mask.astype(np.uint8) * np.uint8(255)
    small = cv2.resize(painted, shape[::-1], interpolation=cv2.INTER_AREA) > 0
    return cast(
        "NDArray[np.int32]", cv2.connectedComponents(small.astype(np.uint8), connectivity=8)[1]
    )

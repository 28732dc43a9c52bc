"""The contract of every detector, written once."""

from __future__ import annotations

import dataclasses
import logging
import math
from abc import abstractmethod
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

import numpy as np

from pyimgano import mosaic
from pyimgano.calibrating import SEPARATE, Calibrating
from pyimgano.calibration import Conformal, ThresholdRule, check_contamination
from pyimgano.datasets._sources import as_sources
from pyimgano.drift import LEAST_GOOD, compare
from pyimgano.errors import CalibrationError, ParameterError
from pyimgano.estimator import DETECTORS, Estimator
from pyimgano.few_shot import FewShot
from pyimgano.groups import block_folds
from pyimgano.inspecting import Inspecting
from pyimgano.inspection import Inspections
from pyimgano.judging import Judge, Reading, require_judged
from pyimgano.synthesis.golden import golden_image
from pyimgano.views.base import View, Whole
from pyimgano.views.intake import Images, learn

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from numpy.typing import NDArray

    from pyimgano.inspection import Inspection

__all__ = ["DETECTORS", "Detector"]

GOLDEN_SEEDS = (1, 2)
_log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class Detector(Calibrating, Estimator):
    """A detector learns from good images and judges others.

    Fields are parameters; what is learned ends in an underscore. A subclass is a keyword-only
    dataclass that writes `_fit` and `_infer`.

    Parameters
    ----------
    contamination : float
        Share of good images allowed above the threshold.
    threshold : ThresholdRule
        How the threshold follows from the out-of-sample scores of the good images.
    folds : int
        Contiguous blocks for the out-of-sample scores; below 20 images each image is its own.
    keep_suspects : bool
        Let good images that stand out take part in the threshold.
    any_size : bool
        Accept other image sizes than the one of the good images.
    bit_depth : int or None
        Bits used in 16-bit images; None takes the largest value among the good images.
    seed : int
        Source of all randomness.
    view : View
        What is seen of an image, such as ``Align()``; learned from the good images.

    Attributes
    ----------
    decision_scores_ : ndarray of float64, shape (n,)
        Out-of-sample scores of the good images.
    threshold_, pixel_threshold_ : float
        An image is NG if its score exceeds ``threshold_``; ``pixel_threshold_`` draws regions.
    certainty_ : Certainty
        What is certain about the false rejects.
    suspects_ : tuple of str
        Good images that stand out from the others.
    skipped_, odd_, dropped_ : tuple of (str, str)
        Good images with the reason why they could not be read, are unlike the others (copies,
        blurred, badly exposed, of another size), or were taken out before.
    looks_, drift_ : ndarray of float64, shape (n, 3); Drift
        Light and sharpness of the images of ``decision_scores_``; what they differ in from before.
    tuned_, parity_ : Tuned; Parity
        What labelled defects decided; what less precision than fp32 changes. If there is either.
    """

    tileable: ClassVar[bool] = False  # whether it may judge tiles: it knows no places
    block_parts: ClassVar[int | None] = None  # parts a block holds at most: more blocks for many
    contamination: float = 0.05
    threshold: ThresholdRule = field(default_factory=Conformal)
    folds: int = 5
    keep_suspects: bool = False
    any_size: bool = False
    bit_depth: int | None = None
    seed: int = 0
    view: View = field(default_factory=Whole)

    # What a subclass writes ----------------------------------------------------------------

    @abstractmethod
    def _fit(self, images: Images) -> None:
        """Learn from accepted images; set attributes that end in an underscore."""

    @abstractmethod
    def _infer(self, images: Sequence[NDArray[np.uint8]]) -> list[Reading]:
        """Score (and draw) accepted images, each by itself; by each other if transductive."""

    def _learn(self, images: Images, blocks: NDArray[np.int64]) -> Sequence[Reading]:
        """Learn from all images, and return a reading of each that did not learn from its block.

        This default fits once a block; a subclass that can share work between blocks overrides it.
        Where images judge each other, each is left out of what it is judged by anyway.
        """
        if self.is_transductive:
            self._fit(images)
            return self._read(images)
        readings: list[Reading] = [Reading(math.nan)] * len(images)
        for block in np.unique(blocks):
            part = self.clone()
            part.intake_, part.view_ = self.intake_, self.view_
            part._fit(images.take(np.flatnonzero(blocks != block).tolist()))
            for i in np.flatnonzero(blocks == block).tolist():
                readings[i] = part._infer([images[i]])[0]
        self._fit(images)
        return readings

    def _read(self, images: Images) -> Sequence[Reading]:
        """Return a reading of each image; override it to draw maps only when they are asked for."""
        if self.is_transductive:
            return self._read_together([self._look(image) for image in images])
        return [self._infer([image])[0] for image in images]

    def _check_parameters(self) -> None:
        """Raise `ParameterError` for values that cannot be used; call super first."""
        check_contamination(self.contamination)
        rule = self.threshold
        if isinstance(rule, type) or not isinstance(rule, ThresholdRule):
            raise ParameterError(f"threshold must be a rule such as Conformal(): {rule!r}")
        if self.seed < 0:
            raise ParameterError(f"seed must not be negative, got {self.seed}")
        if isinstance(self.view, type) or not isinstance(self.view, View):
            raise ParameterError(f"view must be a view such as Align(): {self.view!r}")
        mosaic.require_tileable(self)

    # What every detector does --------------------------------------------------------------

    @final
    def fit(
        self,
        X: Any,  # noqa: N803 - scikit-learn's name
        *,
        calibration: Any = None,
        defects: Any = None,
        tune: bool = False,
        miss_cost: float | None = None,
        dropped: Sequence[tuple[str, str]] = (),
    ) -> Self:
        """Learn from good images and set a threshold from out-of-sample scores.

        Parameters
        ----------
        X : sequence of path, array, PIL image or Sample; or a folder
            Good images, in the order in which they were taken.
        calibration : same, optional
            Good images of their own for the threshold, best from another day; what is learned
            from 10 images of X or more stays the same. Without them every image of X is scored by
            a model that has not seen its block of neighbours.
        defects, tune, miss_cost
            See `calibrate`.
        dropped : sequence of (str, str)
            Good images that were taken out before, with the reason: in the certainty they count as
            rejected, for goods like them will be; a ``"copy of"`` another does not.

        Returns
        -------
        Self

        Raises
        ------
        ParameterError
            If a parameter cannot be used.
        InputError
            If there are no good images, or more than 5 % of them cannot be read.
        CalibrationError
            If calibration images were learned from, or their scores are not finite.
        """
        self._check_parameters()
        few = FewShot.asked(self, defects, tune=tune, miss_cost=miss_cost)
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        goods = learn(as_sources(X), any_size=self.any_size, bit_depth=self.bit_depth)
        self.intake_, self.view_ = goods.images.intake, self.view.learn(goods.images)
        goods = goods.seen(self.intake_, self.view_)
        self.suspects_, self.suspects_z_ = (), ()
        self.skipped_, self.odd_, self.dropped_ = goods.skipped, goods.odd, tuple(dropped)
        blocks = block_folds(goods.groups, self.folds, self.block_parts)
        if self.is_transductive:
            blocks = np.arange(len(blocks))
        count = len(np.unique(blocks))
        enough = count > 1 and (calibration is None or len(goods.hashes) >= LEAST_GOOD)
        readings = mosaic.learn(self, goods.images, blocks if enough else None)
        self.hashes_ = goods.hashes  # last, so that a fit that failed leaves nothing to judge with
        if calibration is not None:
            if readings is not None:
                self.odd_ += self._stand_out(readings, goods)
            self.calibrate(calibration, defects, tune=tune, miss_cost=miss_cost)
        elif readings is None:
            _log.warning("one good image gives no out-of-sample score: there is no threshold")
        else:
            blocked = self.folds <= count < len(set(goods.groups))
            how = f"{count} block folds" if blocked else "leave one out"
            self._decide(readings, goods, how, few)
        given = {"defects": defects, "tune": tune, "miss_cost": miss_cost}
        self._compare_precision(lambda other: other.fit(X, calibration=calibration, **given))
        return self

    @final
    def calibrate(
        self,
        good: Any,
        defects: Any = None,
        *,
        tune: bool = False,
        miss_cost: float | None = None,
    ) -> Self:
        """Set the threshold from good images that the model has not learned from.

        Parameters
        ----------
        good : sequence of path, array, PIL image or Sample; or a folder
            Good images, disjoint from those of ``fit``.
        defects : same, optional
            Labelled defects, best with masks: ``tuned_`` says how many are caught; alone they
            decide nothing.
        tune : bool
            Let the defects choose smoothing, aggregation and least region; see `pyimgano.tuning`.
        miss_cost : float, optional
            What an escape costs, in false rejects: the defects choose the operating point, too.

        Returns
        -------
        Self

        Raises
        ------
        CalibrationError
            If one of them was learned from, which makes its score too low.
        """
        intake = self._require_fitted()
        few = FewShot.asked(self, defects, tune=tune, miss_cost=miss_cost)
        goods = learn(as_sources(good), any_size=True, bit_depth=None)
        seen = set(self.hashes_).intersection(goods.hashes)
        if seen:
            raise CalibrationError(
                f"{len(seen)} of {len(goods.hashes)} calibration images were learned from: their "
                "scores say nothing about new parts; give images of their own, or none"
            )
        vars(self).pop("tuned_", None)  # a setting that others chose has no part in this one
        goods = goods.seen(intake, self.view_)
        readings = mosaic.read(self, goods.images)
        known, before = vars(self), [vars(self).get(x) for x in ("decision_scores_", "looks_")]
        self._decide(readings, goods, SEPARATE, few)
        self.skipped_ = tuple(dict.fromkeys((*self.skipped_, *goods.skipped)))
        self.odd_ = tuple(dict.fromkeys((*self.odd_, *goods.odd)))
        known.pop("drift_", None)
        if before[0] is not None and before[1] is not None and not self.is_transductive:
            self.drift_ = compare(self.decision_scores_, self.looks_, (before[0], before[1]))
        return self

    @final
    def inspect(self, X: Any, *, batch_size: int = 8) -> Inspecting:  # noqa: N803
        """Judge images one after another with constant memory; never raises for an image.

        A transductive detector sees all of them first: it keeps the features of the batch, and of
        a batch of one it can say nothing.

        Parameters
        ----------
        X : sequence of path, array, PIL image or Sample; or a folder or file
            Images to judge.
        batch_size : int
            Images that are inferred together; it does not change the results.

        Returns
        -------
        Inspecting
            An iterator that gives one `Inspection` an image, in order, and judges while it is
            iterated. What cannot be judged has the verdict ERROR and a reason.

        Raises
        ------
        ParameterError, NotFittedError, InputError
            At once, if there is nothing to judge, or to judge it with.
        """
        if batch_size < 1:
            raise ParameterError(f"batch_size must be at least 1, got {batch_size}")
        self._require_fitted()
        sources = as_sources(X)
        return Inspecting(self._stream(sources, batch_size), sources)

    def _stream(self, sources: Sequence[Any], size: int) -> Generator[Inspection, None, None]:
        limits = vars(self).get("threshold_"), vars(self).get("pixel_threshold_")
        judge = Judge(partial(mosaic.infer, self), self._finish, *limits)
        size = mosaic.at_once(self, size)
        yield from judge.stream(sources, self.intake_.see, self.view_.see, size, self)

    @final
    def decision_function(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the scores, shape (n,); higher is more anomalous.

        Raises
        ------
        UnjudgedError
            If an image could not be judged; all others are in its ``inspections``.
        """
        return self._judge_all(X, with_maps=False).scores

    @final
    def predict(self, X: Any) -> NDArray[np.int64]:  # noqa: N803
        """Return 1 for each image whose score exceeds ``threshold_``, else 0; shape (n,).

        Raises
        ------
        NotFittedError
            If no threshold was calibrated.
        UnjudgedError
            If an image could not be judged; all others are in its ``inspections``.
        """
        self._require_threshold()
        return self._judge_all(X, with_maps=False).labels

    # How it is done ------------------------------------------------------------------------

    def _restore(self, state: dict[str, Any]) -> None:
        super()._restore({"view_": Whole(), **state})  # older files have none

    def _golden_scores(self) -> NDArray[np.float64]:
        self._require_fitted()
        golden = [golden_image(seed, self.seen_size) for seed in GOLDEN_SEEDS]
        return np.array([one.score for one in self._infer(golden)])

    def _judge_all(self, X: Any, *, with_maps: bool) -> Inspections:  # noqa: N803
        """Judge everything, then raise if anything could not be judged."""
        found: Iterable[Inspection] = self.inspect(X)
        if not with_maps:
            found = (dataclasses.replace(one, map=None, seen=None) for one in found)
        return require_judged(Inspections(found))

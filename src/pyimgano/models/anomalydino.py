"""AnomalyDINO: cosine distance of each patch to those of a few references, turned all ways."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from pyimgano.errors import ParameterError
from pyimgano.estimator import DETECTORS
from pyimgano.features.base import resolve_extractor
from pyimgano.models._foreground import foreground, lies_inside
from pyimgano.models._token_detector import (
    Patches,
    Readings,
    Seen,
    TokenDetector,
    check_choice,
    turned,
    unit,
)
from pyimgano.models.knn_index import NearestNeighborIndex, create_index
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pyimgano.judging import Reading
    from pyimgano.views.intake import Images

    Angles = tuple[float, ...]

__all__ = ["AnomalyDINO"]

NOBODY = -1
_ALL_WAYS = tuple(45.0 * step for step in range(8))
_DINOV2_LIMIT = 10.0
_WARN_BYTES = 2 << 30
_log = logging.getLogger(__name__)


class _Learned:
    bank_: NDArray[np.float32]
    masks_: bool
    index_: NearestNeighborIndex


@DETECTORS.register(
    "vision_anomalydino",
    Metadata(
        summary="Cosine distance to the patches of a few references, or of the batch; for DINOv2.",
        paper="Damm et al., AnomalyDINO, WACV 2025, arXiv 2405.14529",
    ),
)
@dataclass(kw_only=True, eq=False)
class AnomalyDINO(_Learned, TokenDetector):
    """Nearest reference patch under the cosine distance, with nothing trained (2405.14529).

    The paper uses a ``size`` of 448 or 672. The memory holds every patch of every reference; a good
    image's out-of-sample score is that of the memory without its own block of images, their
    rotations included.

    With ``reference="batch"`` there is no memory: the images that are judged together are compared
    with each other, each with all others (section "batched zero-shot"), and the good images given
    to `fit` only set the threshold, by what they say of each other.

    Parameters
    ----------
    reference : str
        ``"goods"``, or ``"batch"``.
    lowest : float
        Of the other images' patches, the share whose distances are averaged, the smallest ones; for
        ``"batch"`` only.
    rotations : str
        ``"agnostic"``: references also in all steps of 45 degrees; ``"informed"``: in the
        ``angles`` at which the part is known to lie; ``"none"``.
    angles : tuple of float
        Degrees, counter-clockwise; for ``"informed"`` only.
    mask : str
        Whether background is left out when an image is judged: ``"always"``, ``"never"``, or
        ``"auto"``: always, if the first reference shows a part in the middle and off the rim.
    mask_threshold : float or None
        Least first principal component of the foreground. None: 10 for DINOv2, as published, and
        half the component's deviation for others, whose scale is another.
    n_neighbors : int
        Nearest patches whose distances are averaged; for ``"goods"`` only, as are rotations.
    index : str
        A name for `create_index`.

    Notes
    -----
    **One reference.** Its rotated views are not further parts. They cannot certify a rate of false
    rejects: they say how the score changes with the angle and nothing of how good parts differ. So
    no threshold is set from them; give `fit` good images of their own as ``calibration`` (the
    option ``--hold-out``), or read the scores alone.

    The memory takes rows x channels x 4 bytes and is never thinned out; with many references
    ``rotations="none"`` makes it eight times smaller. Rotation is about the centre of the pixels,
    so that a quarter turn moves pixels and mixes none; the authors' program is off by half a pixel.

    **A batch** takes the time of comparing every patch with every other. The authors' program
    averages one distance less than ``lowest`` says.
    """

    reference: str = "goods"
    lowest: float = 0.001
    rotations: str = "agnostic"
    angles: tuple[float, ...] = ()
    mask: str = "auto"
    mask_threshold: float | None = None
    n_neighbors: int = 1
    index: str = "auto"

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_choice("reference", self.reference, ("goods", "batch"))
        check_choice("rotations", self.rotations, ("agnostic", "informed", "none"))
        check_choice("mask", self.mask, ("auto", "always", "never"))
        if (self.rotations == "informed") != bool(self.angles):
            raise ParameterError(
                "angles belong to rotations='informed', which needs at least one: "
                f"rotations={self.rotations!r}, angles={self.angles!r}"
            )
        if self.n_neighbors < 1 or not 0 < self.lowest <= 1:
            raise ParameterError(
                "n_neighbors must be at least 1, lowest a share in (0, 1]: "
                f"n_neighbors={self.n_neighbors}, lowest={self.lowest}"
            )
        if self.is_transductive and (self.angles or self.n_neighbors > 1):
            raise ParameterError(
                "the images of a batch are compared as they lie, by the share lowest: leave angles "
                "and n_neighbors out, or give reference='goods'"
            )

    @property
    def is_transductive(self) -> bool:
        """Whether the batch is the reference."""
        return self.reference == "batch"

    @final
    def _fit(self, images: Images) -> None:
        if self.is_transductive:
            self.extractor_ = resolve_extractor(self.extractor)
            self.masks_ = self._decide_masks(self._look(images[0]).tokens)
        else:
            self._remember(images, np.zeros(len(images), np.int64))

    @final
    def _learn(self, images: Images, blocks: NDArray[np.int64]) -> Sequence[Reading]:
        if self.is_transductive:
            return super()._learn(images, blocks)
        upright = self._remember(images, blocks)
        pairs, k = zip(upright, blocks.tolist(), strict=True), self.n_neighbors
        found = [
            Patches(_search(self.index_, seen.tokens, mask, k, block), seen.extent, seen.size)
            for (seen, mask), block in pairs
        ]
        return Readings(self, found)

    def _remember(
        self, images: Images, blocks: NDArray[np.int64]
    ) -> list[tuple[Seen, NDArray[np.bool_]]]:
        """Fill the memory; return each reference as it lies, of length 1, with its mask."""
        self.extractor_ = resolve_extractor(self.extractor)
        ways = self._ways()
        rows: list[NDArray[np.float32]] = []
        upright: list[tuple[Seen, NDArray[np.bool_]]] = []
        for image in images:
            views = self._embed([turned(image, angle) for angle in ways])
            if not upright:
                self.masks_ = self._decide_masks(views[0].tokens)
                _announce(views, len(images))
            upright.append((views[0], self._mask_of(views[0].tokens)))
            rows.append(np.concatenate([unit(seen.tokens) for seen in views]))
        owners = np.repeat(blocks, [len(part) for part in rows])
        starts = np.cumsum([0, *map(len, rows)])
        self.bank_ = np.concatenate(rows)
        self.index_ = create_index(self.index).fit(self.bank_, owners)
        return [  # views of the memory: the tokens are kept once
            (seen._replace(tokens=self._kept(int(start), seen.tokens.shape)), mask)
            for start, (seen, mask) in zip(starts, upright, strict=False)
        ]

    def _kept(self, start: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return self.bank_[start : start + shape[0] * shape[1]].reshape(shape)

    def _ways(self) -> Angles:
        if self.rotations == "informed":
            return tuple(dict.fromkeys((0.0, *self.angles)))
        return _ALL_WAYS if self.rotations == "agnostic" else (0.0,)

    def _distances(self, seen: Seen) -> NDArray[np.float32]:
        rows = unit(seen.tokens).reshape(seen.tokens.shape)
        return _search(self.index_, rows, self._mask_of(seen.tokens), self.n_neighbors)

    @final
    def _mutual(self, batch: Sequence[Seen]) -> list[Patches]:
        rows = [unit(seen.tokens) for seen in batch]
        owners = np.repeat(np.arange(len(batch)), [len(part) for part in rows])
        index = create_index(self.index).fit(np.concatenate(rows), owners)
        found = []
        for own, (seen, part) in enumerate(zip(batch, rows, strict=True)):
            count = max(1, int(self.lowest * (len(owners) - len(part))))
            tokens, mask = part.reshape(seen.tokens.shape), self._mask_of(seen.tokens)
            distances = _search(index, tokens, mask, count, own)
            found.append(Patches(distances, seen.extent, seen.size))
        return found

    def _decide_masks(self, tokens: NDArray[np.float32]) -> bool:
        if self.mask == "auto":
            return lies_inside(foreground(tokens, self._limit()))
        return self.mask == "always"

    def _mask_of(self, tokens: NDArray[np.float32]) -> NDArray[np.bool_]:
        if not self.masks_:
            return np.ones(tokens.shape[:2], np.bool_)
        return foreground(tokens, self._limit())

    def _limit(self) -> float | None:
        if self.mask_threshold is None and self.extractor_.fingerprint.startswith("dinov2_"):
            return _DINOV2_LIMIT
        return self.mask_threshold

    def _state(self) -> dict[str, Any]:
        state = super()._state()
        state.pop("index_", None)
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        super()._restore(state)
        if "bank_" in state:
            self.index_ = create_index(self.index).fit(self.bank_)


def _search(
    index: NearestNeighborIndex,
    tokens: NDArray[np.float32],
    mask: NDArray[np.bool_],
    count: int,
    without: int = NOBODY,
) -> NDArray[np.float32]:
    """Return each patch's distance to the ``count`` nearest of a memory without one of its groups.

    It is 0 where a patch is masked.
    """
    exclude = None if without == NOBODY else np.full(int(mask.sum()), without, np.int64)
    found, _ = index.kneighbors(tokens[mask], count, exclude)
    distances = np.zeros(mask.shape, np.float32)
    # For vectors of length 1, half the squared distance is 1 - cos.
    distances[mask] = (found**2 / 2).mean(axis=1)
    return distances


def _announce(views: Sequence[Seen], count: int) -> None:
    size = count * sum(seen.tokens.nbytes for seen in views)
    if size > _WARN_BYTES:
        _log.warning(
            "the memory of %d references in %d orientations takes about %.1f GB; "
            "rotations='none' or a smaller size take less",
            count,
            len(views),
            size / 2**30,
        )

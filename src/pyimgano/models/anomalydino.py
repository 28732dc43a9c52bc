"""AnomalyDINO: cosine distance of each patch to those of a few references, turned all ways."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, final, overload

import numpy as np

from pyimgano.embedding_detector import EmbeddingDetector
from pyimgano.errors import ParameterError
from pyimgano.estimator import DETECTORS
from pyimgano.features.base import resolve_extractor
from pyimgano.judging import Reading
from pyimgano.maps.aggregate import Maximum, Mean, TopMean
from pyimgano.maps.upsample import upsample
from pyimgano.models._foreground import foreground, lies_inside
from pyimgano.models.knn_index import NearestNeighborIndex, create_index
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pyimgano.views.intake import Images

    Aggregation = Callable[[NDArray[np.float32]], NDArray[np.float64]]
    Angles = tuple[float, ...]

__all__ = ["AnomalyDINO"]

NOBODY = -1
_ALL_WAYS = tuple(45.0 * step for step in range(8))
_DINOV2_LIMIT = 10.0
_CHOICES = {
    "rotations": ("agnostic", "informed", "none"),
    "mask": ("auto", "always", "never"),
    "aggregation": ("topk_mean", "max", "mean"),
}
_WARN_BYTES = 2 << 30
_log = logging.getLogger(__name__)


class _Seen(NamedTuple):
    """Tokens of one image, what they cover in its own pixels, and its size."""

    tokens: NDArray[np.float32]
    extent: tuple[float, float, float, float]
    size: tuple[int, int]


class _Patches(NamedTuple):
    """Patch distances (h, w) of one image, and where they lie."""

    distances: NDArray[np.float32]
    extent: tuple[float, float, float, float]
    size: tuple[int, int]


class _Learned:
    bank_: NDArray[np.float32]
    masks_: bool
    index_: NearestNeighborIndex


@DETECTORS.register(
    "vision_anomalydino",
    Metadata(
        summary="Cosine distance to the patches of a few references; made for DINOv2.",
        paper="Damm et al., AnomalyDINO, WACV 2025, arXiv 2405.14529",
    ),
)
@dataclass(kw_only=True, eq=False)
class AnomalyDINO(_Learned, EmbeddingDetector):
    """Nearest reference patch under the cosine distance, with nothing trained (2405.14529).

    An image keeps its aspect: the shorter side becomes ``size``, and what does not fill a patch
    at the right and bottom is left out. The memory holds every patch of every reference; a good
    image's out-of-sample score is that of the memory without its own block of images, their
    rotations included.

    Parameters
    ----------
    size : int
        Shorter side of the model's input in pixels; the paper also uses 672.
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
        Nearest patches whose distances are averaged.
    aggregation : str
        How patch distances become the score: ``"topk_mean"``, ``"max"`` or ``"mean"``.
    top : float
        Share of the patches that ``"topk_mean"`` averages.
    sigma : float
        Gaussian smoothing of the map, in pixels of the original image. The score is not smoothed.
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
    """

    size: int = 448
    rotations: str = "agnostic"
    angles: tuple[float, ...] = ()
    mask: str = "auto"
    mask_threshold: float | None = None
    n_neighbors: int = 1
    aggregation: str = "topk_mean"
    top: float = 0.01
    sigma: float = 4.0
    index: str = "auto"

    def _check_parameters(self) -> None:
        super()._check_parameters()
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                one = ", ".join(map(repr, allowed))
                raise ParameterError(f"{name} must be one of {one}, got {getattr(self, name)!r}")
        if (self.rotations == "informed") != bool(self.angles):
            raise ParameterError(
                "angles belong to rotations='informed', which needs at least one: "
                f"rotations={self.rotations!r}, angles={self.angles!r}"
            )
        if self.size < 16 or self.n_neighbors < 1 or not self.sigma >= 0:
            raise ParameterError(
                "size must be at least 16, n_neighbors at least 1 and sigma not negative: "
                f"size={self.size}, n_neighbors={self.n_neighbors}, sigma={self.sigma}"
            )
        TopMean(self.top)

    @final
    def _fit(self, images: Images) -> None:
        self._remember(images, np.zeros(len(images), np.int64))

    @final
    def _learn(self, images: Images, blocks: NDArray[np.int64]) -> Sequence[Reading]:
        upright = self._remember(images, blocks)
        pairs = zip(upright, blocks.tolist(), strict=True)
        found = [self._search(seen, mask, block) for (seen, mask), block in pairs]
        return _Readings(self, found)

    @final
    def _infer(self, images: Sequence[NDArray[np.uint8]]) -> list[Reading]:
        return list(_Readings(self, [self._patches(seen) for seen in self._embed(images)]))

    @final
    def _read(self, images: Images) -> Sequence[Reading]:
        return _Readings(self, [self._patches(self._embed([image])[0]) for image in images])

    def _remember(
        self, images: Images, blocks: NDArray[np.int64]
    ) -> list[tuple[_Seen, NDArray[np.bool_]]]:
        """Fill the memory; return each reference as it lies, of length 1, with its mask."""
        self.extractor_ = resolve_extractor(self.extractor)
        ways = self._ways()
        rows: list[NDArray[np.float32]] = []
        upright: list[tuple[_Seen, NDArray[np.bool_]]] = []
        for image in images:
            views = self._embed([_rotated(image, angle) for angle in ways])
            if not upright:
                self.masks_ = self._decide_masks(views[0].tokens)
                _announce(views, len(images))
            upright.append((views[0], self._mask_of(views[0].tokens)))
            rows.append(np.concatenate([_unit(seen.tokens) for seen in views]))
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

    def _embed(self, images: Sequence[NDArray[np.uint8]]) -> list[_Seen]:
        inputs = [_shortened(image, self.size) for image in images]
        found = []
        grids = self.extractor_.embed(inputs)
        for image, given, grid in zip(images, inputs, grids, strict=True):
            height, width = image.shape[:2]
            down, across = height / given.shape[0], width / given.shape[1]
            top, left, bottom, right = grid.extent
            extent = (top * down, left * across, bottom * down, right * across)
            found.append(_Seen(grid.values, extent, (height, width)))
        return found

    def _patches(self, seen: _Seen) -> _Patches:
        mask = self._mask_of(seen.tokens)
        unit = _unit(seen.tokens).reshape(seen.tokens.shape)
        return self._search(seen._replace(tokens=unit), mask, NOBODY)

    def _search(self, seen: _Seen, mask: NDArray[np.bool_], without: int) -> _Patches:
        """Return each patch's distance to the memory without one block; 0 where it is masked."""
        exclude = None if without == NOBODY else np.full(int(mask.sum()), without, np.int64)
        found, _ = self.index_.kneighbors(seen.tokens[mask], self.n_neighbors, exclude)
        distances = np.zeros(mask.shape, np.float32)
        # For vectors of length 1, half the squared distance is 1 - cos.
        distances[mask] = (found**2 / 2).mean(axis=1)
        return _Patches(distances, seen.extent, seen.size)

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

    def _reading(self, patches: _Patches) -> Reading:
        how: dict[str, Aggregation] = {"max": Maximum(), "mean": Mean()}
        score = how.get(self.aggregation, TopMean(self.top))
        drawn = upsample(
            patches.distances, patches.size, extent=patches.extent, sigma=float(self.sigma)
        )
        return Reading(float(score(patches.distances)), drawn)

    def _state(self) -> dict[str, Any]:
        state = super()._state()
        del state["index_"]
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        super()._restore(state)
        self.index_ = create_index(self.index).fit(self.bank_)


class _Readings(Sequence[Reading]):
    """Patch distances as readings; a map is drawn when it is asked for."""

    def __init__(self, detector: AnomalyDINO, patches: Sequence[_Patches]) -> None:
        self._detector, self._patches = detector, patches

    def __len__(self) -> int:
        return len(self._patches)

    @overload
    def __getitem__(self, index: int) -> Reading: ...
    @overload
    def __getitem__(self, index: slice) -> list[Reading]: ...
    def __getitem__(self, index: int | slice) -> Reading | list[Reading]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._detector._reading(self._patches[index])


def _shortened(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Bring the shorter side to ``size``: bicubic, with antialiasing, the aspect kept."""
    from PIL import Image

    height, width = image.shape[:2]
    short = min(height, width)
    if short == size:
        return image
    target = (int(size * width / short), int(size * height / short))
    return np.asarray(Image.fromarray(image).resize(target, Image.Resampling.BICUBIC))


def _rotated(image: NDArray[np.uint8], angle: float) -> NDArray[np.uint8]:
    """Turn an image counter-clockwise about the centre of its pixels; borders are reflected."""
    import cv2

    if not angle % 360:
        return image
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    turned = cv2.warpAffine(
        image, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(turned, np.uint8)


def _unit(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return tokens (h, w, d) as rows (h * w, d) of length 1."""
    rows = tokens.reshape(-1, tokens.shape[2])
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, np.float32(1e-12)))


def _announce(views: Sequence[_Seen], count: int) -> None:
    size = count * sum(seen.tokens.nbytes for seen in views)
    if size > _WARN_BYTES:
        _log.warning(
            "the memory of %d references in %d orientations takes about %.1f GB; "
            "rotations='none' or a smaller size take less",
            count,
            len(views),
            size / 2**30,
        )

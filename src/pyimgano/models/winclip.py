"""WinCLIP: windows of an image against words for good and bad, and against a few good images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast, final

import numpy as np

from pyimgano.embedding_detector import EmbeddingDetector
from pyimgano.errors import ParameterError
from pyimgano.estimator import DETECTORS
from pyimgano.features.base import resolve_extractor
from pyimgano.features.cache import CachedExtractor
from pyimgano.features.clip_words import embed_words, read_words
from pyimgano.features.text_image import ImageEmbedder, TextEmbedder, windows_of
from pyimgano.judging import Reading
from pyimgano.maps.upsample import upsample
from pyimgano.models._token_detector import Patches, Readings, unit
from pyimgano.models.knn_index import NearestNeighborIndex, create_index
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pyimgano.views.intake import Images

    Memory = tuple[NearestNeighborIndex, ...]

__all__ = ["WinCLIP"]


class _Learned:
    words_: NDArray[np.float32]
    banks_: tuple[NDArray[np.float32], ...]
    memory_: Memory


class _Seen(NamedTuple):
    """What is kept of an image: its size, what the words say of it, and its vectors to compare.

    Vectors of length 1, (h, w, d): the patches first, then the windows of each scale.
    """

    size: tuple[int, int]
    told: float
    map: NDArray[np.float32]
    vectors: tuple[NDArray[np.float32], ...]
    extent: tuple[float, float, float, float]


@DETECTORS.register(
    "vision_winclip",
    Metadata(
        summary="Windows of CLIP against words for good and bad, and against a few good images.",
        paper="Jeong et al., WinCLIP, CVPR 2023, arXiv 2303.14814",
        extra="clip",
        uses=("open_clip",),  # not with clip_onnx, nor with an object of one's own
        details=(("extractor", "open_clip, clip_onnx, or an object that embeds images and texts"),),
    ),
)
@dataclass(kw_only=True, eq=False)
class WinCLIP(_Learned, EmbeddingDetector):
    """CLIP asked of an image and of its windows whether they look damaged (2303.14814).

    Words: the share of "damaged" against "flawless" by the cosine to the two mean texts; windows
    hand it to the patches that they cover as a harmonic mean, and so do the scales, the image being
    the coarsest one. Good images (WinCLIP+): half of 1 - cos to the nearest patch or window of the
    same scale of a few good images, the mean over the scales. The score is the image's own share,
    or, with good images, the mean of it and of the largest distance. The map is that of the words,
    or the mean of both maps.

    A good image's out-of-sample score is that of a memory out of the other blocks of images.

    Parameters
    ----------
    extractor : str or ImageEmbedder
        ``"open_clip:MODEL:FILE"``, ``"clip_onnx:FILE"`` with ``words``, or an object of your own;
        ``"auto"`` is open_clip's.
    part : str
        What it is that is looked at, as people call it: ``"screw"``.
    words : str
        A file with the two mean texts, good and bad, for an extractor without texts: ``.npy`` of
        shape (2, d), or ``.npz`` with ``normal`` and ``anomalous``; see `embed_words`.
    shots : int or None
        Good images to remember, drawn evenly in their order; None takes all. 0: words alone, and
        the good images set the threshold only.
    scales : tuple of int
        Sides of the windows in patches.
    cells : int
        Cells along the shorter side out of which windows are cut, where the extractor cannot mask
        its tokens.
    temperature : float
        What cosines are divided by before they become shares.
    index : str
        A name for `create_index`.

    Notes
    -----
    **Windows.** In the paper the image encoder sees the tokens of a window alone, at their places;
    open_clip does so here. Of another encoder nothing is known but images in, vectors out: windows
    are cut out of the image and embedded each, which shows it more detail, costs one run a window
    (85 with 8 cells), and is another method by its figures.

    **Temperature, and the mean of both maps,** are those of anomalib's program. The paper's figures
    belong to ViT-B-16-plus-240 with weights of LAION-400M, in windows of tokens.
    """

    part: str = "object"
    words: str = ""
    shots: int | None = None
    scales: tuple[int, ...] = (2, 3)
    cells: int = 8
    temperature: float = 0.07
    index: str = "auto"

    def _check_parameters(self) -> None:
        super()._check_parameters()
        scales = set(self.scales)
        if not scales or len(scales) < len(self.scales) or min(scales) < 1:
            raise ParameterError(f"scales are different sides of at least 1, got {self.scales!r}")
        if self.cells < max(scales) or not self.temperature > 0 or (self.shots or 0) < 0:
            raise ParameterError(
                "cells must hold a window of the largest scale, temperature exceed 0, shots not be "
                f"negative: cells={self.cells}, temperature={self.temperature}, shots={self.shots}"
            )
        if not self.part.strip():
            raise ParameterError("part names what is looked at: 'screw'; got nothing")
        found = self._resolved()  # what is missing is told before any image is read
        if self.words:
            read_words(Path(self.words).expanduser())
        elif not isinstance(found, TextEmbedder):
            raise ParameterError(
                f"the extractor {found.fingerprint!r} embeds no texts: give words=FILE, a file "
                "with the two texts (see pyimgano.features.clip_words.embed_words)"
            )

    def _resolved(self) -> ImageEmbedder:
        given = "open_clip" if self.extractor == "auto" else self.extractor
        found = resolve_extractor(given)
        if isinstance(found, CachedExtractor):  # it keeps grids, not windows
            found = found.extractor
        if not isinstance(found, ImageEmbedder):
            raise ParameterError(
                "vision_winclip compares images with texts: give the extractor open_clip, "
                f"clip_onnx, or an object with embed_images; {given!r} has none"
            )
        return found

    @final
    def _fit(self, images: Images) -> None:
        self._prepare()
        self._remember([self._see(images[i]) for i in _evenly(len(images), self.shots)])

    @final
    def _learn(self, images: Images, blocks: NDArray[np.int64]) -> Sequence[Reading]:
        self._prepare()
        looks = [self._see(image) for image in images]
        found: dict[int, Patches] = {}
        for block in np.unique(blocks):
            others = [looks[i] for i in np.flatnonzero(blocks != block)]
            memory = self._memory(_banks([others[i] for i in _evenly(len(others), self.shots)]))
            for i in np.flatnonzero(blocks == block).tolist():
                found[i] = _judged(looks[i], memory)
        self._remember([looks[i] for i in _evenly(len(looks), self.shots)])
        return Readings(self, [found[i] for i in range(len(looks))])

    @final
    def _infer(self, images: Sequence[NDArray[np.uint8]]) -> list[Reading]:
        return list(self._readings(images))

    @final
    def _read(self, images: Images) -> Sequence[Reading]:
        return self._readings(images)

    def _readings(self, images: Sequence[NDArray[np.uint8]]) -> Readings:
        return Readings(self, [_judged(self._see(image), self.memory_) for image in images])

    def _prepare(self) -> None:
        self.extractor_ = found = self._resolved()
        if self.words:
            self.words_ = read_words(Path(self.words).expanduser())
        else:
            self.words_ = embed_words(cast(TextEmbedder, found), self.part)

    def _see(self, image: NDArray[np.uint8]) -> _Seen:
        found: Any = self.extractor_
        told = self._shares(found.embed_images([image])[None])
        windows = [windows_of(found, image, side, self.cells) for side in self.scales]
        maps = [
            _spread(self._shares(one), side) for one, side in zip(windows, self.scales, strict=True)
        ]
        patches = [] if self.shots == 0 else found.embed([image])
        extent = patches[0].extent if patches else (0.0, 0.0, 1.0, 1.0)
        compared = [patches[0].values, *windows] if patches else []
        vectors = tuple(unit(one).reshape(one.shape) for one in compared)
        size = image.shape[0], image.shape[1]
        whole = np.full_like(maps[0], told[0, 0])
        return _Seen(size, float(told[0, 0]), _harmonic([whole, *maps]), vectors, extent)

    def _shares(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how much of each vector (h, w, d) is "bad" rather than "good"."""
        if vectors.shape[2] != self.words_.shape[1]:
            raise ParameterError(
                f"images have {vectors.shape[2]} numbers, the two texts {self.words_.shape[1]}: "
                "both must come from one model"
            )
        rows = unit(vectors) @ self.words_.T
        gap = (rows[:, 1] - rows[:, 0]).astype(np.float64) / self.temperature
        share = (1 + np.tanh(gap / 2)) / 2  # the softmax of two, which no gap makes overflow
        return share.astype(np.float32).reshape(vectors.shape[:2])

    def _remember(self, looks: Sequence[_Seen]) -> None:
        self.banks_ = _banks(looks)
        self.memory_ = self._memory(self.banks_)

    def _memory(self, banks: tuple[NDArray[np.float32], ...]) -> Memory:
        return tuple(create_index(self.index).fit(rows) for rows in banks)

    def _reading(self, patches: Patches) -> Reading:
        drawn = upsample(patches.distances, patches.size, extent=patches.extent)
        return Reading(patches.score or 0.0, drawn)

    def _state(self) -> dict[str, Any]:
        state = super()._state()
        del state["memory_"]
        banks = state.pop("banks_")
        return {**state, **{f"bank_{number}_": rows for number, rows in enumerate(banks)}}

    def _restore(self, state: dict[str, Any]) -> None:
        count = 0 if self.shots == 0 else 1 + len(self.scales)
        self.banks_ = tuple(state.pop(f"bank_{number}_") for number in range(count))
        self.memory_ = self._memory(self.banks_)
        super()._restore(state)


def _evenly(count: int, shots: int | None) -> list[int]:
    """Return the places of so many good images, first and last among them."""
    kept = count if shots is None else min(shots, count)
    return [round(place) for place in np.linspace(0, count - 1, kept).tolist()]


def _banks(looks: Sequence[_Seen]) -> tuple[NDArray[np.float32], ...]:
    """Return the vectors of images, one array (rows, d) a scale."""
    scales = zip(*(seen.vectors for seen in looks), strict=True)
    return tuple(np.concatenate([one.reshape(-1, one.shape[2]) for one in s]) for s in scales)


def _judged(seen: _Seen, memory: Memory) -> Patches:
    height, width = seen.size
    extent = (0.0, 0.0, float(height), float(width))
    if not memory:
        return Patches(seen.map, extent, seen.size, seen.told)
    near = [_nearest(one, index) for one, index in zip(seen.vectors, memory, strict=True)]
    down, across = seen.map.shape[0] / height, seen.map.shape[1] / width
    top, left, bottom, right = seen.extent
    place = (top * down, left * across, bottom * down, right * across)
    maps = [upsample(near[0], seen.map.shape, extent=place)]
    maps += [_spread(one, seen.map.shape[0] - one.shape[0] + 1) for one in near[1:]]
    vision: NDArray[np.float32] = np.mean(np.stack(maps), axis=0, dtype=np.float32)
    score = (seen.told + float(vision.max())) / 2
    both: NDArray[np.float32] = (seen.map + vision) / np.float32(2)
    return Patches(both, extent, seen.size, score)


def _nearest(vectors: NDArray[np.float32], index: NearestNeighborIndex) -> NDArray[np.float32]:
    """Return half of 1 - cos to the nearest row, for each vector (h, w, d) of length 1."""
    found, _ = index.kneighbors(vectors.reshape(-1, vectors.shape[2]))
    return (found**2 / 4).astype(np.float32).reshape(vectors.shape[:2])


def _spread(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return for each cell the harmonic mean of the windows (rows, columns) that cover it."""
    rows, columns = values.shape
    shape = (rows + side - 1, columns + side - 1)
    inverse, count = np.zeros(shape), np.zeros(shape)
    with np.errstate(divide="ignore"):  # a window of 0 makes its cells 0
        each = 1 / values.astype(np.float64)
    for y, x in np.ndindex(side, side):
        inverse[y : y + rows, x : x + columns] += each
        count[y : y + rows, x : x + columns] += 1
    return (count / inverse).astype(np.float32)


def _harmonic(maps: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    with np.errstate(divide="ignore"):
        inverse = sum(1 / one.astype(np.float64) for one in maps)
    return np.asarray(len(maps) / inverse, np.float32)

"""Detectors on patch tokens: the aspect is kept, each image has a grid of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, final

import numpy as np

from pyimgano.embedding_detector import EmbeddingDetector
from pyimgano.errors import ImageError, ParameterError
from pyimgano.judging import Reading, require_company
from pyimgano.lazy import Lazy
from pyimgano.maps.aggregate import Maximum, Mean, TopMean
from pyimgano.maps.upsample import upsample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from pyimgano.views.intake import Images

    Aggregation = Callable[[NDArray[np.float32]], NDArray[np.float64]]

__all__ = ["Patches", "Readings", "Seen", "TokenDetector", "check_choice", "shortened", "turned"]
__all__ += ["unit"]


class Seen(NamedTuple):
    """Tokens (h, w, d) of one image, what they cover in its own pixels, its size, and layers."""

    tokens: NDArray[np.float32]
    extent: tuple[float, float, float, float]
    size: tuple[int, int]
    layers: tuple[tuple[int, int], ...] = ()


class Patches(NamedTuple):
    """Patch distances (h, w) of one image, where they lie, and its score if it has its own."""

    distances: NDArray[np.float32]
    extent: tuple[float, float, float, float]
    size: tuple[int, int]
    score: float | None = None


@dataclass(kw_only=True, eq=False)
class TokenDetector(EmbeddingDetector):
    """A detector on the tokens of each image, whose shorter side becomes ``size``.

    The aspect is kept, and what does not fill a patch at the right and bottom is left out.

    Parameters
    ----------
    size : int
        Shorter side of the model's input in pixels.
    aggregation : str
        How patch distances become the score: ``"topk_mean"``, ``"max"`` or ``"mean"``.
    top : float
        Share of the patches that ``"topk_mean"`` averages.
    sigma : float
        Gaussian smoothing of the map, in pixels of the original image. The score is not smoothed.
    """

    size: int = 448
    aggregation: str = "topk_mean"
    top: float = 0.01
    sigma: float = 4.0

    def _distances(self, seen: Seen) -> NDArray[np.float32]:
        """Return how far each token (h, w) of a new image lies from what was learned."""
        raise NotImplementedError

    def _mutual(self, batch: Sequence[Seen]) -> list[Patches]:
        """Return how far the tokens of each image lie from those of the others; if transductive."""
        raise NotImplementedError

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_choice("aggregation", self.aggregation, ("topk_mean", "max", "mean"))
        if self.size < 16 or not self.sigma >= 0:
            raise ParameterError(
                f"size must be at least 16 and sigma not negative: size={self.size}, "
                f"sigma={self.sigma}"
            )
        TopMean(self.top)

    @final
    def _infer(self, images: Sequence[NDArray[np.uint8]]) -> list[Reading]:
        seen = self._embed(images)
        if self.is_transductive:
            return list(self._read_together(seen))
        return list(Readings(self, [self._patches(one) for one in seen]))

    @final
    def _read(self, images: Images) -> Sequence[Reading]:
        seen = map(self._look, images)
        if self.is_transductive:
            return self._read_together(list(seen))
        return Readings(self, [self._patches(one) for one in seen])

    @final
    def _look(self, image: NDArray[np.uint8]) -> Seen:
        seen = self._embed([image])[0]
        if not np.isfinite(seen.tokens).all():  # told of this image, not of all it is compared with
            raise ImageError("the features of the image are not finite")
        return seen

    @final
    def _read_together(self, looks: Sequence[Seen]) -> Sequence[Reading]:
        require_company(looks)
        return Readings(self, self._mutual(looks))

    def _patches(self, seen: Seen) -> Patches:
        return Patches(self._distances(seen), seen.extent, seen.size)

    def _embed(self, images: Sequence[NDArray[np.uint8]]) -> list[Seen]:
        inputs = [shortened(image, self.size) for image in images]
        found = []
        grids = self.extractor_.embed(inputs)
        for image, given, grid in zip(images, inputs, grids, strict=True):
            height, width = image.shape[:2]
            down, across = height / given.shape[0], width / given.shape[1]
            top, left, bottom, right = grid.extent
            extent = (top * down, left * across, bottom * down, right * across)
            found.append(Seen(grid.values, extent, (height, width), grid.layers))
        return found

    def _reading(self, patches: Patches) -> Reading:
        how: dict[str, Aggregation] = {"max": Maximum(), "mean": Mean()}
        score = how.get(self.aggregation, TopMean(self.top))
        drawn = upsample(
            patches.distances, patches.size, extent=patches.extent, sigma=float(self.sigma)
        )
        own = patches.score
        return Reading(float(score(patches.distances)) if own is None else own, drawn)


class Draws(Protocol):
    """What makes a reading of patch distances."""

    def _reading(self, patches: Patches) -> Reading: ...


class Readings(Lazy[Reading]):
    """Patch distances as readings; a map is drawn when it is asked for."""

    def __init__(self, detector: Draws, patches: Sequence[Patches]) -> None:
        self._detector, self._patches = detector, patches

    def __len__(self) -> int:
        return len(self._patches)

    def _item(self, index: int) -> Reading:
        return self._detector._reading(self._patches[index])


def check_choice(name: str, given: str, allowed: Sequence[str]) -> None:
    """Raise `ParameterError` unless a parameter is one of the words allowed."""
    if given not in allowed:
        one = ", ".join(map(repr, allowed))
        raise ParameterError(f"{name} must be one of {one}, got {given!r}")


def shortened(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Bring the shorter side to ``size``: bicubic, with antialiasing, the aspect kept."""
    from PIL import Image

    height, width = image.shape[:2]
    short = min(height, width)
    if short == size:
        return image
    target = (int(size * width / short), int(size * height / short))
    return np.asarray(Image.fromarray(image).resize(target, Image.Resampling.BICUBIC))


def turned(image: NDArray[np.uint8], angle: float) -> NDArray[np.uint8]:
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


def unit(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return tokens (h, w, d) as rows (h * w, d) of length 1."""
    rows = tokens.reshape(-1, tokens.shape[2])
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, np.float32(1e-12)))

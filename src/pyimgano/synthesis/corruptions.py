"""What goes wrong with images on a line: light, focus, noise, position, compression; graded.

A corruption of an image is a function of seed and pixels alone. Its direction is drawn once for
all severities, so that a higher severity is the same disturbance, only stronger. Lengths are shares
of the shorter side: an image of twice the resolution is disturbed as much.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

import numpy as np

from pyimgano.errors import InputError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Turn = Callable[[NDArray[np.uint8], float, np.random.Generator], NDArray[np.uint8]]

__all__ = ["CORRUPTIONS", "SEVERITIES", "Corruption", "choose_corruptions", "corrupt"]

SEVERITIES = (1, 2, 3, 4, 5)
_SIDE = 256.0  # blurs are given in pixels of an image whose shorter side has as many


@dataclass(frozen=True, slots=True)
class Corruption:
    """One kind of disturbance: how strong it is at severity 1 to 5, in a unit told in words.

    ``apply`` makes of image (H, W, 3) uint8, amount and source of randomness the disturbed image;
    ``moves`` tells whether the parts move in it, and their masks with them.
    """

    amounts: tuple[float, float, float, float, float]
    unit: str
    apply: Turn
    moves: bool = False


def corrupt(
    image: NDArray[np.uint8],
    name: str,
    severity: int,
    *,
    seed: int = 0,
    mask: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Disturb an image, and move its mask along if the disturbance moves what is seen.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB, else an `InputError`; left as it is.
    name, severity
        One of `CORRUPTIONS`, from 1 (hardly seen) to 5 (gross), else a `ParameterError`; 0 returns
        image and mask as they are.
    seed : int
        With the pixels of the image it decides what is drawn: direction, angle, noise.
    mask : ndarray of bool, shape (H, W), optional
        Ground truth of the image; the same warp, border included, moves the defective pixels.

    Examples
    --------
    >>> grey = np.full((4, 4, 3), 100, np.uint8)
    >>> brighter, _ = corrupt(grey, "brightness", 3)
    >>> int(brighter[0, 0, 0]) in {80, 125}  # a quarter more light, or as much less
    True
    """
    choose_corruptions([name], [severity] if severity else [])
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"an image must be RGB uint8 (H, W, 3), got {image.dtype} {image.shape}")
    if severity == 0:
        return image, mask
    kind = CORRUPTIONS[name]
    amount = kind.amounts[severity - 1]
    digest = hashlib.sha256(np.ascontiguousarray(image).data).digest()
    drawn = (seed, int.from_bytes(name.encode()), int.from_bytes(digest[:8]))
    disturbed = kind.apply(image, amount, np.random.default_rng(drawn))
    if mask is None or not kind.moves:
        return disturbed, mask
    # As an image of 0 and 255 the mask goes through the same warp; half of a pixel decides.
    painted = np.repeat(mask[..., None].astype(np.uint8) * np.uint8(255), 3, axis=2)
    return disturbed, kind.apply(painted, amount, np.random.default_rng(drawn))[..., 0] > 127


def choose_corruptions(names: Iterable[str] | str, severities: Iterable[int]) -> tuple[str, ...]:
    """Return the corruptions that are asked for, in the order of the table; ``"all"`` means all.

    An unknown name or severity is a `ParameterError`.
    """
    asked = {names} if isinstance(names, str) else set(names)
    unknown = sorted(asked - {"all", *CORRUPTIONS})
    if unknown:
        known = ", ".join(CORRUPTIONS)
        raise ParameterError(f"no corruption {unknown[0]!r}; known are: all, {known}")
    wrong = [severity for severity in severities if severity not in SEVERITIES]
    if wrong:
        raise ParameterError(f"a severity is a whole number from 1 to 5, got {wrong[0]!r}")
    return tuple(name for name in CORRUPTIONS if "all" in asked or name in asked)


def _rounded(values: NDArray[np.float32]) -> Pixels:
    return np.asarray(np.clip(values + 0.5, 0, 255), np.uint8)


def _sign(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0


def _brightness(image: Pixels, amount: float, rng: np.random.Generator) -> Pixels:
    """More light or less by one factor, as an exposure does it; what is too bright saturates."""
    return _rounded(image.astype(np.float32) * np.float32((1 + amount) ** _sign(rng)))


def _contrast(image: Pixels, amount: float, rng: np.random.Generator) -> Pixels:  # noqa: ARG001
    """Less contrast around the mean of each channel, as haze does it."""
    values = image.astype(np.float32)
    mean = values.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
    return _rounded(mean + (values - mean) * np.float32(1 - amount))


def _defocus(image: Pixels, amount: float, rng: np.random.Generator) -> Pixels:  # noqa: ARG001
    """Blur with an even disc, the picture of a point out of focus."""
    grid = np.linspace(-1, 1, 33)
    down, across = (axis.ravel() for axis in np.meshgrid(grid, grid))
    inside = np.hypot(down, across) <= 1
    return _spread(image, amount * down[inside], amount * across[inside])


def _motion(image: Pixels, amount: float, rng: np.random.Generator) -> Pixels:
    """Blur along a line at an angle that is drawn."""
    angle = rng.uniform(0, math.pi)
    way = np.linspace(-amount / 2, amount / 2, 129)
    return _spread(image, way * math.sin(angle), way * math.cos(angle))


def _spread(image: Pixels, down: NDArray[np.float64], across: NDArray[np.float64]) -> Pixels:
    """Spread each pixel evenly over points, given at a side of 256; fractions are shared out."""
    import cv2

    unit = min(image.shape[:2]) / _SIDE
    points = np.stack([down, across]) * unit
    reach = math.ceil(np.abs(points).max()) + 1
    first = np.floor(points).astype(int)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for row in (0, 1):
        for column in (0, 1):
            cell = first + np.array([[row], [column]])
            np.add.at(kernel, tuple(cell + reach), np.prod(1 - np.abs(points - cell), axis=0))
    even = kernel / kernel.sum()
    blurred = cv2.filter2D(image, cv2.CV_32F, even, borderType=cv2.BORDER_REFLECT_101)
    return _rounded(cast("NDArray[np.float32]", blurred))


def _noise(image: Pixels, amount: float, rng: np.random.Generator) -> Pixels:
    """Gaussian noise of the sensor, each channel by itself."""
    return _rounded(image + rng.standard_normal(image.shape, np.float32) * np.float32(amount))


def _shift(image: Pixels, amount: float, rng: np.random.Generator) -> Pixels:
    """Move by a share of the shorter side in a direction that is drawn."""
    angle, length = rng.uniform(0, 2 * math.pi), amount * min(image.shape[:2])
    return _warped(image, 0.0, (length * math.cos(angle), length * math.sin(angle)))


def _rotation(image: Pixels, amount: float, rng: np.random.Generator) -> Pixels:
    """Turn around the centre, to the left or to the right."""
    return _warped(image, amount * _sign(rng), (0.0, 0.0))


def _warped(image: Pixels, degrees: float, offset: tuple[float, float]) -> Pixels:
    """Turn, then move; beyond the border the image is reflected, as the background goes on."""
    import cv2

    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    matrix[:, 2] += offset
    border = cv2.BORDER_REFLECT_101
    return cast(
        "Pixels", cv2.warpAffine(image, matrix, (width, height), None, cv2.INTER_LINEAR, border)
    )


def _jpeg(image: Pixels, amount: float, rng: np.random.Generator) -> Pixels:  # noqa: ARG001
    """Compress and decode again, with colours at half the resolution as cameras do it."""
    import simplejpeg

    data = simplejpeg.encode_jpeg(
        np.ascontiguousarray(image), quality=int(amount), colorsubsampling="420"
    )
    return cast("Pixels", simplejpeg.decode_jpeg(data))


CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        "brightness": Corruption((0.05, 0.12, 0.25, 0.4, 0.6), "share of the light", _brightness),
        "contrast": Corruption((0.05, 0.12, 0.25, 0.4, 0.6), "share of the contrast", _contrast),
        "defocus": Corruption((0.6, 1.0, 1.6, 2.5, 4.0), "radius in pixels at 256", _defocus),
        "motion": Corruption((2.0, 4.0, 7.0, 11.0, 16.0), "length in pixels at 256", _motion),
        "noise": Corruption((2.0, 5.0, 10.0, 16.0, 25.0), "grey levels", _noise),
        "shift": Corruption((0.005, 0.01, 0.02, 0.04, 0.08), "share of the side", _shift, True),
        "rotation": Corruption((0.5, 1.0, 2.0, 5.0, 10.0), "degrees", _rotation, True),
        "jpeg": Corruption((90, 75, 50, 30, 15), "quality", _jpeg),
    }
)
"""All corruptions by name; one more is a function and a line here."""

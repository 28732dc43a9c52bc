"""What a feature extractor is: images in, one grid of patch vectors an image out."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np

from pyimgano.errors import InputError, MissingExtra, ParameterError
from pyimgano.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "BEST_FIRST",
    "EXTRACTORS",
    "FeatureExtractor",
    "NamedChannels",
    "PatchFeatures",
    "resolve_extractor",
]


@dataclass(frozen=True, slots=True, eq=False)
class PatchFeatures:
    """The patch vectors of one image.

    Parameters
    ----------
    values : ndarray of float32, shape (h, w, d)
        One vector a grid cell, channels last.
    extent : (float, float, float, float)
        Top, left, bottom, right of the rectangle that the grid tiles evenly, in pixels of the
        image that was embedded. ``(0, 0, H, W)`` unless the extractor crops.
    layers : tuple of (int, int)
        Channels of each layer that was concatenated, and the side of its own cells in cells of
        this grid, finest first; empty if all channels belong to this grid.
    """

    values: NDArray[np.float32]
    extent: tuple[float, float, float, float]
    layers: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or self.values.dtype != np.float32:
            raise InputError(
                "patch features must be float32 of shape (h, w, d), got "
                f"{self.values.dtype} {self.values.shape}"
            )
        top, left, bottom, right = self.extent
        if not (top < bottom and left < right):
            raise InputError(f"extent must be (top, left, bottom, right), got {self.extent}")
        if self.layers and sum(count for count, _ in self.layers) != self.values.shape[2]:
            raise InputError(f"layers {self.layers} do not sum to {self.values.shape[2]} channels")


@runtime_checkable
class FeatureExtractor(Protocol):
    """The protocol by which extractors plug in.

    Ours are frozen dataclasses whose fields are JSON scalars or tuples, so that a model file can
    name them; any object with these two members works.
    """

    @property
    def fingerprint(self) -> str:
        """A short text that changes when the weights or the arithmetic change."""
        ...

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchFeatures]:
        """Embed RGB uint8 images (H, W, 3); sizes may differ; one result an image, in order."""
        ...


@runtime_checkable
class NamedChannels(Protocol):
    """What an extractor has, too, if it can say what its channels mean."""

    @property
    def families(self) -> tuple[str, ...]:
        """The family of each channel, in order: ``"colour"``, ``"edges"``."""
        ...


@runtime_checkable
class Precise(Protocol):
    """What an extractor has, too, if it can compute with less precision than fp32.

    A frozen dataclass of which this is a field.
    """

    @property
    def precision(self) -> str:
        """``"fp32"``, or less, such as ``"bf16"``."""
        ...


def in_fp32(extractor: FeatureExtractor) -> FeatureExtractor | None:
    """Return the same extractor in fp32; None if it computes so already."""
    if not isinstance(extractor, Precise) or extractor.precision == FP32:
        return None
    return cast("FeatureExtractor", dataclasses.replace(cast("Any", extractor), precision=FP32))


EXTRACTORS: Registry[type[FeatureExtractor]] = Registry(
    "extractor", package="pyimgano.features", group="pyimgano.extractors"
)

FP32 = "fp32"
BEST_FIRST = ("efficientnet_lite0", "handcrafted")


def resolve_extractor(
    extractor: str | FeatureExtractor, best_first: tuple[str, ...] = BEST_FIRST
) -> FeatureExtractor:
    """Return the extractor of a name, or the object itself; ``"auto"``: the best one installed.

    ``NAME:PATH`` gives a file to one that needs it, ``timm:MODEL`` or ``timm:MODEL:PATH`` also a
    model; fields follow as ``,KEY=VALUE``: ``dinov2_vitb14:w.pth,layers=[-2,-1],precision=bf16``.

    Raises
    ------
    UnknownNameError
        If the name is not registered; the message lists near matches.
    MissingExtra
        If a package that it needs is not installed; the message holds the pip line.
    ParameterError
        If an object does not follow the protocol `FeatureExtractor`, a file is given to one that
        takes none, or none to one that needs it, or a field is unknown or of another kind.
    """
    if not isinstance(extractor, str):
        if not isinstance(extractor, FeatureExtractor):
            raise ParameterError(
                f"an extractor needs the method 'embed' and the property 'fingerprint': "
                f"{extractor!r} has not both"
            )
        return extractor
    if extractor == "auto":
        ready = (name for name in best_first if not EXTRACTORS.entry(name).metadata.missing)
        return EXTRACTORS[next(ready)]()
    text, *settings = re.split(r",(?=\w+=)", extractor)
    name, colon, given = text.partition(":")
    entry = EXTRACTORS.entry(name)
    details = dict(entry.metadata.details)
    if colon and "file" not in details:
        raise ParameterError(f"the extractor {name!r} takes no file: leave {given!r} out")
    model, _, path = given.partition(":") if "model" in details else ("", "", given)
    make: Any = entry.value
    fields = _fields(make, name, settings)
    if entry.metadata.missing and "runtime" not in fields:  # another one needs another package
        raise MissingExtra(
            f"the extractor {name!r} needs {', '.join(entry.metadata.missing)}, which is not "
            f"installed. Install it with: {entry.metadata.pip_line}"
        )
    fields |= {key: value for key, value in (("model", model), ("path", path)) if value}
    made: FeatureExtractor = make(**fields)
    _ = made.fingerprint  # a file that is missing is told before any image is read
    return made


def _fields(kind: type, name: str, settings: list[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` by the defaults of a dataclass; no field that a model file leaves out."""
    known = {f.name: f for f in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}
    found: dict[str, Any] = {}
    for setting in settings:
        key, _, text = setting.partition("=")
        if key not in known or not known[key].metadata.get("stored", True):
            raise ParameterError(
                f"{setting!r}: the extractor {name!r} has no field {key!r} that can be set here"
            )
        default = known[key].default
        value = text if isinstance(default, str) else _json(text)
        if isinstance(value, list):
            value = tuple(value)
        if type(value) is not type(default):
            raise ParameterError(
                f"{setting!r}: {key} of the extractor {name!r} is of another kind: {default!r}"
            )
        found[key] = value
    return found


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text

"""Small real detectors, extractors and indexes; and broken ones that every check must catch."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.detector import Detector
from pyimgano.features.base import PatchFeatures
from pyimgano.judging import Reading, require_company
from pyimgano.map_detector import MapDetector
from pyimgano.models.knn_index import NumpyIndex
from pyimgano.records import Evidence
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pyimgano.registry import Registry
    from pyimgano.views.intake import Images

SIDE = 96
CELL = 8
POISON = (1, 2, 3)
NOT_A_NUMBER = (3, 2, 1)


@contextmanager
def entered(registry: Registry[Any], name: str, value: Any) -> Iterator[None]:
    """Register for the time of the block."""
    len(registry)  # discovery first: what is entered here is no part of it
    registry.register(name, Metadata(summary="A fake."))(value)
    try:
        yield
    finally:
        del registry._entries[name]


def distribution(
    folder: Path, name: str, points: Mapping[str, Mapping[str, str]], version: str = "1.0"
) -> None:
    """Write the metadata by which importlib knows an installed distribution with entry points."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (info / "METADATA").write_text(text, encoding="utf-8")
    lines = []
    for group, entries in points.items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()), ""]
    (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")


def python(code: str, *arguments: object) -> str:
    """Run code in a fresh process; its output."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def grey(level: int, seed: int = 0, size: tuple[int, int] = (40, 48)) -> NDArray[np.uint8]:
    """A noisy grey image of an exact mean level."""
    noise = np.random.default_rng(seed).integers(0, 20, (*size, 1))
    noise[1::2] = 20 - noise[::2]
    return np.repeat(level - 10 + noise, 3, axis=2).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class TinyExtractor:
    """Mean and deviation of the colours of cells of 8 pixels."""

    gain: float = 1.0

    @property
    def fingerprint(self) -> str:
        return f"tiny {self.gain}"

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchFeatures]:
        return [self._one(image) for image in images]

    def _one(self, image: NDArray[np.uint8]) -> PatchFeatures:
        rows, columns = image.shape[0] // CELL, image.shape[1] // CELL
        cut = image[: rows * CELL, : columns * CELL].astype(np.float32) * np.float32(self.gain)
        cells = cut.reshape(rows, CELL, columns, CELL, 3).swapaxes(1, 2)
        values = np.concatenate([cells.mean(axis=(2, 3)), cells.std(axis=(2, 3))], axis=-1)
        return PatchFeatures(values, (0.0, 0.0, float(rows * CELL), float(columns * CELL)))


class ForeignExtractor(TinyExtractor):
    """An extractor that is in no registry."""


@dataclass(kw_only=True, eq=False)
class LevelDetector(Detector):
    """Distance of the mean grey level from that of the good images; no maps."""

    scale: float = 1.0

    def _fit(self, images: Images) -> None:
        self.level_ = float(np.mean([image.mean() for image in images]))

    def _infer(self, images: Sequence[NDArray[np.uint8]]) -> list[Reading]:
        if any(tuple(image[0, 0]) == POISON for image in images):
            raise ValueError("poison")
        bad = [tuple(image[0, 0]) == NOT_A_NUMBER for image in images]
        scores = [abs(image.mean() - self.level_) * self.scale for image in images]
        return [Reading(np.nan if b else float(s)) for s, b in zip(scores, bad, strict=True)]


@dataclass(kw_only=True, eq=False)
class CellDetector(MapDetector):
    """z-score of each cell's mean colour, position by position."""

    def _fit(self, images: Images) -> None:
        cells = np.stack([_cells(image) for image in images])
        self.mean_ = cells.mean(axis=0)
        self.deviation_ = cells.std(axis=0) + 3

    def _infer(self, images: Sequence[NDArray[np.uint8]]) -> list[Reading]:
        return [self._one(image) for image in images]

    def _one(self, image: NDArray[np.uint8]) -> Reading:
        import cv2

        drawn = np.abs((_cells(image) - self.mean_) / self.deviation_).max(axis=2)
        size = (image.shape[1], image.shape[0])
        full = cv2.resize(drawn.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
        return Reading(float(drawn.max()), full)


@dataclass(kw_only=True, eq=False)
class MutualDetector(CellDetector):
    """Distance of each cell's mean colour from its median in the other images of the batch."""

    @property
    def is_transductive(self) -> bool:
        return True

    def _infer(self, images: Sequence[NDArray[np.uint8]]) -> list[Reading]:
        return self._read_together([self._look(image) for image in images])

    def _look(self, image: NDArray[np.uint8]) -> Any:
        if tuple(image[0, 0]) == POISON:
            raise ValueError("poison")
        return _cells(image), image.shape[1::-1]

    def _read_together(self, looks: Sequence[Any]) -> list[Reading]:
        require_company(looks)
        return [self._by(looks, [*looks[:i], *looks[i + 1 :]], i) for i in range(len(looks))]

    def _by(self, looks: Sequence[Any], others: Sequence[Any], i: int) -> Reading:
        import cv2

        cells, size = looks[i]
        drawn = np.abs(cells - np.median([one for one, _ in others], axis=0)).max(axis=2)
        full = cv2.resize(drawn.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
        return Reading(float(drawn.max()), full)


def _cells(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    import cv2

    side = SIDE // CELL
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)


# Detectors that break one promise each; the name of the check is the key of `BROKEN`. ------------


@dataclass(kw_only=True, eq=False)
class LearnsEarly(CellDetector):
    def __post_init__(self) -> None:
        self.mean_ = 0


class NeverUnfitted(CellDetector):
    threshold_ = 1.0


class LosesScores(CellDetector):
    def _set_threshold(self, readings: Any, goods: Any, method: str) -> None:
        super()._set_threshold(readings, goods, method)
        self.decision_scores_ = self.decision_scores_[:-1]


class SeesNothing(CellDetector):
    def _one(self, image: NDArray[np.uint8]) -> Reading:
        return Reading(float(image[::7, ::5].sum() % 101), super()._one(image).map)


class RejectsAll(CellDetector):
    def _set_threshold(self, readings: Any, goods: Any, method: str) -> None:
        super()._set_threshold(readings, goods, method)
        self.threshold_ = 0.0


class Remembers(CellDetector):
    def _fit(self, images: Images) -> None:
        self.memory = [*getattr(self, "memory", []), *images]
        super()._fit(self.memory)


class TouchesGlobalState(CellDetector):
    def _fit(self, images: Images) -> None:
        np.random.rand(3)  # noqa: NPY002 - the fault itself
        super()._fit(images)


class LooksAround(CellDetector):
    def _infer(self, images: Sequence[NDArray[np.uint8]]) -> list[Reading]:
        found = super()._infer(images)
        most = max(one.score for one in found)
        return [Reading(one.score / most, one.map) for one in found]


class AsksTheNext(MutualDetector):
    def _by(self, looks: Sequence[Any], others: Sequence[Any], i: int) -> Reading:
        return super()._by(looks, [looks[i - 1]], i)


class AsksItself(MutualDetector):
    def _read_together(self, looks: Sequence[Any]) -> list[Reading]:
        return [self._by(looks, looks, i) for i in range(len(looks))]


class Drifts(CellDetector):
    def _one(self, image: NDArray[np.uint8]) -> Reading:
        self.calls = getattr(self, "calls", 0) + 1
        found = super()._one(image)
        return Reading(found.score + self.calls, found.map)


@dataclass(kw_only=True, eq=False)
class TakesAnySize(CellDetector):
    any_size: bool = True


class DrawsUpsideDown(CellDetector):
    def _one(self, image: NDArray[np.uint8]) -> Reading:
        found = super()._one(image)
        return Reading(found.score, np.ascontiguousarray(found.map[::-1]))


class DrawsMirrored(CellDetector):
    def _one(self, image: NDArray[np.uint8]) -> Reading:
        found = super()._one(image)
        return Reading(found.score, np.ascontiguousarray(found.map[:, ::-1]))


class KeepsSilent(CellDetector):
    def _judge_all(self, X: Any, *, with_maps: bool) -> Any:
        from pyimgano.inspection import Inspections

        return Inspections(self.inspect(X))


class ForgetsWhatItLearned(CellDetector):
    def _state(self) -> dict[str, Any]:
        return {name: item for name, item in super()._state().items() if name != "mean_"}


class SavesOtherNumbers(CellDetector):
    def _golden_scores(self) -> NDArray[np.float64]:
        return np.zeros(1)

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "mean_": self.mean_ + 1}


class Prints(CellDetector):
    def _fit(self, images: Images) -> None:
        print("fitting")  # noqa: T201 - the fault itself
        super()._fit(images)


class CallsHome(CellDetector):
    def _fit(self, images: Images) -> None:
        import socket

        with socket.socket() as line:
            line.connect(("127.0.0.1", 9))
        super()._fit(images)


class ExplainsInPixels(CellDetector):
    def _explain(self, image, places):
        return [Evidence(box=(8, 8, 16, 16)) for _ in places]


BROKEN = (
    ("parameters", LearnsEarly),
    ("unfitted", NeverUnfitted),
    ("shapes", LosesScores),
    ("decides", SeesNothing),
    ("decides", RejectsAll),
    ("refit", Remembers),
    ("refit", TouchesGlobalState),
    ("independence", LooksAround),
    ("independence", AsksTheNext),
    ("independence", AsksItself),
    ("forms", Drifts),
    ("explains", ExplainsInPixels),
    ("sizes", TakesAnySize),
    ("maps", DrawsUpsideDown),
    ("maps", DrawsMirrored),
    ("bad_input", KeepsSilent),
    ("saves", ForgetsWhatItLearned),
    ("saves", SavesOtherNumbers),
    ("quiet", Prints),
    ("quiet", CallsHome),
)


# Extractors that break the protocol ---------------------------------------------------------------


class DropsOne(TinyExtractor):
    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchFeatures]:
        return super().embed(images)[:2]


class BareArrays(TinyExtractor):
    def embed(self, images: Sequence[NDArray[np.uint8]]) -> Any:
        return [one.values for one in super().embed(images)]


class SizeInChannels(TinyExtractor):
    def _one(self, image: NDArray[np.uint8]) -> PatchFeatures:
        one = super()._one(image)
        return PatchFeatures(one.values[..., : 3 + (image.shape[0] > 64)], one.extent)


class NotFinite(TinyExtractor):
    def _one(self, image: NDArray[np.uint8]) -> PatchFeatures:
        one = super()._one(image)
        return PatchFeatures(one.values / np.float32(0.0), one.extent)


class BatchNormalised(TinyExtractor):
    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchFeatures]:
        found = super().embed(images)
        mean = np.mean([one.values.mean() for one in found], dtype=np.float32)
        return [PatchFeatures(one.values - mean, one.extent) for one in found]


class Noisy(TinyExtractor):
    def _one(self, image: NDArray[np.uint8]) -> PatchFeatures:
        one = super()._one(image)
        noise = np.random.default_rng().normal(0, 1e-4, one.values.shape).astype(np.float32)
        return PatchFeatures(one.values + noise, one.extent)


class ReachesOut(TinyExtractor):
    def _one(self, image: NDArray[np.uint8]) -> PatchFeatures:
        one = super()._one(image)
        return PatchFeatures(one.values, (0.0, 0.0, one.extent[2] + 8, one.extent[3]))


class NoText(TinyExtractor):
    fingerprint = 7


BROKEN_EXTRACTORS = (
    DropsOne,
    BareArrays,
    SizeInChannels,
    NotFinite,
    BatchNormalised,
    Noisy,
    ReachesOut,
    NoText,
)


# Indexes that break the protocol ------------------------------------------------------------------


class _Wrapped:
    def __init__(self) -> None:
        self.inner = NumpyIndex()

    def fit(self, bank: Any, groups: Any = None) -> Any:
        self.bank = bank
        self.inner.fit(bank, groups)
        return self

    def kneighbors(self, queries: Any, k: int = 1, exclude: Any = None) -> Any:
        return self.inner.kneighbors(queries, k, exclude)


class Squared(_Wrapped):
    def kneighbors(self, queries: Any, k: int = 1, exclude: Any = None) -> Any:
        distances, indices = super().kneighbors(queries, k, exclude)
        return distances**2, indices


class SeesTheExcluded(_Wrapped):
    def kneighbors(self, queries: Any, k: int = 1, exclude: Any = None) -> Any:
        return super().kneighbors(queries, k)


class NotCentred(_Wrapped):
    def kneighbors(self, queries: Any, k: int = 1, exclude: Any = None) -> Any:
        _, indices = super().kneighbors(queries, k, exclude)
        products = (self.bank**2).sum(1) - 2 * queries @ self.bank.T + (queries**2).sum(1)[:, None]
        return np.sqrt(np.abs(np.take_along_axis(products, indices, axis=1))), indices


class OffByOne(_Wrapped):
    def kneighbors(self, queries: Any, k: int = 1, exclude: Any = None) -> Any:
        distances, indices = super().kneighbors(queries, k, exclude)
        return distances, (indices + 1) % len(self.bank)


BROKEN_INDEXES = (Squared, SeesTheExcluded, NotCentred, OffByOne)

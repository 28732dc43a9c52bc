"""Small real inferencers that answer as anomalib's do, in all their shapes; and files like its."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SIDE = 24


class Tensor:
    """What of a tensor the boundary touches."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values, np.float64)
        self.where = "cuda"

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        moved = Tensor(self.values)
        moved.where = "cpu"
        return moved

    def float(self) -> Tensor:
        return self

    def numpy(self) -> NDArray[np.float32]:
        if self.where != "cpu":
            raise TypeError("can't convert cuda device type tensor to numpy")
        return self.values.astype(np.float32)


def deviation(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A map (24, 24) of how far a part of contract images lies from its usual colours."""
    import cv2

    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    excess = small[..., 0] - small[..., 2] * np.float32(1.2)
    return np.asarray(cv2.GaussianBlur(np.abs(excess), (0, 0), 1.0))


SHAPES: Mapping[str, Any] = {
    "dict float, (H, W)": lambda s, m: {"pred_score": s, "anomaly_map": m},
    "dict plural arrays": lambda s, m: {"pred_scores": np.array([s]), "anomaly_maps": m[None]},
    "object of tensors (B, 1)": lambda s, m: SimpleNamespace(
        pred_score=Tensor([[s]]), anomaly_map=Tensor(m[None])
    ),
    "object (B,), (B, 1, h, w)": lambda s, m: SimpleNamespace(
        pred_score=np.array([s]), anomaly_map=m[None, None], pred_label=None
    ),
    "object plural, (B, h, w, 1)": lambda s, m: SimpleNamespace(
        pred_scores=Tensor(s), anomaly_maps=m[None, ..., None]
    ),
    "map alone": lambda s, m: {"anomaly_map": m},
}


@dataclass(frozen=True)
class FakeInferencer:
    """Answers in one of the shapes; the score is the highest value of the map."""

    shape: str = "dict float, (H, W)"
    maps: bool = True
    mark: str = "fake 1"

    @property
    def fingerprint(self) -> str:
        return self.mark

    def predict(self, image: NDArray[np.uint8]) -> Any:
        drawn = deviation(image)
        if not self.maps:
            return {"pred_score": float(drawn.max())}
        return SHAPES[self.shape](float(drawn.max()), drawn)


class Mute(FakeInferencer):
    """Has no fingerprint that a file could hold."""

    fingerprint = property(lambda self: None)  # type: ignore[assignment]


def saved(path: Path, pickled: bytes) -> Path:
    """A file as torch.save lays it out, with any pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", pickled)
        archive.writestr("model/version", "3")
    return path


def varint(number: int) -> bytes:
    out = io.BytesIO()
    while number > 0x7F:
        out.write(bytes([number & 0x7F | 0x80]))
        number >>= 7
    out.write(bytes([number]))
    return out.getvalue()


def field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def onnx_bytes(nodes: Sequence[tuple[str, Sequence[str], Sequence[str]]]) -> bytes:
    """The part of an ONNX file that tells its nodes."""
    parts = [
        b"".join(
            [
                *(field(1, name.encode()) for name in inputs),
                *(field(2, name.encode()) for name in outputs),
                field(4, kind.encode()),
            ]
        )
        for kind, inputs, outputs in nodes
    ]
    return varint(8) + varint(8) + field(7, b"".join(field(1, part) for part in parts))

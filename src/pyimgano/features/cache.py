"""Features that were computed once are read back from a folder, bit for bit."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.atomic import output_errors
from pyimgano.errors import ParameterError
from pyimgano.features.base import PatchFeatures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pyimgano.features.base import FeatureExtractor

__all__ = ["CachedExtractor", "FeatureStore"]

_DIGEST = 32
_LINE = 64  # the values begin at a multiple of it
_KEPT = 0.9  # of the limit, once it is reached
_UNSEEN = 1 / 16  # of the limit may be written before the folder is looked at again


class FeatureStore:
    """A folder of features under the hash of what they depend on, up to ``limit`` bytes.

    The oldest leave first. An entry is checked when it is read: one that is damaged counts as
    absent. Several processes may use one folder, which the first entry makes; each of them may
    exceed the limit by a sixteenth.
    """

    def __init__(self, folder: str | Path, limit: int) -> None:
        if limit < 0:
            raise ParameterError(f"the limit of a cache must not be negative, got {limit}")
        self.folder = Path(folder)
        self.limit = limit
        self._unseen: int | None = None

    def read(self, key: str) -> tuple[PatchFeatures, float] | None:
        """Return features and the seconds that they took to compute; None if they are not here."""
        path = self.folder / key
        try:
            data = path.read_bytes()
            os.utime(path)  # the last use, by which the oldest are found
        except OSError:
            return None
        if hashlib.sha256(memoryview(data)[_DIGEST:]).digest() != data[:_DIGEST]:
            return None
        end = data.index(b"\n", _DIGEST) + 1
        facts = json.loads(data[_DIGEST:end])
        values = np.frombuffer(data, np.float32, offset=end).reshape(facts["shape"])
        layers = tuple((count, step) for count, step in facts["layers"])
        top, left, bottom, right = facts["extent"]
        return PatchFeatures(values, (top, left, bottom, right), layers), facts["seconds"]

    def write(self, key: str, features: PatchFeatures, seconds: float) -> None:
        """Keep features; beyond the limit those that were not used for longest are deleted."""
        facts = {
            "shape": features.values.shape,
            "extent": features.extent,
            "layers": features.layers,
            "seconds": seconds,
        }
        head = json.dumps(facts).encode()
        head += b" " * (-(_DIGEST + len(head) + 1) % _LINE) + b"\n"
        values = np.ascontiguousarray(features.values).tobytes()
        digest = hashlib.sha256(head + values).digest()
        if len(head) + len(values) + _DIGEST > self.limit:
            return
        with output_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / f"{key}.{uuid.uuid4().hex}.part"
            try:  # no fsync: after a power cut a torn entry is known by its digest
                part.write_bytes(digest + head + values)
                part.replace(self.folder / key)
            finally:
                part.unlink(missing_ok=True)
        self._make_room(_DIGEST + len(head) + len(values))

    def _make_room(self, written: int) -> None:
        """Look at the folder now and then, for others write into it too."""
        if self._unseen is not None and self._unseen + written < self.limit * _UNSEEN:
            self._unseen += written
            return
        self._unseen = 0
        entries = []
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another process made room
                facts = path.stat()
                entries.append((facts.st_mtime_ns, facts.st_size, path))
        total = sum(size for _, size, _ in entries)
        if total <= self.limit * (1 - _UNSEEN):
            return
        for _, size, path in sorted(entries):
            if total <= self.limit * _KEPT:
                return
            path.unlink(missing_ok=True)
            total -= size


class CachedExtractor:
    """An extractor whose results are kept; what it returns is what the extractor itself returned.

    The key is a hash of the extractor's fingerprint, of ``salt`` (versions of the packages that
    decide the last bits), and of the very pixels that the extractor sees: resized, padded, cut.
    Results are those of the first time, so an extractor whose results depend on the other images of
    a batch (no contract allows that) would show it.
    """

    def __init__(self, extractor: FeatureExtractor, store: FeatureStore, salt: str = "") -> None:
        self.extractor, self.store = extractor, store
        self._seed = f"{extractor.fingerprint}\n{salt}\n".encode("utf-8", "backslashreplace")
        self._saved = 0.0

    def __repr__(self) -> str:
        return repr(self.extractor)

    @property
    def fingerprint(self) -> str:
        """That of the extractor."""
        return self.extractor.fingerprint

    def clock(self) -> float:
        """Return seconds as they would have passed if all features had been computed.

        So the cost of a method does not depend on which one of several was measured first.
        """
        return time.perf_counter() + self._saved

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchFeatures]:
        """Embed RGB uint8 images (H, W, 3), each one once."""
        started = time.perf_counter()
        keys = [self._key(image) for image in images]
        found = {key: kept for key in keys if (kept := self.store.read(key)) is not None}
        missing = {key: image for key, image in zip(keys, images, strict=True) if key not in found}
        if missing:
            begun = time.perf_counter()
            made = self.extractor.embed(list(missing.values()))
            seconds = (time.perf_counter() - begun) / len(missing)
            for key, features in zip(missing, made, strict=True):
                self.store.write(key, features, seconds)
                found[key] = features, seconds
        took = sum(found[key][1] for key in keys)
        self._saved += took - (time.perf_counter() - started)
        return [found[key][0] for key in keys]

    def _key(self, image: NDArray[np.uint8]) -> str:
        digest = hashlib.sha256(self._seed)
        digest.update(f"{image.shape}\n".encode())
        digest.update(np.ascontiguousarray(image).data)
        return digest.hexdigest()

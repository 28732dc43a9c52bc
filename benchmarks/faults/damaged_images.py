"""Damaged images must be ERROR records, or be judged by exactly the pixels that were meant."""

from __future__ import annotations

import io
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from damage import DAMAGE, Tally, damaged
from PIL import Image

from pyimgano.errors import ImageError
from pyimgano.images import read_image
from pyimgano.inspection import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["FORMATS", "damage_images", "whole_files"]

FORMATS = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif", "BMP": ".bmp"}
UNCHECKED = ("JPEG", "TIFF", "BMP")  # nothing in these files says that a byte was overwritten
ALWAYS_SEEN = ("truncated", "text", "swapped")


@dataclass(frozen=True)
class Whole:
    """An undamaged file: its bytes, what they show, and how that scores."""

    kind: str
    data: bytes
    pixels: NDArray[Any]
    score: float


def whole_files(detector: Any, paths: Sequence[Path], folder: Path) -> list[Whole]:
    folder.mkdir()
    files = []
    for path in paths:
        for kind, suffix in FORMATS.items():
            buffer = io.BytesIO()
            Image.fromarray(read_image(path)).save(buffer, kind)
            target = folder / f"{path.stem}{suffix}"
            target.write_bytes(buffer.getvalue())
            score = float(detector.decision_function([target])[0])
            files.append(Whole(kind, buffer.getvalue(), read_image(target), score))
    return files


def damage_images(
    detector: Any, files: list[Whole], folder: Path, total: int, rng: np.random.Generator
) -> tuple[dict[str, Tally], Counter[str]]:
    """Judge ``total`` damaged files; return the outcomes by format, and the residual risk."""
    folder.mkdir()
    tallies = {kind: Tally() for kind in FORMATS}
    residual: Counter[str] = Counter()
    for first in range(0, total, 200):
        cases: list[tuple[Path, Whole, Whole, str]] = []
        for i in range(first, min(total, first + 200)):
            file = files[i % len(files)]
            how = (*DAMAGE, "swapped")[i // len(files) % (len(DAMAGE) + 1)]
            shown = files[int(rng.integers(len(files)))] if how == "swapped" else file
            data = shown.data if how == "swapped" else damaged(rng, file.data, how)
            path = folder / f"{i}{FORMATS[file.kind]}"
            path.write_bytes(data)
            cases.append((path, file, shown, how))
        try:
            found = list(detector.inspect([path for path, *_ in cases]))
        except Exception as error:  # noqa: BLE001 - an exception of any kind is what is looked for
            tallies[cases[0][1].kind].fault(f"inspect raised {error!r}")
            continue
        if [one.path for one in found] != [str(path) for path, *_ in cases]:
            tallies[cases[0][1].kind].fault("records are missing or in another order")
            continue
        for one, (path, file, shown, how) in zip(found, cases, strict=True):
            outcome = outcome_of(one, path, file, shown, how)
            if outcome in {"error", "identical", "different"}:
                tallies[file.kind].counts[outcome] += 1
            else:
                tallies[file.kind].fault(f"{path.name} ({how}): {outcome}")
            if outcome == "different":
                residual[f"{file.kind} {how}"] += 1
            path.unlink()
    return tallies, residual


def outcome_of(one: Any, path: Path, file: Whole, shown: Whole, how: str) -> str:
    """Return error, identical or different; anything else is a fault in words."""
    if one.verdict is Verdict.ERROR:
        sound = math.isnan(one.score) and one.label == -1 and one.error and path.name in one.path
        return "error" if sound else f"an ERROR record with {one.score}, {one.label}, {one.error}"
    try:
        same = np.array_equal(read_image(path), shown.pixels)
    except ImageError as error:
        return f"judged {one.verdict}, but it cannot be read: {error}"
    if same:
        right = math.isclose(one.score, shown.score, rel_tol=1e-5)
        return "identical" if right else f"the same pixels score {one.score}, not {shown.score}"
    if file.kind in UNCHECKED and how not in ALWAYS_SEEN:
        return "different"
    return f"judged {one.verdict} on other pixels than those of the file"

"""Real-IAD: thirty objects, each part seen by five cameras."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyimgano.datasets._files import entries, found, in_natural_order, is_file, is_folder
from pyimgano.datasets._layout import GOOD, Layout, below, chosen, reader
from pyimgano.datasets.base import Dataset
from pyimgano.errors import DatasetError, DatasetNotFoundError, MaskError
from pyimgano.records import Sample

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["RealIADDataset"]

JSONS = "realiad_jsons"
RESOLUTIONS = ("1024", "512", "256", "raw")

LAYOUT = Layout(
    """\
  <root>/realiad_jsons/<category>.json            also <root>/realiad_jsons/realiad_jsons/...
  <root>/realiad_{1024,512,256,raw}/<category>/OK/<part>/*_C<view>_*.jpg
  <root>/realiad_{1024,512,256,raw}/<category>/NG/<defect>/<part>/*_C<view>_*.{jpg,png}""",
    is_category=lambda folder: is_folder(folder / JSONS),
)


@reader(
    "realiad",
    LAYOUT,
    summary="Real-IAD: 30 objects, five views of each part, pixel masks.",
    paper="Wang et al., CVPR 2024, arXiv 2403.12580",
    licence="CC BY-NC-SA 4.0 as anomalib's reader states; see the data set's page",
    source=(
        "https://realiad4ad.github.io/Real-IAD; layout from: README and reader of "
        "github.com/Tencent/AnomalyDetection_Real-IAD, and anomalib's reader"
    ),
)
@dataclass(frozen=True, slots=True, eq=False)
class RealIADDataset(Dataset):
    """A category of Real-IAD, split by its JSON files.

    Attributes and errors are those of `Dataset`. The views of one part share a group. As in the
    makers' reader, a view is good if its part is, or if no defect is marked in it. Where a protocol
    adds defective images to the training set they are `train_defects`, not ``train``.

    Parameters
    ----------
    root, category
        Folder of the JSON files and of the images; the name of a JSON file.
    protocol : str
        Folder of the JSON files: ``"realiad_jsons"`` of all views, ``"realiad_jsons_sv"`` of a
        single one, ``"realiad_jsons_fuiad_0.1"`` and others with defects in training.
    resolution : str, optional
        ``"1024"``, ``"512"``, ``"256"`` or ``"raw"``; None takes the first of them that is there.
    """

    protocol: str = field(default=JSONS, kw_only=True)
    resolution: str | None = field(default=None, kw_only=True)

    @classmethod
    def categories(cls, root: Path) -> tuple[str, ...]:
        """Return the categories that have a JSON file of the full protocol."""
        return tuple(_tables(root, JSONS))

    def _read(self) -> tuple[Sample, ...]:
        tables = _tables(self.root, self.protocol)
        table = tables[chosen(self.category, list(tables), self.root)]
        try:
            content = json.loads(table.read_text(encoding="utf-8"))
            meta = content.get("meta", {})
            normal = str(meta.get("normal_class", "OK"))
            home = _below(self._images(), str(meta.get("prefix", self.category)) or ".")
            rows = [(split, row) for split in ("train", "test") for row in content[split]]
            return tuple(self._sample(home, split, row, normal) for split, row in rows)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            if isinstance(error, DatasetError):
                raise
            raise DatasetError(
                f"{table} must hold meta, train and test, and for each image image_path, mask_path "
                f"and anomaly_class: {type(error).__name__}: {error}"
            ) from error

    def _images(self) -> Path:
        """Return the folder of the images in the resolution that was asked for."""
        there = [each for each in RESOLUTIONS if is_folder(self.root / f"realiad_{each}")]
        if self.resolution not in (None, *there) or not there:
            raise DatasetNotFoundError(
                f"no images realiad_{self.resolution or '1024'} in {self.root}; found: "
                f"{found(self.root)}. Expected:\n{LAYOUT.text}"
            )
        return self.root / f"realiad_{self.resolution or there[0]}"

    def _sample(self, home: Path, split: str, row: dict[str, Any], normal: str) -> Sample:
        image, mask = _below(home, row["image_path"]), row["mask_path"]
        kind = str(row["anomaly_class"])
        if not is_file(image):
            raise DatasetError(f"the image {image} does not exist")
        good = kind == normal or mask is None
        truth = None if good else _below(home, mask)
        if truth is not None and not is_file(truth):
            raise MaskError(f"the mask {truth} of {image} does not exist")
        part = re.match(r".+(?=_C[0-9]_)", image.stem)
        return Sample(
            image,
            split=split,
            category=str(self.category),
            defect=GOOD if good else kind,
            label=int(not good),
            mask_path=truth,
            group=part[0] if part else None,
        )


def _tables(root: Path, protocol: str) -> dict[str, Path]:
    """Return the JSON files of a protocol by category."""
    LAYOUT.require_root(root)
    # The archive of the JSON files holds the folders of all protocols; some unpack it into one.
    for folder in (root / protocol, root / JSONS / protocol):
        files = entries(folder) if is_folder(folder) else []
        tables = in_natural_order((p for p in files if p.suffix == ".json"), lambda path: path)
        if tables:
            return {path.stem: path for path in tables}
    raise DatasetNotFoundError(
        f"no {protocol}/<category>.json in {root}. Found: {found(root)}. Expected:\n{LAYOUT.text}"
    )


def _below(home: Path, text: str) -> Path:
    """Return the file that a cell names."""
    path = below(home, text)
    if path is None:
        raise DatasetError(f"expected a path below {home}, got {text!r}")
    return path

"""MVTec LOCO AD: logical and structural defects, with masks that saturate."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pyimgano.datasets._files import is_folder, list_images
from pyimgano.datasets._layout import Layout, LayoutDataset, read_kind, reader, require
from pyimgano.errors import DatasetError, MaskError
from pyimgano.records import Sample, Saturation

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MVTecLOCODataset"]

KINDS = ("logical_anomalies", "structural_anomalies")
KEYS = ("pixel_value", "saturation_threshold", "relative_saturation")

LAYOUT = Layout(
    """\
  <root>/<category>/train/good/*.png
  <root>/<category>/validation/good/*.png
  <root>/<category>/test/{good,logical_anomalies,structural_anomalies}/*.png
  <root>/<category>/ground_truth/<kind>/<stem of the image>/*.png   one file a channel
  <root>/<category>/defects_config.json           saturation of each pixel value"""
)


@reader(
    "mvtec_loco",
    LAYOUT,
    summary="MVTec LOCO AD: 5 assemblies with missing, surplus, misplaced or damaged parts.",
    paper="Bergmann et al., IJCV 2022",
    licence="CC BY-NC-SA 4.0",
    source="https://www.mvtec.com/company/research/datasets/mvtec-loco",
)
@dataclass(frozen=True, slots=True, eq=False)
class MVTecLOCODataset(LayoutDataset):
    """A category of MVTec LOCO AD.

    The ``mask_path`` of a defective image is the folder of its channels: `Dataset.masks` gives
    their union, `Dataset.channels` each with its saturation area. The good images for validation
    are ``part("validation")``. Parameters, attributes and errors are those of `Dataset`. The layout
    follows the descriptions in public readers and in an evaluator that computes the official
    figure.

    Examples
    --------
    >>> box = MVTecLOCODataset("mvtec_loco", category="breakfast_box")  # doctest: +SKIP
    >>> pyimgano.metrics.aspro(list(box.channels()), maps, limit=0.05)  # doctest: +SKIP
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("validation",)

    def _read(self) -> tuple[Sample, ...]:
        folder = self._folder()
        saturation = _saturation(folder / "defects_config.json")
        samples: list[Sample] = []
        for split in ("train", "validation", "test"):
            good = require(folder / split / "good", LAYOUT)
            samples += read_kind(good, split=split, category=folder.name)
        for kind in KINDS:
            images = require(folder / "test" / kind, LAYOUT)
            for one in read_kind(images, split="test", category=folder.name, defect=kind):
                masks = folder / "ground_truth" / kind / one.path.stem
                if not is_folder(masks) or not list_images(masks):
                    raise MaskError(f"{one.path} has no mask: the folder {masks} is to hold some")
                samples.append(dataclasses.replace(one, mask_path=masks, saturation=saturation))
        return tuple(samples)


def _saturation(config: Path) -> tuple[Saturation, ...]:
    """Read which pixel value of the masks saturates where."""
    try:
        return tuple(
            Saturation(int(one[KEYS[0]]), float(one[KEYS[1]]), bool(one[KEYS[2]]))
            for one in json.loads(config.read_text(encoding="utf-8"))
        )
    except (OSError, ValueError, OverflowError, TypeError, KeyError, RecursionError) as error:
        raise DatasetError(
            f"{config} must list the kinds of defects, each with {', '.join(KEYS)}: "
            f"{type(error).__name__}: {error}"
        ) from error

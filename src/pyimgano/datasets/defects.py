"""A folder of defective images, perhaps with masks: what a few-shot calibration is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyimgano.datasets._files import found, is_folder, walk_images
from pyimgano.datasets._layout import pair_masks
from pyimgano.datasets.folder import BAD_NAMES, MASK_NAMES, _child
from pyimgano.errors import InputError
from pyimgano.records import DEFECT, Sample

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_defects"]


def read_defects(folder: Path) -> tuple[Sample, ...]:
    """List the defective images of a folder, with their masks if it holds ``masks/``.

    ::

        <folder>/[<kind>/]*.png          or <folder>/bad/[<kind>/]*.png
        <folder>/masks/[<kind>/]*.png    optional; <stem>.png or <stem>_mask.png

    If it holds a folder ``bad`` (or ``ng``, ``defect``, ``anomaly``, ``ko``), its images alone are
    taken, so that a data set of one's own can be given as it is. No image is an `InputError`, a
    mask for some of them only a `MaskError`.
    """
    masks = _child(folder, MASK_NAMES)
    home = _child(folder, BAD_NAMES) or folder
    drawn = set(walk_images(masks)) if masks else set()
    listed = [path for path in walk_images(home) if path not in drawn]
    if not listed:
        raise InputError(
            f"there are no images of defects in the folder {home} (found: {found(home)})"
        )

    def mask_of(image: Path) -> Path | None:
        if masks is None:
            return None
        mirrored = masks / image.relative_to(home).parent
        return pair_masks([image], mirrored if is_folder(mirrored) else masks)[0]

    return tuple(
        Sample(
            image,
            split="calibration",
            defect=(*image.relative_to(home).parts[:-1], "defect")[0],
            label=DEFECT,
            mask_path=mask_of(image),
        )
        for image in listed
    )

"""What must hold of the samples of a data set: no repeats, readable files, fitting masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyimgano.errors import DatasetError, ImageError, MaskError
from pyimgano.images import probe, read_image, read_mask

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from pyimgano.records import Sample

__all__ = ["problems", "read_truth", "refuse_repeats"]


def refuse_repeats(samples: Sequence[Sample]) -> None:
    """Refuse an image that is listed twice, for it may leak into the test, and a shared mask.

    Raises
    ------
    DatasetError
        If two samples are of one image.
    MaskError
        If two samples have one mask.
    """
    images: set[Path] = set()
    owners: dict[Path, Path] = {}
    for sample in samples:
        if sample.path in images:
            raise DatasetError(f"the image {sample.path} is listed twice; list it once")
        images.add(sample.path)
        if sample.mask_path is None:
            continue
        owner = owners.setdefault(sample.mask_path, sample.path)
        if owner != sample.path:
            raise MaskError(
                f"{owner} and {sample.path} share the mask {sample.mask_path}; each defective "
                f"image needs its own"
            )


def read_truth(sample: Sample) -> NDArray[np.bool_] | None:
    """Read the mask of a sample (H, W), None if it has none; its size must be the image's.

    Raises
    ------
    MaskError
        If the mask cannot be read or has another size than its image.
    ImageReadError
        If the header of the image cannot be read.
    """
    if sample.mask_path is None:
        return None
    mask = read_mask(sample.mask_path)
    image = probe(sample.path)
    if mask.shape != (image.height, image.width):
        height, width = mask.shape
        raise MaskError(
            f"the mask {sample.mask_path} has {width} x {height} pixels, its image {sample.path} "
            f"{image.width} x {image.height}; they must be equal"
        )
    return mask


def problems(sample: Sample, *, masked: bool) -> Iterator[str]:
    """Decode a sample with its mask and say what is wrong; ``masked`` sets need every mask."""
    try:
        read_image(sample.path)
        truth = read_truth(sample)
    except (ImageError, MaskError) as error:
        yield str(error)
        return
    if sample.label == 0:
        return
    if truth is None and masked:
        yield f"{sample.path} is defective and has no mask"
    if truth is not None and not truth.any():
        yield f"the mask {sample.mask_path} is empty, but {sample.path} is defective"

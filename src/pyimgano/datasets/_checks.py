"""What must hold of the samples of a data set: no repeats, readable files, fitting masks."""

from __future__ import annotations

import hashlib
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.datasets._files import is_file, is_folder, list_images
from pyimgano.errors import DatasetError, ImageError, MaskError
from pyimgano.images import probe, read_image, read_mask_values
from pyimgano.records import DEFECT, GOOD

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pyimgano.records import Sample

__all__ = ["leaks", "mask_files", "mask_problems", "problems", "read_channels", "read_truth"]
__all__ += ["refuse_repeats", "split_groups"]


def refuse_repeats(samples: Sequence[Sample]) -> None:
    """Refuse an image that is listed twice, for it may leak into the test, and a shared mask."""
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
    """Read the mask (H, W) of a sample, None of good ones; of a folder it is the union."""
    return None if sample.label == GOOD else _marked(sample)


def _marked(sample: Sample) -> NDArray[np.bool_] | None:
    if sample.mask_path is None:
        return None
    marked: NDArray[np.bool_] = np.any([values > 0 for _, values in _read_masks(sample)], axis=0)
    return marked


def read_channels(sample: Sample) -> tuple[tuple[NDArray[np.bool_], int], ...] | None:
    """Read the mask files of a sample one by one, each with its saturation area; None without."""
    from pyimgano.metrics.saturation import saturation_area

    if sample.mask_path is None or sample.label == GOOD:
        return None
    declared = {each.value: each for each in sample.saturation}
    channels = []
    for path, values in _read_masks(sample):
        kinds = np.unique(values[values > 0]).tolist()
        if len(kinds) != 1 or kinds[0] not in declared:
            raise MaskError(
                f"the mask {path} must hold one of the declared values {sorted(declared)} besides "
                f"0, it holds {kinds}"
            )
        one, mask = declared[kinds[0]], values > 0
        area = saturation_area(int(mask.sum()), one.threshold, relative=one.relative)
        channels.append((mask, area))
    return tuple(channels)


def _read_masks(sample: Sample) -> Iterator[tuple[Path, NDArray[np.uint8 | np.uint16]]]:
    """Read the mask files of a sample that has one, or a folder of them."""
    files = mask_files(sample)
    if sample.mask_path is not None and not files:
        raise MaskError(f"the folder {sample.mask_path} holds no mask of {sample.path}")
    for path in files:
        values, image = read_mask_values(path), probe(sample.path)
        if values.shape != (image.height, image.width):
            height, width = values.shape
            raise MaskError(
                f"the mask {path} has {width} x {height} pixels, its image {sample.path} "
                f"{image.width} x {image.height}; they must be equal"
            )
        yield path, values


def mask_files(sample: Sample) -> list[Path]:
    """Return the mask of a sample as a list, or those in its folder; none without one."""
    given = sample.mask_path
    if given is None:
        return []
    return list_images(given) if is_folder(given) else [given]


def problems(sample: Sample, *, masked: bool) -> Iterator[str]:
    """Decode a sample with its mask and say what is wrong; ``masked`` sets need every mask."""
    try:
        read_image(sample.path)
        yield from mask_problems(sample, masked=masked)
    except (ImageError, MaskError) as error:
        yield str(error)


def mask_problems(sample: Sample, *, masked: bool) -> Iterator[str]:
    """Read the mask of a sample and say what is wrong."""
    try:
        truth = _marked(sample)
    except ImageError:  # whoever reads the image says so
        return
    if sample.label != DEFECT:
        if truth is not None and truth.any():
            yield (
                f"{sample.path} is not defective, but its mask {sample.mask_path} is not empty; "
                "the mask is left out"
            )
    elif truth is None and masked:
        yield f"{sample.path} is defective and has no mask"
    elif truth is not None and not truth.any():
        yield f"the mask {sample.mask_path} is empty, but {sample.path} is defective"


def split_groups(train: Sequence[Sample], test: Sequence[Sample]) -> list[str]:
    """Name the groups, such as one part seen by several cameras, that stand in both splits."""
    seen = {sample.group for sample in train} - {None}
    both = dict.fromkeys(sample.group for sample in test if sample.group in seen)
    return [f"the group {name!r} stands in train and in test; keep it in one" for name in both]


def leaks(train: Sequence[Sample], test: Sequence[Sample]) -> list[str]:
    """Name test images whose file equals that of a training image, byte by byte."""
    paths = [(side, sample.path) for side in (0, 1) for sample in (train, test)[side]]
    sized = sorted((path.stat().st_size, side, path) for side, path in paths if is_file(path))
    found = []
    # Files of different sizes differ; only the others are read.
    for _, same in groupby(sized, key=lambda each: each[0]):
        rows = list(same)
        if len({side for _, side, _ in rows}) < 2:
            continue
        trained: dict[bytes, Path] = {}
        for _, side, path in rows:
            digest = hashlib.sha256(path.read_bytes()).digest()
            if side == 0:
                trained.setdefault(digest, path)
            elif digest in trained:
                found.append(f"the test image {path} equals the training image {trained[digest]}")
    return found

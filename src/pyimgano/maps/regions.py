"""From a map and a threshold to the regions that people look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import InputError, ParameterError
from pyimgano.records import Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["find_regions"]


def find_regions(
    anomaly_map: NDArray[np.float32],
    threshold: float,
    *,
    min_area: int = 1,
    scale: float | None = None,
) -> tuple[Region, ...]:
    """Find the 8-connected regions in which a map exceeds a threshold, the highest peak first.

    Parameters
    ----------
    anomaly_map : ndarray of float32, shape (H, W)
        In the pixels of the original image; NaN or another shape is an `InputError`.
    threshold : float
        Values above it belong to a region; infinity finds none, NaN is a `ParameterError`.
    min_area : int
        Smaller regions are left out, in pixels.
    scale : float, optional
        Millimetres per pixel; areas are then in square millimetres. Boxes and centroids stay in
        pixels, where (0, 0) is the centre of the first pixel.

    Examples
    --------
    >>> import numpy as np
    >>> found = find_regions(np.array([[0, 3, 0], [0, 0, 2]], np.float32), 1.0)
    >>> [(region.bbox, region.area, region.peak) for region in found]
    [((1, 0, 3, 2), 2.0, 3.0)]
    """
    if anomaly_map.ndim != 2 or anomaly_map.size == 0:
        raise InputError(f"a map must have the shape (H, W), got {anomaly_map.shape}")
    if np.isnan(threshold) or (scale is not None and not scale > 0):
        raise ParameterError(f"impossible threshold {threshold} or scale {scale} (mm per pixel)")
    highest = anomaly_map.max()
    if np.isnan(highest):
        raise InputError("the map holds NaN; a region cannot be decided")
    if highest <= threshold:
        return ()
    return _labelled(anomaly_map, anomaly_map > threshold, min_area, scale)


def _labelled(
    anomaly_map: NDArray[np.float32], above: NDArray[np.bool_], min_area: int, scale: float | None
) -> tuple[Region, ...]:
    import cv2

    count, labels, stats, centroids = cv2.connectedComponentsWithStats(
        above.astype(np.uint8), connectivity=8
    )
    peaks = np.full(count, -np.inf)
    np.maximum.at(peaks, labels[above], anomaly_map[above])
    pixel = 1.0 if scale is None else scale * scale
    regions = [
        Region(
            bbox=(left, top, left + width, top + height),
            area=area * pixel,
            area_fraction=area / above.size,
            centroid=(float(x), float(y)),
            peak=float(peak),
        )
        for (left, top, width, height, area), (x, y), peak in zip(
            stats[1:].tolist(), centroids[1:], peaks[1:], strict=True
        )
        if area >= min_area
    ]
    # Equal peaks in reading order: labels are numbered differently by OpenCV's algorithms.
    return tuple(sorted(regions, key=lambda region: (-region.peak, region.bbox[1], region.bbox[0])))

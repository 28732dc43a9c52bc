"""Which patches belong to the part: the first principal component of an image's own tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["foreground", "lies_inside"]

_RELATIVE = 0.5  # of the component's deviation, where no limit on its scale is known
_BORDER = 0.2
_INSIDE = 0.2
_RIM = 0.1
_DENSE = 32  # channels up to which all axes cost less than the first
_MARGIN = 3  # of background around the grid: closing must not bridge a gap to its border


def foreground(tokens: NDArray[np.float32], limit: float | None = None) -> NDArray[np.bool_]:
    """Tell the part from its background (Damm et al., 2405.14529, section 3.2).

    Parameters
    ----------
    tokens : ndarray of float32, shape (h, w, d)
        Patch vectors of one image, not scaled to length 1.
    limit : float, optional
        What the first principal component must exceed; by default half its deviation. The paper's
        10 belongs to the scale of DINOv2.

    Returns
    -------
    ndarray of bool, shape (h, w)
        Foreground, dilated and closed by 3 x 3 cells; everything if nothing exceeds the limit, so
        that nothing passes unseen.

    Notes
    -----
    A principal component has no sign of its own. The sign taken is the one that covers more of the
    middle (rows and columns 20 to 80 %) than of the rim: for a thin part the larger share of the
    middle alone, as published, is its background.
    """
    import cv2

    component = first_component(tokens.reshape(-1, tokens.shape[2])).reshape(tokens.shape[:2])
    least = _RELATIVE * float(component.std()) if limit is None else limit
    sides = (component > least, component < -least)
    mask = np.pad(max(sides, key=_contrast).astype(np.uint8), _MARGIN)  # the first of equals
    kernel = np.ones((3, 3), np.uint8)
    closed = cv2.morphologyEx(cv2.dilate(mask, kernel), cv2.MORPH_CLOSE, kernel)
    inner = closed[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN].astype(np.bool_)
    return inner if inner.any() else np.ones_like(inner)


def lies_inside(mask: NDArray[np.bool_]) -> bool:
    """Tell whether a mask shows a part in front of a background: in the middle, off the rim.

    On a texture, or a part that fills the image, the component follows something else: masking
    would hide what is to be judged.
    """
    middle, rim = _shares(mask)
    return middle >= _INSIDE and rim <= _RIM


def first_component(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Project rows (n, d) on their first principal axis, its largest entry positive; (n,).

    Lanczos iterations (ARPACK) from the covariance's own column of most variance: of the axes only
    the first is wanted, and the same rows always take the same way to it.
    """
    from scipy.sparse.linalg import eigsh

    centred = rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    covariance = (centred.T @ centred).astype(np.float64)
    most = int(covariance.diagonal().argmax())
    if not covariance[most, most] > 0:
        return np.zeros(len(rows))
    if len(covariance) < _DENSE:
        axis = np.linalg.eigh(covariance)[1][:, -1]
    else:
        axis = eigsh(covariance, k=1, which="LA", v0=covariance[most])[1][:, 0]
    return np.asarray(centred @ (axis * np.sign(axis[np.abs(axis).argmax()])))


def _contrast(mask: NDArray[np.bool_]) -> float:
    middle, rim = _shares(mask)
    return middle - rim


def _shares(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Return which shares of the middle and of the outermost cells a mask covers."""
    height, width = mask.shape
    rows, columns = (
        slice(int(side * _BORDER), max(int(side * (1 - _BORDER)), int(side * _BORDER) + 1))
        for side in (height, width)
    )
    rim = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return float(mask[rows, columns].mean()), float(rim.mean())

"""What the members of the default see of patches: the axes of what each family tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyimgano.feature_detector import FeatureDetector
from pyimgano.features.handcrafted import CHANNELS
from pyimgano.models._neighbourhood import pooled, smoothed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Grids = dict[str, NDArray[np.float32]]

__all__ = ["AROUND", "AXES", "DEEP", "PLACE", "PLAIN", "Seeing", "mean_cells"]

PLAIN, DEEP, PLACE = "handcrafted", "network", "place"
AXES = {PLAIN: 48, DEEP: 64}
AROUND = {DEEP: 3, PLAIN: 5}
"""Cells of a layer, square, over which what surrounds a patch is averaged."""
_ROWS = 60_000


class Seeing(FeatureDetector):
    """A detector that sees two families of channels, each in its principal axes.

    Attributes
    ----------
    origins_, axes_ : dict of ndarray, shapes (d,) and (d, k)
        By family: what is taken off, and the axes of most variance.
    """

    origins_: Grids
    axes_: Grids

    def _learn_axes(self, features: NDArray[np.float32]) -> None:
        self.origins_, self.axes_ = {}, {}
        for name, values in self._families(features).items():
            rows = values.reshape(-1, values.shape[-1])
            rows = rows[:: -(-len(rows) // _ROWS)].astype(np.float64)
            origin = rows.mean(axis=0)
            _, axes = np.linalg.eigh((rows - origin).T @ (rows - origin))
            self.origins_[name] = origin.astype(np.float32)
            self.axes_[name] = np.ascontiguousarray(axes[:, -AXES[name] :]).astype(np.float32)

    def _families(self, features: NDArray[np.float32]) -> Grids:
        """Split standardised features (..., d) into what each kind of member sees."""
        named = self.extractor_.fingerprint.startswith(("handcrafted", "fused_lite0"))
        cut = len(CHANNELS) if named else 0
        families = {PLAIN: features[..., :cut], DEEP: features[..., cut:]}
        return {name: values for name, values in families.items() if values.shape[-1]}

    def _seen(self, features: NDArray[np.float32]) -> Grids:
        families = self._families(features).items()
        seen: Grids = {
            name: np.matmul(values - self.origins_[name], self.axes_[name], dtype=np.float32)
            for name, values in families
        }
        if DEEP in seen:
            seen[PLACE] = smoothed(seen[DEEP])
        return seen

    def _surroundings(self, features: NDArray[np.float32]) -> Grids:
        """Return what is seen of patches (n, h, w, d), each averaged over what lies around it."""
        families = self._families(features)
        layers = {PLAIN: (), DEEP: self.layers_[PLAIN in families :]}

        def around(name: str, image: NDArray[np.float32]) -> NDArray[np.float32]:
            means = pooled(image[None], AROUND[name], layers[name])[0]
            turned: NDArray[np.float32] = np.matmul(
                means - self.origins_[name], self.axes_[name], dtype=np.float32
            )
            return turned

        names = [name for name in AROUND if name in families]
        return {name: np.stack([around(name, one) for one in families[name]]) for name in names}


def mean_cells(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean of all cells of features (n, h, w, d), shape (n, d)."""
    return np.asarray(features.mean(axis=(1, 2), dtype=np.float64))

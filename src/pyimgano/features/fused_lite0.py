"""Both extractors that need no file of the user's, side by side on one grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.features.base import EXTRACTORS, PatchFeatures
from pyimgano.features.efficientnet_lite import METADATA, EfficientNetLite0
from pyimgano.features.handcrafted import CHANNELS, Handcrafted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["FusedLite0"]


@EXTRACTORS.register(
    "fused_lite0",
    replace(METADATA, summary="The channels of handcrafted, then those of efficientnet_lite0."),
)
@dataclass(frozen=True, kw_only=True)
class FusedLite0:
    """What `Handcrafted` measures and what `EfficientNetLite0` recognises, for each cell of 8 px.

    Parameters
    ----------
    taps : tuple of int
        See `EfficientNetLite0`; the first one has stride 8.
    """

    taps: tuple[int, ...] = (4, 10)

    @property
    def fingerprint(self) -> str:
        """Those of both."""
        return f"fused_lite0 = {Handcrafted().fingerprint} + {self._deep.fingerprint}"

    @property
    def _deep(self) -> EfficientNetLite0:
        return EfficientNetLite0(taps=self.taps)

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchFeatures]:
        """Embed images, each by itself; see `EfficientNetLite0.embed` for what it raises."""
        pairs = zip(Handcrafted().embed(images), self._deep.embed(images), strict=True)
        return [
            PatchFeatures(
                np.concatenate([plain.values, deep.values], axis=2),
                deep.extent,
                ((len(CHANNELS), 1), *deep.layers),
            )
            for plain, deep in pairs
        ]

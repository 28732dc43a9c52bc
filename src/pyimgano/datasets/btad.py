"""BTAD, the beanTech anomaly detection data set."""

from __future__ import annotations

from dataclasses import dataclass

from pyimgano.datasets._layout import Layout, TreeDataset, reader

__all__ = ["BTADDataset"]

LAYOUT = Layout(
    """\
  <root>/<category>/train/ok/*.{bmp,png}          categories 01, 02, 03
  <root>/<category>/test/ok/*.{bmp,png}
  <root>/<category>/test/ko/*.{bmp,png}
  <root>/<category>/ground_truth/ko/*.{bmp,png}   same stem as the image"""
)


@reader(
    "btad",
    LAYOUT,
    summary="BTAD: three industrial products with body and surface defects, pixel masks.",
    paper="Mishra et al., VT-ADL, ISIE 2021",
    licence="CC BY-SA",
    source="https://avires.dimi.uniud.it/papers/btad/btad.zip, its README",
)
@dataclass(frozen=True, slots=True, eq=False)
class BTADDataset(TreeDataset):
    """A category of BTAD: ``01``, ``02`` or ``03``.

    Images are BMP (01, 03) or PNG (02), masks PNG (01, 02) or BMP (03); a mask has the stem of its
    image, whatever the suffix. Defective images are of the one kind ``"ko"``. Parameters,
    attributes and errors are those of `Dataset`.
    """

    _good = "ok"

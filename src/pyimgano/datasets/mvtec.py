"""MVTec AD, and every data set in its layout."""

from __future__ import annotations

from dataclasses import dataclass

from pyimgano.datasets._layout import Layout, TreeDataset, reader

__all__ = ["MVTecDataset"]

LAYOUT = Layout(
    """\
  <root>/<category>/train/good/*.png
  <root>/<category>/test/good/*.png
  <root>/<category>/test/<defect>/*.png
  <root>/<category>/ground_truth/<defect>/*_mask.png"""
)


@reader(
    "mvtec",
    LAYOUT,
    summary="MVTec AD: 15 objects and textures with pixel masks, and all in its layout.",
    paper="Bergmann et al., CVPR 2019 and IJCV 2021",
    licence="CC BY-NC-SA 4.0 (MVTec AD itself: no commercial use)",
    source="https://www.mvtec.com/company/research/datasets/mvtec-ad",
    verified="real data: MVTec AD screw, BSData ballscrew in this layout",
)
@dataclass(frozen=True, slots=True, eq=False)
class MVTecDataset(TreeDataset):
    """A category in the layout of MVTec AD.

    Any of PNG, JPEG, BMP, TIFF and WebP is read; a mask is ``<stem>_mask.*`` or ``<stem>.*``. A
    category without a folder ``ground_truth`` has no masks; with it, each defective image must
    have one. Parameters, attributes and errors are those of `Dataset`.

    Examples
    --------
    >>> screw = MVTecDataset("mvtec_ad", category="screw")  # doctest: +SKIP
    >>> len(screw.train), len(screw.test)  # doctest: +SKIP
    (320, 160)
    """

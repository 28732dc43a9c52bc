"""MPDD, painted and bare metal parts."""

from __future__ import annotations

from dataclasses import dataclass

from pyimgano.datasets._layout import Layout, TreeDataset, reader

__all__ = ["MPDDDataset"]

LAYOUT = Layout(
    """\
  <root>/<category>/train/good/*.png              bracket_black, connector, tubes ...
  <root>/<category>/test/good/*.png
  <root>/<category>/test/<defect>/*.png
  <root>/<category>/ground_truth/<defect>/*_mask.png"""
)


@reader(
    "mpdd",
    LAYOUT,
    summary="MPDD: six kinds of metal parts, with several orientations and backgrounds.",
    paper="Jezek et al., ICUMT 2021",
    licence="CC BY-NC-SA 4.0 as anomalib's reader states; see the data set's page",
    source="https://github.com/stepanje/MPDD; layout from: anomalib's reader",
)
@dataclass(frozen=True, slots=True, eq=False)
class MPDDDataset(TreeDataset):
    """A category of MPDD, which has the layout of MVTec AD.

    The data set's page describes no folders; the layout follows the description in anomalib's
    reader. Parameters, attributes and errors are those of `Dataset`.
    """

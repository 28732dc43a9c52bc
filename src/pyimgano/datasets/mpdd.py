"""MPDD, painted and bare metal parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyimgano.datasets._files import is_folder
from pyimgano.datasets._layout import Layout, read_tree
from pyimgano.datasets.base import DATASETS, Dataset
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from pathlib import Path

    from pyimgano.records import Sample

__all__ = ["MPDDDataset"]

LAYOUT = Layout(
    """\
  <root>/<category>/train/good/*.png              bracket_black, connector, tubes ...
  <root>/<category>/test/good/*.png
  <root>/<category>/test/<defect>/*.png
  <root>/<category>/ground_truth/<defect>/*_mask.png""",
    is_category=lambda folder: is_folder(folder / "train"),
)


@DATASETS.register(
    "mpdd",
    Metadata(
        summary="MPDD: six kinds of metal parts, with several orientations and backgrounds.",
        paper="Jezek et al., ICUMT 2021",
        licence="CC BY-NC-SA 4.0 as anomalib's reader states; see the data set's page",
        details=(
            ("layout", LAYOUT.text),
            ("verified", "a generated miniature, not real data"),
            ("source", "https://github.com/stepanje/MPDD; layout from: anomalib's reader"),
        ),
    ),
)
@dataclass(frozen=True, slots=True, eq=False)
class MPDDDataset(Dataset):
    """A category of MPDD, which has the layout of MVTec AD.

    The data set's page describes no folders; the layout follows the description in anomalib's
    reader. Parameters, attributes and errors are those of `Dataset`.

    References
    ----------
    Jezek, Jonak, Burget, Dvorak, Skotak: Deep learning-based defect detection of metal parts:
    evaluating current methods in complex conditions, ICUMT 2021.
    https://github.com/stepanje/MPDD (README).

    Examples
    --------
    >>> tubes = MPDDDataset("MPDD", category="tubes")  # doctest: +SKIP
    """

    @classmethod
    def categories(cls, root: Path) -> tuple[str, ...]:
        """Return the categories below ``root``; empty if ``root`` is one category itself."""
        return LAYOUT.categories(root)

    def _read(self) -> tuple[Sample, ...]:
        return read_tree(LAYOUT.find(self.root, self.category), good="good", layout=LAYOUT)

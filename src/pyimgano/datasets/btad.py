"""BTAD, the beanTech anomaly detection data set."""

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

__all__ = ["BTADDataset"]

LAYOUT = Layout(
    """\
  <root>/<category>/train/ok/*.{bmp,png}          categories 01, 02, 03
  <root>/<category>/test/ok/*.{bmp,png}
  <root>/<category>/test/ko/*.{bmp,png}
  <root>/<category>/ground_truth/ko/*.{bmp,png}   same stem as the image""",
    is_category=lambda folder: is_folder(folder / "train"),
)


@DATASETS.register(
    "btad",
    Metadata(
        summary="BTAD: three industrial products with body and surface defects, pixel masks.",
        paper="Mishra et al., VT-ADL, ISIE 2021",
        licence="CC BY-SA",
        details=(
            ("layout", LAYOUT.text),
            ("verified", "a generated miniature, not real data"),
            ("source", "https://avires.dimi.uniud.it/papers/btad/btad.zip, its README"),
        ),
    ),
)
@dataclass(frozen=True, slots=True, eq=False)
class BTADDataset(Dataset):
    """A category of BTAD: ``01``, ``02`` or ``03``.

    Images are BMP (01, 03) or PNG (02), masks PNG (01, 02) or BMP (03); a mask has the stem of its
    image, whatever the suffix. Defective images are of the one kind ``"ko"``. Parameters,
    attributes and errors are those of `Dataset`.

    References
    ----------
    Mishra, Verk, Fornasier, Piciarelli, Foresti: VT-ADL: A Vision Transformer Network for Image
    Anomaly Detection and Localization, ISIE 2021.

    Examples
    --------
    >>> BTADDataset("BTech_Dataset_transformed", category="01").info.defects  # doctest: +SKIP
    ('ko',)
    """

    @classmethod
    def categories(cls, root: Path) -> tuple[str, ...]:
        """Return the categories below ``root``; empty if ``root`` is one category itself."""
        return LAYOUT.categories(root)

    def _read(self) -> tuple[Sample, ...]:
        return read_tree(LAYOUT.find(self.root, self.category), good="ok", layout=LAYOUT)

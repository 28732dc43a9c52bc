"""MVTec AD, and every data set in its layout."""

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

__all__ = ["MVTecDataset"]

LAYOUT = Layout(
    """\
  <root>/<category>/train/good/*.png
  <root>/<category>/test/good/*.png
  <root>/<category>/test/<defect>/*.png
  <root>/<category>/ground_truth/<defect>/*_mask.png""",
    is_category=lambda folder: is_folder(folder / "train"),
)


@DATASETS.register(
    "mvtec",
    Metadata(
        summary="MVTec AD: 15 objects and textures with pixel masks, and all in its layout.",
        paper="Bergmann et al., CVPR 2019 and IJCV 2021",
        licence="CC BY-NC-SA 4.0 (MVTec AD itself: no commercial use)",
        details=(
            ("layout", LAYOUT.text),
            ("verified", "real data: MVTec AD screw, BSData ballscrew in this layout"),
            ("source", "https://www.mvtec.com/company/research/datasets/mvtec-ad"),
        ),
    ),
)
@dataclass(frozen=True, slots=True, eq=False)
class MVTecDataset(Dataset):
    """A category in the layout of MVTec AD.

    Any of PNG, JPEG, BMP, TIFF and WebP is read; a mask is ``<stem>_mask.*`` or ``<stem>.*``. A
    category without a folder ``ground_truth`` has no masks; with it, each defective image must
    have one. Parameters, attributes and errors are those of `Dataset`.

    References
    ----------
    Bergmann, Batzner, Fauser, Sattlegger, Steger: The MVTec Anomaly Detection Dataset, IJCV 2021.

    Examples
    --------
    >>> screw = MVTecDataset("mvtec_ad", category="screw")  # doctest: +SKIP
    >>> len(screw.train), len(screw.test)  # doctest: +SKIP
    (320, 160)
    """

    @classmethod
    def categories(cls, root: Path) -> tuple[str, ...]:
        """Return the categories below ``root``; empty if ``root`` is one category itself."""
        return LAYOUT.categories(root)

    def _read(self) -> tuple[Sample, ...]:
        return read_tree(LAYOUT.find(self.root, self.category), good="good", layout=LAYOUT)

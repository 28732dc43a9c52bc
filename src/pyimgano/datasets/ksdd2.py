"""KolektorSDD2: coloured surfaces with scratches, spots and imperfections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyimgano.datasets._files import is_folder, list_images
from pyimgano.datasets._layout import GOOD, Layout, marked, require
from pyimgano.datasets.base import DATASETS, Dataset
from pyimgano.records import Sample
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["KSDD2Dataset"]


def _holds_set(folder: Path) -> bool:
    train = folder / "train"
    return is_folder(train) and any(path.stem.endswith("_GT") for path in list_images(train))


LAYOUT = Layout(
    """\
  <root>/{train,test}/<number>.png
  <root>/{train,test}/<number>_GT.png             all zero: no defect""",
    is_category=_holds_set,
)


@DATASETS.register(
    "ksdd2",
    Metadata(
        summary="KolektorSDD2: one coloured production item with surface defects, pixel masks.",
        paper="Božič et al., Computers in Industry 2021",
        licence="CC BY-NC-SA 4.0",
        details=(
            ("layout", LAYOUT.text),
            ("verified", "a generated miniature, not real data"),
            (
                "source",
                (
                    "https://www.vicos.si/resources/kolektorsdd2; layout from: README, reader of "
                    "github.com/vicoslab/mixed-segdec-net-comind2021"
                ),
            ),
        ),
    ),
)
@dataclass(frozen=True, slots=True, eq=False)
class KSDD2Dataset(Dataset):
    """KolektorSDD2, in its published split.

    Its training images include defective ones: ``train`` holds those whose mask is empty, the
    others are `train_defects`. All masks are decoded when the set is listed. Parameters,
    attributes and errors are those of `Dataset`; ``category`` is the folder of the set, if
    ``root`` is the one above it.

    References
    ----------
    Božič, Tabernik, Skočaj: Mixed supervision for surface-defect detection: from weakly to fully
    supervised learning, Computers in Industry 129, 2021.

    Examples
    --------
    >>> items = KSDD2Dataset("KolektorSDD2")  # doctest: +SKIP
    """

    @classmethod
    def categories(cls, root: Path) -> tuple[str, ...]:
        """Return empty if ``root`` holds train and test, or the names of the folders that do."""
        return LAYOUT.categories(root)

    def _read(self) -> tuple[Sample, ...]:
        folder = LAYOUT.find(self.root, self.category)
        return tuple(
            Sample(
                image,
                split=split,
                category=folder.name,
                defect=GOOD if mask is None else "defect",
                label=int(mask is not None),
                mask_path=mask,
            )
            for split in ("train", "test")
            for image, mask in marked(require(folder / split, LAYOUT), "_GT")
        )

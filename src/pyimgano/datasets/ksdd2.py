"""KolektorSDD2: coloured surfaces with scratches, spots and imperfections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyimgano.datasets._files import is_folder, list_images
from pyimgano.datasets._layout import Layout, LayoutDataset, marked, reader, require

if TYPE_CHECKING:
    from pathlib import Path

    from pyimgano.records import Sample

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


@reader(
    "ksdd2",
    LAYOUT,
    summary="KolektorSDD2: one coloured production item with surface defects, pixel masks.",
    paper="Božič et al., Computers in Industry 2021",
    licence="CC BY-NC-SA 4.0",
    source=(
        "https://www.vicos.si/resources/kolektorsdd2; layout from: README, reader of "
        "github.com/vicoslab/mixed-segdec-net-comind2021"
    ),
)
@dataclass(frozen=True, slots=True, eq=False)
class KSDD2Dataset(LayoutDataset):
    """KolektorSDD2, in its published split.

    Its training images include defective ones: ``train`` holds those whose mask is empty, the
    others are `train_defects`. All masks are decoded when the set is listed. Parameters,
    attributes and errors are those of `Dataset`; ``category`` is the folder of the set, if
    ``root`` is the one above it.
    """

    def _read(self) -> tuple[Sample, ...]:
        folder = self._folder()
        return tuple(
            sample
            for split in ("train", "test")
            for sample in marked(
                require(folder / split, LAYOUT), "_GT", split=split, category=folder.name
            )
        )

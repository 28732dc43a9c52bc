"""KolektorSDD: cracks on the plastic of electrical commutators."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyimgano.datasets._files import sub_folders
from pyimgano.datasets._layout import Layout, LayoutDataset, marked, reader
from pyimgano.errors import DatasetError, ParameterError

if TYPE_CHECKING:
    from pathlib import Path

    from pyimgano.records import Sample

__all__ = ["KSDDDataset"]

FOLDS = 3


def _parts(folder: Path) -> list[Path]:
    return [path for path in sub_folders(folder) if re.fullmatch(r"kos[0-9]+", path.name)]


LAYOUT = Layout(
    """\
  <root>/kos<number>/Part<number>.jpg             one folder a physical part
  <root>/kos<number>/Part<number>_label.bmp       all zero: no defect""",
    is_category=lambda folder: bool(_parts(folder)),
)


@reader(
    "ksdd",
    LAYOUT,
    summary="KolektorSDD: electrical commutators, several images a part, pixel masks.",
    paper="Tabernik et al., Journal of Intelligent Manufacturing 2020",
    licence="CC BY-NC-SA 4.0",
    source=(
        "https://www.vicos.si/resources/kolektorsdd; layout from: README, reader of "
        "github.com/vicoslab/mixed-segdec-net-comind2021, and anomalib's reader"
    ),
)
@dataclass(frozen=True, slots=True, eq=False)
class KSDDDataset(LayoutDataset):
    """KolektorSDD, one fold of three; attributes and errors are those of `Dataset`.

    The makers cross-validate over three folds of parts, which they publish as pickles; those are
    not read. The folds here are the three contiguous thirds of the parts in natural order, so
    figures are not comparable with those of the published folds to the last digit. The images of
    a part share a group and stay together. What an image is, its mask decides: all masks are
    decoded when the set is listed. Defective images of the training parts are `train_defects`.

    Parameters
    ----------
    root, category
        The folder of the parts, or the one above it and the name of the folder.
    fold : int
        Which third of the parts is for the test: 0, 1 or 2.
    """

    fold: int = field(default=0, kw_only=True)

    def _read(self) -> tuple[Sample, ...]:
        if self.fold not in range(FOLDS):
            raise ParameterError(f"fold must be 0, 1 or 2, got {self.fold!r}")
        folder = self._folder()
        parts = _parts(folder)
        if len(parts) < FOLDS:
            raise DatasetError(f"{folder} holds {len(parts)} parts; {FOLDS} folds need {FOLDS}")
        tests = [number * FOLDS // len(parts) == self.fold for number in range(len(parts))]
        return tuple(
            sample
            for part, test in zip(parts, tests, strict=True)
            for sample in marked(
                part,
                "_label",
                split="test" if test else "train",
                category=folder.name,
                group=part.name,
            )
        )

"""KolektorSDD: cracks on the plastic of electrical commutators."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyimgano.datasets._files import sub_folders
from pyimgano.datasets._layout import GOOD, Layout, marked
from pyimgano.datasets.base import DATASETS, Dataset
from pyimgano.errors import DatasetError, ParameterError
from pyimgano.records import Sample
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from pathlib import Path

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


@DATASETS.register(
    "ksdd",
    Metadata(
        summary="KolektorSDD: electrical commutators, several images a part, pixel masks.",
        paper="Tabernik et al., Journal of Intelligent Manufacturing 2020",
        licence="CC BY-NC-SA 4.0",
        details=(
            ("layout", LAYOUT.text),
            ("verified", "a generated miniature, not real data"),
            (
                "source",
                (
                    "https://www.vicos.si/resources/kolektorsdd; layout from: README, reader of "
                    "github.com/vicoslab/mixed-segdec-net-comind2021, and anomalib's reader"
                ),
            ),
        ),
    ),
)
@dataclass(frozen=True, slots=True, eq=False)
class KSDDDataset(Dataset):
    """KolektorSDD, one fold of three.

    The makers cross-validate over three folds of parts, which they publish as pickles; those are
    not read. The folds here are the three contiguous thirds of the parts in natural order, so
    figures are not comparable with those of the published folds to the last digit. The images of
    a part share a group and stay together. What an image is, its mask decides: all masks are
    decoded when the set is listed. Defective images of the training parts are `train_defects`.

    Parameters
    ----------
    root : Path or str
        The folder of the parts, or the one above it.
    category : str, optional
        Name of the folder of the parts, if ``root`` is the one above it.
    fold : int
        Which third of the parts is for the test: 0, 1 or 2.

    Raises
    ------
    ParameterError
        If there is no such fold.

    Notes
    -----
    Attributes and further errors are those of `Dataset`.

    References
    ----------
    Tabernik, Šela, Skvarč, Skočaj: Segmentation-based deep-learning approach for surface-defect
    detection, Journal of Intelligent Manufacturing 31, 2020.

    Examples
    --------
    >>> folds = [KSDDDataset("KolektorSDD", fold=number) for number in range(3)]  # doctest: +SKIP
    """

    fold: int = field(default=0, kw_only=True)

    @classmethod
    def categories(cls, root: Path) -> tuple[str, ...]:
        """Return empty if ``root`` holds the parts, or the names of the folders that do."""
        return LAYOUT.categories(root)

    def _read(self) -> tuple[Sample, ...]:
        if self.fold not in range(FOLDS):
            raise ParameterError(f"fold must be 0, 1 or 2, got {self.fold!r}")
        folder = LAYOUT.find(self.root, self.category)
        parts = _parts(folder)
        if len(parts) < FOLDS:
            raise DatasetError(f"{folder} holds {len(parts)} parts; {FOLDS} folds need {FOLDS}")
        return tuple(
            Sample(
                image,
                split="test" if number * FOLDS // len(parts) == self.fold else "train",
                category=folder.name,
                defect=GOOD if mask is None else "defect",
                label=int(mask is not None),
                mask_path=mask,
                group=part.name,
            )
            for number, part in enumerate(parts)
            for image, mask in marked(part, "_label")
        )

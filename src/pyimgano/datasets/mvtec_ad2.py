"""MVTec AD 2, whose private test images have no labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pyimgano.datasets._files import is_folder, list_images
from pyimgano.datasets._layout import Layout, LayoutDataset, read_kind, reader, require, unwrapped
from pyimgano.records import Sample

__all__ = ["MVTecAD2Dataset"]

LAYOUT = Layout(
    """\
  <root>/<category>/train/good/*.png              also <root>/<category>/<category>/...
  <root>/<category>/validation/good/*.png
  <root>/<category>/test_public/{good,bad}/*.png
  <root>/<category>/test_public/ground_truth/bad/*_mask.png
  <root>/<category>/test_private/*.png            optional, no labels
  <root>/<category>/test_private_mixed/*.png      optional, no labels""",
    is_category=lambda folder: is_folder(unwrapped(folder) / "test_public"),
)


@reader(
    "mvtec_ad2",
    LAYOUT,
    summary="MVTec AD 2: 8 objects under changing light; labels of the public test only.",
    paper="Heckler-Kram et al., arXiv 2503.21622",
    licence="CC BY-NC-SA 4.0",
    source=(
        "https://www.mvtec.com/company/research/datasets/mvtec-ad-2; layout from: anomalib's reader"
    ),
)
@dataclass(frozen=True, slots=True, eq=False)
class MVTecAD2Dataset(LayoutDataset):
    """A category of MVTec AD 2; the layout follows the description in anomalib's reader.

    ``test`` is the public test set. The good images for validation, from which a threshold may be
    set, are ``part("validation")``. The private test images, which the makers' server judges, are
    ``part("test_private")`` and ``part("test_private_mixed")``: they have no label and can only
    be predicted on. Parameters, attributes and errors are those of `Dataset`.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("validation", "test_private", "test_private_mixed")

    def _read(self) -> tuple[Sample, ...]:
        found = self._folder()
        category, folder = found.name, unwrapped(found)
        public = folder / "test_public"
        samples: list[Sample] = []
        for split, kind in (
            ("train", folder / "train" / "good"),
            ("validation", folder / "validation" / "good"),
            ("test", public / "good"),
        ):
            samples += read_kind(require(kind, LAYOUT), split=split, category=category)
        bad, masks = require(public / "bad", LAYOUT), public / "ground_truth" / "bad"
        samples += read_kind(bad, split="test", category=category, defect="bad", masks=masks)
        for split in self.SPLITS[1:]:
            images = list_images(folder / split) if is_folder(folder / split) else []
            samples += (Sample(path, split, category, "unknown") for path in images)
        return tuple(samples)

"""What configurations are compared on: good images, and defective ones or planted defects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.ahead import prefetch
from pyimgano.atomic import output_errors, write_atomic
from pyimgano.datasets._sources import as_sources
from pyimgano.errors import ImageError, InputError
from pyimgano.maps.overlay import encode_png
from pyimgano.records import DEFECT, GOOD, Sample
from pyimgano.synthesis.graded import CONTRASTS, GRADED, find_part, plant_graded
from pyimgano.views.align import Align
from pyimgano.views.base import Whole
from pyimgano.views.intake import learn
from pyimgano.views.looks import measure, near_groups

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pyimgano.views.intake import Goods

__all__ = ["HALVED_FROM", "Case", "make_case", "planted_case"]

HALVED_FROM = 20  # parts of each kind from which one half chooses and the other reports
_BLOCKS = 5
_SIZES = (0.04, 0.15)  # of the shorter side, smallest and largest planted defect


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Good images to learn from, defective ones to judge, and which of them may choose.

    Parameters
    ----------
    learned : tuple of Path
        Good images that are learned from, in capture order.
    goods, bad : tuple of Sample
        Those that are judged. Without planted defects the goods are the learned ones, each judged
        by a model that has not seen it; else those in which defects were planted, as they were.
    everything : tuple of Path
        All good images, which the model that is kept learns from.
    groups : ndarray of int64, shape (n,)
        Of goods, then bad: images that say one thing together, copies and near copies.
    choosing : ndarray of bool, shape (n,)
        Those that choose; the others report. All, where they are too few to be split.
    planted : bool
        Whether the defects were drawn.
    pose : str
        Why parts are aligned, or are not.
    aligns : bool
        Whether alignment changes anything.
    """

    learned: tuple[Path, ...]
    goods: tuple[Sample, ...]
    bad: tuple[Sample, ...]
    everything: tuple[Path, ...]
    groups: NDArray[np.int64]
    choosing: NDArray[np.bool_]
    planted: bool
    pose: str
    aligns: bool

    @property
    def labels(self) -> NDArray[np.int64]:
        """0 of the goods, 1 of the bad, shape (n,)."""
        return np.repeat([GOOD, DEFECT], [len(self.goods), len(self.bad)])

    @property
    def to_judge(self) -> int:
        """How many images a model judges that has learned: those it did not learn from."""
        return len(self.bad) + len(self.goods) * self.planted

    @property
    def halved(self) -> bool:
        """Whether some images did not choose."""
        return not self.choosing.all()


def make_case(images: Sequence[Path], bad: Sequence[Sample], seed: int) -> Case:
    """Compare on defective images of one's own.

    Raises
    ------
    InputError
        If more than 5 % of the good images cannot be read, or one is given as a defect, too.
    """
    goods = learn(as_sources(images), any_size=False, bit_depth=None)
    looks = list(prefetch(measure, [sample.path for sample in bad]))
    read = [look for look in looks if not isinstance(look, ImageError)]
    known = set(goods.hashes)
    twice = [look.name for look in read if look.digest in known]
    if twice:
        raise InputError(f"{twice[0]} is given as a defect and as a good image: decide which it is")
    near = iter(near_groups(read, goods.images.intake.white).tolist())
    alone = iter(range(len(read), len(read) + len(looks)))
    told = [next(alone) if isinstance(look, ImageError) else next(near) for look in looks]
    group_of = dict(zip(map(str, goods.images.sources), goods.groups, strict=True))
    samples = [Sample(path, split="train", label=GOOD) for path in images]
    names = [group_of.get(str(path), str(path)) for path in images]
    return _case(goods, (samples, bad), (names, told), (images, seed), planted=False)


def planted_case(images: Sequence[Path], folder: Path, seed: int) -> Case:
    """Compare on defects that are planted in the last fifth of the good images.

    The fifth is learned from by none of the models that judge it. Of each kind one defect is
    planted in each image, of random size, contrast and place; the images and their masks are
    written into ``folder``.

    Raises
    ------
    InputError
        If there are fewer than five good images, or too many cannot be read.
    """
    goods = learn(as_sources(images), any_size=False, bit_depth=None)
    parts = list(dict.fromkeys(goods.groups))
    if len(parts) < _BLOCKS:
        raise InputError(
            f"{len(parts)} good images are too few to plant defects in a fifth of them: give "
            "images of defects with --bad, or more good ones"
        )
    last = set(parts[len(parts) - len(parts) // _BLOCKS :])
    held = [i for i, group in enumerate(goods.groups) if group in last]
    kept = [i for i, group in enumerate(goods.groups) if group not in last]
    with output_errors(folder):
        pairs = [(one, goods.groups[i]) for i in held for one in _plant(goods, i, folder, seed)]
    pairs.sort(key=lambda pair: str(pair[0].path))
    sources = goods.images.sources
    shown = [Sample(sources[i], split="test", label=GOOD) for i in held], [one for one, _ in pairs]
    names = [goods.groups[i] for i in held], [name for _, name in pairs]
    return _case(goods.take(kept), shown, names, (images, seed), planted=True)


def _case(
    goods: Goods,
    shown: tuple[Sequence[Sample], Sequence[Sample]],
    names: tuple[Sequence[Any], Sequence[Any]],
    given: tuple[Sequence[Path], int],
    *,
    planted: bool,
) -> Case:
    """Put a case together: what is learned from, judged, grouped, and what was given."""
    everything, seed = given
    numbers: dict[tuple[int, Any], int] = {}
    keys = [
        (label, name) for label, found in zip((GOOD, DEFECT), names, strict=True) for name in found
    ]
    groups = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
    kinds = [*[""] * len(shown[0]), *(sample.defect for sample in shown[1])]
    sight = Align("auto").learn(goods.images)
    return Case(
        learned=tuple(goods.images.sources if planted else everything),
        goods=tuple(shown[0]),
        bad=tuple(shown[1]),
        everything=tuple(everything),
        groups=groups,
        choosing=_choosing(groups, len(shown[0]), kinds, seed),
        planted=planted,
        pose=sight.describe().get("alignment", ""),
        aligns=not isinstance(sight, Whole),
    )


def _choosing(
    groups: NDArray[np.int64], n_good: int, kinds: Sequence[str], seed: int
) -> NDArray[np.bool_]:
    """Let chance decide which of two neighbours of one kind chooses; a group stays together."""
    if min(np.unique(part).size for part in (groups[:n_good], groups[n_good:])) < HALVED_FROM:
        return np.ones(len(groups), np.bool_)
    kind_of = dict(zip(groups.tolist()[::-1], reversed(kinds), strict=True))
    rng = np.random.default_rng(seed)
    chosen = set[int]()
    for kind in sorted(set(kind_of.values())):
        members = [group for group in dict.fromkeys(groups.tolist()) if kind_of[group] == kind]
        for i in range(0, len(members), 2):
            chosen.update(members[i : i + 2][int(rng.integers(2)) :][:1])
    return np.isin(groups, sorted(chosen))


def _plant(goods: Goods, place: int, folder: Path, seed: int) -> list[Sample]:
    image = goods.images[place]
    part = find_part(image)
    low, high = (max(3.0, share * min(image.shape[:2])) for share in _SIZES)
    samples = []
    for number, kind in enumerate(GRADED):
        if kind == "chip" and part.all():
            continue  # there is no edge that it could be at
        rng = np.random.default_rng((seed, place, number))
        size, contrast = float(np.exp(rng.uniform(*np.log((low, high))))), rng.choice(CONTRASTS[1:])
        planted, mask = plant_graded(image, part, kind, size, float(contrast), rng)
        path, drawn = (home / kind / f"{place:05d}.png" for home in (folder, folder / "masks"))
        for target, pixels in ((path, planted), (drawn, mask * np.uint8(255))):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(target, encode_png(pixels))
        samples.append(Sample(path, split="test", defect=kind, label=DEFECT, mask_path=drawn))
    return samples

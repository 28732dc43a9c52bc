"""Alignment: what is found, what is refused, and that maps find their way back."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

import fakes
from pyimgano.detector_contract import DETECTOR_CHECKS, PLANTED, SIDE, Bench, _plant, texture
from pyimgano.errors import ArchiveError, ImageError, InputError, ParameterError
from pyimgano.inspection import Verdict
from pyimgano.models import create_detector
from pyimgano.synthesis import DEFECTS, plant, render_part
from pyimgano.views.align import Align
from pyimgano.views.aligned import Aligned, Look
from pyimgano.views.base import Whole
from pyimgano.views.intake import Images, Intake

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WIDE = SIDE
FINE = 3


def wedge(
    seed: int, turn: float | None = None, *, mark: bool = False, neighbour: bool = False
) -> tuple[Any, Any]:
    """Render a long part, its light, and where a defect lies on it; at any angle, anywhere.

    A ``neighbour`` reaches into the image, and its shadow touches the part.
    """
    rng = np.random.default_rng(seed)
    canvas = np.full((300, 300), 60.0, np.float32)
    outline = np.array([[58, 108], [140, 118], [222, 126], [222, 138], [140, 146], [58, 156]])
    cv2.fillPoly(canvas, [outline], 150)
    for x in range(84, 216, 18):
        cv2.line(canvas, (x, 122), (x + 5, 142), 95, 3)
    cv2.circle(canvas, (74, 132), 10, 70, -1)
    spot = np.zeros_like(canvas)
    cv2.circle(spot, (165, 132), 11, 1, -1)
    if neighbour:
        cv2.rectangle(canvas, (0, 118), (50, 146), 120, -1)
        cv2.rectangle(canvas, (50, 112), (58, 150), 105, -1)
    if mark:
        canvas[spot > 0] = 240
    pose = cv2.getRotationMatrix2D((140, 132), rng.uniform(0, 360) if turn is None else turn, 1.0)
    pose[:, 2] += np.array([-14, -6]) + rng.uniform(-9, 9, 2)
    size = (FINE * WIDE, FINE * WIDE)
    big = [
        cv2.warpAffine(each, pose, size, borderMode=cv2.BORDER_REPLICATE) for each in (canvas, spot)
    ]
    image, where = (cv2.resize(each, (WIDE, WIDE), interpolation=cv2.INTER_AREA) for each in big)
    image = image * rng.uniform(0.9, 1.1) + rng.normal(0, 3, image.shape)
    rgb = np.repeat(np.clip(image, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return rgb, where > 0.5


def images(given: list[Any]) -> Images:
    sizes = tuple({one.shape[:2] for one in given})
    return Images(given, Intake(sizes))


def noise(seed: int) -> NDArray[np.uint8]:
    drawn = np.random.default_rng(seed).normal(0, 60, (96, 96, 3))
    return np.clip(cv2.GaussianBlur(drawn, (0, 0), 1.5) * 3 + 128, 0, 255).astype(np.uint8)


def other(seed: int) -> NDArray[np.uint8]:
    """Render a part with the area of a wedge, but another outline."""
    drawn = np.full((WIDE, WIDE), 60, np.uint8)
    middle, area = WIDE // 2, np.count_nonzero(wedge(seed, turn=0.0)[0][..., 0] > 90)
    arm = round(math.sqrt(area / 5))
    drawn[middle - arm // 2 : middle + arm // 2, middle - 3 * arm // 2 : middle + 3 * arm // 2] = (
        150
    )
    drawn[middle - 3 * arm // 2 : middle + 3 * arm // 2, middle - arm // 2 : middle + arm // 2] = (
        150
    )
    return cv2.cvtColor(np.roll(drawn, seed, 0), cv2.COLOR_GRAY2RGB)


def ring(radius: int) -> NDArray[np.uint8]:
    drawn = np.full((WIDE, WIDE, 3), 60, np.uint8)
    return cv2.circle(drawn, (WIDE // 2, WIDE // 2), radius, (150, 150, 150), 4)


def flange(seed: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(render_part(np.random.default_rng(seed), (128, 128)).image)


@pytest.fixture(scope="module")
def turned() -> Aligned:
    learned = Align("rotate").learn(images([wedge(i)[0] for i in range(16)]))
    assert isinstance(learned, Aligned)
    return learned


def test_parts_at_any_angle_come_to_one_pose(turned: Aligned) -> None:
    """Where the spot of each part lands is the truth; out of sample they agree to a pixel."""
    places = []
    for seed in range(100, 130):
        image, spot = wedge(seed)
        seen = turned.see(image)
        assert seen.image.shape[:2] == turned.size((WIDE, WIDE))
        places.append(np.argwhere(seen.back.carry(spot)).mean(axis=0))
    assert np.std(places, axis=0).max() < 1.0
    assert np.abs(np.array(places) - np.median(places, axis=0)).max() < 3.0


def test_a_map_is_carried_back_to_where_it_was_seen(turned: Aligned) -> None:
    image, spot = wedge(200)
    back = turned.see(image).back
    drawn = back.restore(back.carry(spot).astype(np.float32) * 5)
    assert drawn.shape == spot.shape
    assert drawn.dtype == np.float32
    assert ((drawn > 2.5) & spot).sum() > 0.9 * spot.sum()
    assert ((drawn > 2.5) & ~spot).sum() < 0.1 * spot.sum()


def test_what_was_not_seen_gets_the_lowest_value(turned: Aligned) -> None:
    image, _ = wedge(201)
    back = turned.see(image).back
    shape = turned.size((WIDE, WIDE))
    assert back.restore(np.full(shape, 3, np.float32)).min() == 0
    assert back.restore(np.full(shape, -3, np.float32)).min() == -3


def test_a_mark_is_no_reason_to_refuse_and_another_part_is(turned: Aligned) -> None:
    for seed in range(300, 310):
        turned.see(wedge(seed, mark=True)[0])
    for wrong in (flange(1), noise(1), wedge(5)[0][:, : WIDE // 3]):
        with pytest.raises(ImageError, match=r"does not align: residual 0\.\d\d, good images up"):
            turned.see(wrong)


def test_what_is_overexposed_is_refused_for_that(turned: Aligned) -> None:
    bright = np.clip(wedge(310)[0].astype(int) * 5, 0, 255).astype(np.uint8)
    with pytest.raises(ImageError, match=r"\d\d % of it is black or white: is the exposure right"):
        turned.see(bright)


def test_a_neighbour_whose_shadow_touches_the_part_is_no_reason_to_refuse(turned: Aligned) -> None:
    """The centre of both is not the part's; of 24 one is refused, and were 13."""
    places = []
    for seed in range(400, 424):
        image, spot = wedge(seed, neighbour=True)
        if turned.find(Look.of(image, turned.scale))[1] <= turned.limit:
            places.append(np.argwhere(turned.see(image).back.carry(spot)).mean(axis=0))
    assert len(places) >= 23
    assert np.abs(np.array(places) - np.median(places, axis=0)).max() < 3.0


@pytest.mark.parametrize("kind", DEFECTS)
def test_generated_defects_are_no_reason_to_refuse(kind: str) -> None:
    learned = Align("shift").learn(images([flange(i) for i in range(12)]))
    for seed in range(50, 54):
        rng = np.random.default_rng(seed)
        part = render_part(rng, (128, 128))
        learned.see(plant(part.image, part.mask, kind, rng, severity=2.0)[0])


def test_auto_turns_parts_that_lie_at_any_angle() -> None:
    learned = Align().learn(images([wedge(i)[0] for i in range(16)]))
    assert isinstance(learned, Aligned)
    assert learned.how == "rotate"
    assert "elongation" in learned.describe()["alignment"]


def test_auto_leaves_parts_that_are_moved_a_little() -> None:
    """PatchCore finds fewer defects on resampled images of the generated flange than without."""
    learned = Align().learn(images([flange(i) for i in range(16)]))
    assert isinstance(learned, Whole)
    assert "all parts lie at about one angle" in learned.describe()["alignment"]


def test_auto_turns_a_part_that_is_round_but_has_features() -> None:
    goods = []
    for i in range(16):
        pose = cv2.getRotationMatrix2D((63.5, 63.5), 360 * i / 16 + 3, 1.0)
        goods.append(cv2.warpAffine(flange(i), pose, (128, 128), borderMode=cv2.BORDER_REFLECT_101))
    learned = Align().learn(images(goods))
    assert isinstance(learned, Aligned)
    assert learned.how == "rotate"


def test_auto_turns_them_though_one_does_not_match_and_skips_that(named_fakes: Path) -> None:
    odd = [other(i) for i in range(2)]
    few = [*GOODS[:10], odd[0]]
    fitted = create_detector("vision_patchcore", extractor="tiny", size=96, view=Align())
    fitted.fit(few)
    assert fitted.view_.describe()["alignment"].startswith("rotate, because")
    ((_, reason),) = fitted.skipped_
    assert "does not align" in reason
    learned = Align().learn(images([*few, odd[1]]))
    assert "2 of 12 refused" in learned.describe()["alignment"]


def test_what_is_skipped_is_not_called_odd_and_learned_from(named_fakes: Path) -> None:
    bright = np.clip(other(0).astype(int) + 100, 0, 255).astype(np.uint8)
    for view, skipped in ((Align("off"), 0), (Align(), 1)):
        fitted = create_detector("vision_patchcore", extractor="tiny", size=96, view=view)
        fitted.fit([*GOODS[:12], bright])
        assert len(fitted.skipped_) == skipped
        assert len([why for _, why in fitted.odd_ if "exposure" in why]) == 1 - skipped


@pytest.mark.parametrize("radius", [8, 40])
def test_one_part_of_another_size_is_refused_and_the_others_are_turned(radius: int) -> None:
    rings = [ring(radius), ring(radius + 3)]
    learned = Align().learn(images([*GOODS[:12], rings[0]]))
    assert isinstance(learned, Aligned)
    with pytest.raises(ImageError, match="does not align"):
        learned.see(rings[0])
    assert isinstance(Align().learn(images([*GOODS[:12], *rings])), Whole)


@pytest.mark.parametrize(
    ("goods", "reason"),
    [
        ([noise(i) for i in range(12)], "no part stands out"),
        ([texture(i) for i in range(12)], "match as they are"),
        ([wedge(i)[0] for i in range(5)], "5 good images are too few"),
    ],
)
def test_auto_stays_off_where_it_does_not_help(goods: list[Any], reason: str) -> None:
    learned = Align().learn(images(goods))
    assert isinstance(learned, Whole)
    assert reason in learned.describe()["alignment"]


def test_a_plain_background_without_a_part_is_left_alone_or_refused() -> None:
    rng = np.random.default_rng(0)
    plain = [np.clip(rng.normal(120, 4, (96, 96, 3)), 0, 255).astype(np.uint8) for _ in range(12)]
    assert isinstance(Align().learn(images(plain)), Whole)


def test_a_shift_that_was_found_does_not_change_what_is_found_next() -> None:
    """OpenCV's phaseCorrelate overwrites its images where their sides suit the transform."""
    goods = [cv2.resize(wedge(i, turn=0.0)[0], (256, 256)) for i in range(8)]
    learned = Align("shift").learn(images(goods))
    assert isinstance(learned, Aligned)
    before = [level.image.copy() for level in learned.levels]
    looks = [Look.of(image, learned.scale) for image in goods]
    first, again = ([learned.find(look) for look in looks] for _ in range(2))
    for (pose, wrong), (same, equally) in zip(first, again, strict=True):
        np.testing.assert_array_equal(pose, same)
        assert wrong == equally
    for level, image in zip(learned.levels, before, strict=True):
        np.testing.assert_array_equal(level.image, image)


def test_a_shift_beyond_the_good_ones_is_refused() -> None:
    goods = [flange(i) for i in range(12)]
    learned = Align("shift").learn(images(goods))
    far = cv2.warpAffine(
        goods[0], np.float32([[1, 0, 24], [0, 1, 0]]), (128, 128), borderMode=cv2.BORDER_REFLECT_101
    )
    with pytest.raises(ImageError, match=r"does not align: (\d+ px of its border|residual)"):
        learned.see(far)


def test_what_does_not_match_has_no_say_in_how_far_parts_may_move() -> None:
    goods = [flange(i) for i in range(12)]
    far = cv2.copyMakeBorder(goods[0], 0, 0, 40, 0, cv2.BORDER_REFLECT_101)[:, :128]
    far[:, 64:] = noise(1)[0, 0]
    alone = Align("shift").learn(images(goods))
    beside = Align("shift").learn(images([*goods, far]))
    assert isinstance(alone, Aligned)
    assert isinstance(beside, Aligned)
    assert beside.find(Look.of(far, beside.scale))[1] > beside.limit
    assert beside.room == pytest.approx(alone.room, abs=1)


def test_one_good_image_is_its_own_template() -> None:
    learned = Align("rotate").learn(images([wedge(0)[0]]))
    learned.see(wedge(7)[0])
    assert learned.describe()["alignment"].startswith("rotate, as asked for")


def test_unknown_alignments_are_refused() -> None:
    with pytest.raises(ParameterError, match="auto, off, shift, rotate; got 'turn'"):
        Align("turn")
    with pytest.raises(ParameterError, match="view must be a view"):
        fakes.CellDetector(view=3).fit([texture(i) for i in range(3)])
    assert isinstance(Align("off").learn(images([noise(0)])), Whole)


GOODS = [wedge(i)[0] for i in range(24)]


# In a detector ------------------------------------------------------------------------------


class TurnedBench(Bench):
    """The bench of the contract with parts at any angle; the check of maps is below."""

    @cached_property
    def good(self) -> list[Any]:
        return GOODS

    @cached_property
    def fresh(self) -> list[Any]:
        return [wedge(1000 + i)[0] for i in range(12)]

    @cached_property
    def bad(self) -> list[Any]:
        return [wedge(2000 + i, mark=True)[0] for i in range(8)]


@pytest.fixture(scope="module")
def bench(named_fakes: Path) -> TurnedBench:
    return TurnedBench(
        lambda: create_detector("vision_patchcore", extractor="tiny", size=96, view=Align("rotate"))
    )


@pytest.mark.parametrize("check", [name for name in DETECTOR_CHECKS if name != "maps"])
def test_a_detector_that_aligns_keeps_the_contract(bench: TurnedBench, check: str) -> None:
    DETECTOR_CHECKS[check](bench)


def test_the_peak_lies_on_the_defect_in_the_pixels_of_the_image(bench: TurnedBench) -> None:
    for seed in range(2000, 2008):
        image, spot = wedge(seed, mark=True)
        drawn = bench.fitted.get_anomaly_map(image)
        assert drawn.shape == spot.shape
        near = cv2.dilate(spot.astype(np.uint8), np.ones((13, 13), np.uint8))
        assert near[np.unravel_index(int(drawn.argmax()), drawn.shape)]


def test_what_was_judged_is_the_turned_frame_around_the_part(bench: TurnedBench) -> None:
    for seed in (2000, 2001, 2002):
        image, spot = wedge(seed, mark=True)
        (one,) = bench.fitted.inspect([image])
        assert one.seen.shape == spot.shape
        assert one.seen[spot].all()
        assert not one.map[
            ~cv2.dilate(one.seen.astype(np.uint8), np.ones((3, 3))).astype(bool)
        ].any()
        (frame,), _ = cv2.findContours(
            one.seen.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        sides = sorted(cv2.minAreaRect(frame)[1])
        expected = sorted(bench.fitted.view_.size(image.shape[:2]))
        assert np.abs(np.array(sides) - expected).max() < 0.05 * WIDE


def test_what_does_not_align_is_an_error_and_never_a_verdict(bench: TurnedBench) -> None:
    other = cv2.resize(flange(3), (WIDE, WIDE))
    found = list(bench.fitted.inspect([other, bench.bad[0]]))
    assert [one.verdict for one in found] == [Verdict.ERROR, Verdict.NG]
    assert "does not align" in found[0].error


def test_goods_that_do_not_align_are_skipped_and_named(named_fakes: Path) -> None:
    goods = [*GOODS, cv2.resize(flange(3), (WIDE, WIDE))]
    fitted = create_detector("vision_patchcore", extractor="tiny", size=96, view=Align("rotate"))
    fitted.fit(goods)
    ((_, reason),) = fitted.skipped_
    assert "does not align" in reason
    assert len(fitted.decision_scores_) == len(fitted.hashes_) == 24
    with pytest.raises(InputError, match="does not align"):
        fitted.fit([*GOODS[:8], *(cv2.resize(flange(i), (WIDE, WIDE)) for i in range(2))])


def test_alignment_makes_defects_stand_out(bench: TurnedBench) -> None:
    """Out of sample: the least defect against the worst good part, with and without."""
    plain = create_detector("vision_patchcore", extractor="tiny", size=96).fit(bench.good)
    gaps = []
    for detector in (bench.fitted, plain):
        good, bad = (detector.decision_function(each) for each in (bench.fresh, bench.bad))
        gaps.append(float(np.median(bad) / np.median(good)))
    assert gaps[0] > gaps[1]


def test_the_model_tells_how_it_is_aligned(bench: TurnedBench) -> None:
    assert bench.fitted.learned()["alignment"].startswith("rotate, as asked for; sees ")


def test_calibration_looks_through_the_same_view(bench: TurnedBench) -> None:
    fitted = bench.factory().fit(bench.good[:12], calibration=bench.good[12:])
    same = fitted.decision_function(bench.good[12:])
    assert np.allclose(same, fitted.decision_scores_, rtol=1e-5)


def test_a_view_of_everything_changes_nothing(named_fakes: Path, tmp_path: Path) -> None:
    made = [fakes.CellDetector(), fakes.CellDetector(view=Align("off"))]
    goods, bad = [texture(i) for i in range(6)], [_plant(texture(9))]
    scores = [one.fit(goods).decision_function(bad)[0] for one in made]
    assert scores[0] == scores[1]
    drawn = made[0].get_anomaly_map(bad[0])
    assert np.array_equal(drawn, made[0]._infer(bad)[0].map)
    assert drawn.shape == (SIDE, SIDE)
    assert math.isfinite(sum(PLANTED))


def test_a_model_file_with_a_torn_template_is_refused(bench: TurnedBench, tmp_path: Path) -> None:
    from pyimgano.archive import read_archive, write_archive

    path = tmp_path / "model.pyimg"
    bench.fitted.save(path)
    manifest, arrays = read_archive(path)
    assert "view_.template" in arrays
    del arrays["view_.template"]
    kept = {k: v for k, v in manifest.items() if k not in {"kind", "format", "arrays"}}
    write_archive(path, kept, arrays)
    with pytest.raises(ArchiveError, match=r"view_\.template"):
        type(bench.fitted).load(path)

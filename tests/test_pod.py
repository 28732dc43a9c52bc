"""Planted defects of a stated size, and what a model finds of them."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cli_calls import SMALL, call, write_parts
from pyimgano.errors import CalibrationError, InputError, NotFittedError, ParameterError
from pyimgano.images import read_image
from pyimgano.models.anomalydino import AnomalyDINO
from pyimgano.models.patchcore import PatchCore
from pyimgano.runs.pod import Planted, detection, without_last_block
from pyimgano.runs.pod_page import write_detection
from pyimgano.synthesis.graded import GRADED, Plan, find_part, line_width, plant_graded
from pyimgano.synthesis.parts import render_part

if TYPE_CHECKING:
    from pathlib import Path

PLAN = Plan(kinds=("spot",), sizes=(3, 8, 24), contrasts=(0, 40, 120))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("pod") / "data")


@pytest.fixture(scope="module")
def fitted(parts: Path) -> PatchCore:
    goods = sorted((parts / "train" / "good").iterdir())
    return PatchCore(extractor="handcrafted", size=96, pad=32, index="numpy").fit(goods[:14])


@pytest.fixture(scope="module")
def fresh(parts: Path) -> list[Path]:
    return sorted((parts / "train" / "good").iterdir())[14:]


@pytest.fixture(scope="module")
def model(fitted: PatchCore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.pyimg"
    fitted.save(path)
    return path


@pytest.fixture(scope="module")
def found(fitted, fresh):
    return detection(fitted, fresh, PLAN)


def disc(size=(120, 160), radius=40):
    rows, columns = np.mgrid[: size[0], : size[1]]
    inside = np.hypot(rows - size[0] / 2, columns - size[1] / 2) < radius
    return np.where(inside[..., None], 150, 30).astype(np.uint8).repeat(3, axis=2), inside


@pytest.mark.parametrize("kind", GRADED)
def test_size_and_contrast_are_what_was_asked_for(kind):
    image, part = disc()
    for size in (8, 24):
        for contrast in (20, 60):
            planted, mask = plant_graded(
                image, part, kind, size, contrast, np.random.default_rng(size)
            )
            change = np.abs(planted.astype(int) - image).max(axis=2)
            assert abs(int(change.max()) - contrast) <= 1
            assert part[mask].mean() > 0.95
            ys, xs = np.nonzero(mask)
            reach = np.hypot(np.ptp(xs) + 1, np.ptp(ys) + 1)
            if kind == "scratch":
                assert size * 0.8 <= reach <= size * 1.15 + 3 * line_width(image.shape)
            elif kind != "chip":
                assert np.sqrt(4 * mask.sum() / np.pi) == pytest.approx(size, rel=0.12)
            else:
                assert 0.2 * size**2 < mask.sum() < 0.7 * size**2


@pytest.mark.parametrize("side", [256, 600, 1024])
def test_a_scratch_is_as_wide_as_it_says(side):
    image, part = np.full((side, side, 3), 100, np.uint8), np.ones((side, side), bool)
    widths = []
    for seed in range(12):
        planted, _ = plant_graded(image, part, "scratch", 80, 50, np.random.default_rng(seed))
        widths.append(np.abs(planted[..., 0] - 100.0).sum() / 50 / 80)
    assert np.mean(widths) == pytest.approx(line_width(image.shape), rel=0.15)


@pytest.mark.parametrize("kind", GRADED)
def test_contrast_0_plants_nothing_and_a_seed_repeats(kind):
    image, part = disc()
    same, mask = plant_graded(image, part, kind, 10, 0, np.random.default_rng(1))
    np.testing.assert_array_equal(same, image)
    assert mask.any()
    first, _ = plant_graded(image, part, kind, 10, 30, np.random.default_rng(1))
    again, _ = plant_graded(image, part, kind, 10, 30, np.random.default_rng(1))
    other, _ = plant_graded(image, part, kind, 10, 30, np.random.default_rng(2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_defect_larger_than_the_part_still_lies_on_it():
    image, part = disc(radius=10)
    for kind in GRADED:
        _, mask = plant_graded(image, part, kind, 60, 40, np.random.default_rng(0))
        assert (mask & part).any()


def test_where_pixels_leave_no_room_the_sign_turns():
    dark = np.full((40, 40, 3), 5, np.uint8)
    part = np.ones((40, 40), bool)
    for seed in range(8):
        planted, _ = plant_graded(dark, part, "spot", 8, 60, np.random.default_rng(seed))
        assert planted.max() == 65


def test_the_part_is_found_by_its_background():
    image, part = disc()
    found = find_part(image)
    assert (found == part).mean() > 0.97
    assert find_part(np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)).all()
    whole = np.tile(np.arange(120, dtype=np.uint8)[:, None, None], (1, 90, 3))
    assert find_part(whole).all(), "a ramp has no border to tell a part by"
    rendered = render_part(np.random.default_rng(0), (192, 192))
    found = find_part(rendered.image)
    assert (found & rendered.mask).sum() > 0.85 * rendered.mask.sum()


def test_impossible_defects_are_refused():
    image, part = disc()
    rng = np.random.default_rng(0)
    for kind, size, contrast in (("rust", 5, 5), ("spot", 0, 5), ("spot", 5, 300)):
        with pytest.raises(ParameterError, match="a planted defect is one of"):
            plant_graded(image, part, kind, size, contrast, rng)
    with pytest.raises(ParameterError, match="no edge"):
        plant_graded(image, np.ones_like(part), "chip", 5, 5, rng)
    for wrong in (
        {"kinds": ("rust",)},
        {"kinds": ()},
        {"contrasts": ()},
        {"sizes": (5, 3)},
        {"sizes": (0, 3)},
        {"contrasts": (10, 300)},
        {"seed": -1},
    ):
        with pytest.raises(ParameterError):
            Plan(**wrong)


def test_more_size_and_more_contrast_are_found_more_often(found):
    by = {curve.contrast: [rate.k for rate in curve.found] for curve in found.curves}
    assert by[120] == sorted(by[120])
    assert sum(by[120]) > sum(by[40]) >= sum(by[0])
    assert by[120][-1] == 6, "a spot of a quarter of the image in black or white is seen"


def test_at_contrast_0_it_is_the_false_reject_rate(found):
    (curve,) = [one for one in found.curves if one.contrast == 0]
    assert {rate.k for rate in curve.found} == {found.false_rejects.k}
    assert {rate.n for rate in curve.found} == {found.false_rejects.n} == {6}
    assert curve.least == "> 24"


def test_a_study_repeats_bit_for_bit(found, fitted, fresh):
    again = detection(fitted, fresh, PLAN)
    assert [one.facts() for one in again.curves] == [one.facts() for one in found.curves]
    image, part = disc()
    places = [
        Planted(image, part, Plan(("spot",), (8,), (60,), s), n)
        for s, n in ((0, 0), (1, 0), (0, 1))
    ]
    assert len({planted[0].tobytes() for planted in places}) == 3, "seed and image decide where"


def test_a_marked_defect_is_one_with_a_region_on_it(found):
    for curve in found.curves:
        for rate, marked in zip(curve.found, curve.marked, strict=True):
            assert 0 <= marked <= rate.k
    (strong,) = [one for one in found.curves if one.contrast == 120]
    assert strong.marked[-1] == 6


def test_sentences_say_what_the_fit_says(found):
    (sentence,) = found.sentences
    told = next(one for one in found.curves if one.sentence == sentence)
    assert sentence.startswith(f"smallest spot found 90 % of the time at contrast {told.contrast}")
    assert told.least.split()[-1] in sentence


def test_sizes_are_chosen_and_kinds_without_an_edge_left_out(fitted, fresh):
    rng = np.random.default_rng(0)
    full = [rng.integers(60, 190, (96, 96, 3)).astype(np.uint8)]
    study = detection(fitted, full, Plan(kinds=("chip", "spot"), contrasts=(30,)))
    assert study.plan.kinds == ("spot",)
    assert study.plan.sizes == tuple(sorted(study.plan.sizes))
    assert len(study.plan.sizes) >= 5
    assert any("no chips" in note for note in study.notes)
    with pytest.raises(InputError, match="does not fit: the shorter side is 96 px"):
        detection(fitted, full, Plan(kinds=("spot",), sizes=(8, 97)))
    with pytest.raises(InputError, match="chips need the edge"):
        detection(fitted, full, Plan(kinds=("chip",), contrasts=(30,)))


def test_images_that_were_learned_from_are_refused(fitted, parts):
    with pytest.raises(CalibrationError, match="14 of 20 images"):
        detection(fitted, parts / "train" / "good", PLAN)


def test_a_threshold_and_a_verdict_of_its_own_are_needed(fresh, parts):
    goods = sorted((parts / "train" / "good").iterdir())
    one = PatchCore(extractor="handcrafted", size=96, pad=32).fit(goods[:1])
    with pytest.raises(NotFittedError):
        detection(one, fresh, PLAN)
    batch = AnomalyDINO(extractor="handcrafted", size=96, reference="batch").fit(goods[:4])
    with pytest.raises(InputError, match="judges a batch"):
        detection(batch, fresh, PLAN)


def test_images_of_another_size_are_listed_and_left_out(fitted, fresh, tmp_path):
    import cv2

    small = tmp_path / "small.png"
    cv2.imwrite(str(small), read_image(fresh[0])[:48, :48])
    study = detection(fitted, [small, fresh[1]], Plan(("spot",), (8,), (60,)))
    assert len(study.images) == study.false_rejects.n == 1
    assert study.skipped[0][0] == str(small)
    with pytest.raises(InputError, match="none of the images could be judged"):
        detection(fitted, [small], Plan(("spot",), (8,), (60,)))


def test_the_page_and_the_facts_agree(found, fitted, tmp_path):
    page = write_detection(tmp_path / "pod", fitted, found).read_text()
    facts = json.loads((tmp_path / "pod" / "pod.json").read_text())
    assert facts["sentences"] == found.sentences
    assert "They are drawn, not real" in page
    assert page.count('class="line-') == 3
    for curve, kept in zip(found.curves, facts["curves"], strict=True):
        assert [one["count"] for one in kept["found"]] == [rate.k for rate in curve.found]
        assert all(one["low"] <= one["rate"] <= one["high"] for one in kept["found"])


def test_the_verb(model, parts, fresh, tmp_path):
    folder = tmp_path / "fresh"
    folder.mkdir()
    for path in fresh[:4]:
        shutil.copy(path, folder)
    given = ("--kinds", "scratch,spot", "--sizes", "8,24", "--contrasts", "60")
    ended = call("pod", model, folder, "--out", tmp_path / "pod", *given)
    assert ended.code == 0, ended.err
    told = " ".join(ended.out.split())
    assert "smallest scratch found 90 % of the time at contrast 60" in told
    assert "planted defects are not real ones" in told
    assert (tmp_path / "pod" / "pod.html").exists()
    facts = json.loads(call("pod", model, folder, "--out", tmp_path / "pod", *given, "--json").out)
    assert [one["kind"] for one in facts["curves"]] == ["scratch", "spot"]
    quiet = call("pod", model, folder, "--out", tmp_path / "pod", *given, "-q")
    assert quiet.out.splitlines() == facts["sentences"]
    refused = call("pod", model, parts / "train" / "good", "--out", tmp_path / "pod", *given)
    assert refused.code == 2
    assert "learned from" in refused.err
    wrong = call("pod", model, folder, "--out", tmp_path / "pod", "--sizes", "a,b")
    assert (wrong.code, wrong.out) == (2, "")
    assert "--sizes takes whole numbers" in wrong.err
    file = tmp_path / "file"
    file.write_text("mine")
    taken = call("pod", model, folder, "--out", file, *given)
    assert (taken.code, taken.out) == (2, "")
    assert "planting" not in taken.err, "refused before any work"


def test_a_last_fifth_is_set_aside_in_file_order(fresh, parts):
    goods = sorted((parts / "train" / "good").iterdir())
    first, last = without_last_block(goods)
    assert (first, last) == (goods[:16], goods[16:])
    copied, rest = without_last_block([*goods, goods[0]])
    assert goods[0] not in rest
    assert copied.count(goods[0]) == 2, "copies stay together"
    with pytest.raises(InputError, match="too few"):
        without_last_block(goods[:4])


def test_fit_plants_in_images_that_it_set_aside(parts, tmp_path):
    ended = call(
        *("fit", parts / "train" / "good", "-o", tmp_path / "m.pyimg", *SMALL),
        *("--pod", tmp_path / "pod", "--json"),
    )
    assert ended.code == 0, ended.err
    facts = json.loads(ended.out)
    assert facts["n_good"] == 20
    assert facts["pod"]["false_rejects"]["of"] == 4
    kept = json.loads((tmp_path / "pod" / "pod.json").read_text())
    assert any("learned from 16 of the images" in note for note in kept["notes"])


def test_fit_plants_in_the_hold_out(parts, fresh, tmp_path):
    good = tmp_path / "good"
    shutil.copytree(parts / "train" / "good", good)
    hold = tmp_path / "hold"
    hold.mkdir()
    for path in fresh[:3]:
        shutil.move(good / path.name, hold)
    ended = call(
        *("fit", good, "-o", tmp_path / "m.pyimg", *SMALL),
        *("--hold-out", hold, "--pod", tmp_path / "pod"),
    )
    assert ended.code == 0, ended.err
    assert "set the threshold, too" in " ".join(ended.out.split())

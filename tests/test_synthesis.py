from __future__ import annotations

import hashlib

import numpy as np
import pytest

from pyimgano.errors import DatasetError, InputError, ParameterError
from pyimgano.synthesis import DEFECTS, Part, golden_image, plant, render_part, write_demo
from pyimgano.synthesis.defects import VISIBLE


@pytest.fixture(scope="module")
def parts():
    return [render_part(np.random.default_rng(seed)) for seed in range(6)]


def files(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def count_holes(mask):
    import cv2

    count, labels = cv2.connectedComponents(np.pad(~mask, 1, constant_values=True).astype(np.uint8))
    return count - 2, labels[1:-1, 1:-1]


def test_equal_seeds_give_equal_parts_and_others_differ(parts):
    again = render_part(np.random.default_rng(3))
    np.testing.assert_array_equal(again.image, parts[3].image)
    np.testing.assert_array_equal(again.mask, parts[3].mask)
    assert len({part.image.tobytes() for part in parts}) == len(parts)


def test_rendering_leaves_the_global_stream_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - what is tested
    render_part(np.random.default_rng(0), (64, 64))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_a_part_is_bright_metal_with_a_bore_and_six_bolt_holes_on_a_dark_belt(parts):
    for part in parts:
        assert count_holes(part.mask)[0] == 7
        assert part.image[part.mask].mean() > 3 * part.image[~part.mask].mean()
        assert (part.image == 255).mean() < 0.01
        assert not part.image.flags.writeable
        assert not part.mask.flags.writeable


def test_the_pose_stays_within_its_bounds(parts):
    for part in parts:
        count, labels = count_holes(part.mask)
        solid = labels != labels[0, 0]
        ys, xs = np.nonzero(solid)
        assert abs(xs.mean() - 128) < 6.7
        assert abs(ys.mean() - 128) < 6.7
        assert 0.969 < np.sqrt(solid.sum() / np.pi) / (0.41 * 256) < 1.031
        assert count == 7
    centres = {tuple(np.argwhere(part.mask).mean(axis=0).round(1)) for part in parts}
    assert len(centres) == len(parts)


@pytest.mark.parametrize("size", [(64, 64), (90, 140), (301, 200)])
def test_any_size_shows_the_whole_part(size):
    part = render_part(np.random.default_rng(1), size)
    assert part.image.shape == (*size, 3)
    assert count_holes(part.mask)[0] == 7
    border = np.concatenate([part.mask[[0, -1]].ravel(), part.mask[:, [0, -1]].ravel()])
    assert not border.any()


def test_a_part_too_small_to_see_is_refused():
    with pytest.raises(ParameterError, match="64"):
        render_part(np.random.default_rng(0), (63, 200))


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        (np.zeros((4, 4, 3)), np.zeros((4, 4), bool)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), bool)),
        (np.zeros((4, 3), np.uint8), np.zeros(4, bool)),
    ],
)
def test_a_part_with_wrong_arrays_is_refused(image, mask):
    with pytest.raises(InputError, match="RGB uint8"):
        Part(image, mask)


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_mask_is_exactly_what_changed_visibly(kind, parts):
    import cv2

    for seed, part in enumerate(parts):
        image, mask = plant(part.image, part.mask, kind, np.random.default_rng(seed))
        assert image.dtype == np.uint8
        assert mask.dtype == bool
        assert mask.sum() >= 12
        np.testing.assert_array_equal(image[~mask], part.image[~mask])
        change = np.abs(image.astype(int) - part.image).max(axis=2) >= VISIBLE
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
        padded = np.pad(change.astype(np.uint8), 2)
        closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disc)[2:-2, 2:-2]
        np.testing.assert_array_equal(mask, closed.astype(bool))
        assert change.sum() >= 0.4 * mask.sum()
        assert mask.mean() < 0.05


@pytest.mark.parametrize("kind", DEFECTS)
def test_defects_lie_on_the_part(kind, parts):
    import cv2

    reach = np.ones((31, 31), np.uint8)
    for seed, part in enumerate(parts):
        _, mask = plant(part.image, part.mask, kind, np.random.default_rng(seed))
        near = cv2.dilate(part.mask.astype(np.uint8), reach).astype(bool)
        assert mask[near].sum() >= 0.5 * mask.sum()


@pytest.mark.parametrize("kind", DEFECTS)
def test_planting_is_determined_by_the_generator_and_varies_with_it(kind, parts):
    part = parts[0]
    first, second, other = (
        plant(part.image, part.mask, kind, np.random.default_rng(seed)) for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert (first[0] != other[0]).any()


@pytest.mark.parametrize("kind", [kind for kind in DEFECTS if kind != "chip"])
def test_severity_raises_the_contrast(kind, parts):
    def change(severity):
        total = 0
        for seed, part in enumerate(parts):
            rng = np.random.default_rng(seed)
            image, _ = plant(part.image, part.mask, kind, rng, severity=severity)
            total += np.abs(image.astype(int) - part.image).sum()
        return total

    assert change(2.0) > 1.1 * change(1.0)


def test_a_missing_hole_closes_one_bolt_hole_and_never_the_bore(parts):
    for seed, part in enumerate(parts):
        _, labels = count_holes(part.mask)
        areas = np.bincount(labels.ravel())
        inside = [i for i in range(1, len(areas)) if i != labels[0, 0]]
        bore = max(inside, key=lambda i: areas[i])
        rng = np.random.default_rng(seed)
        image, mask = plant(part.image, part.mask, "missing_hole", rng, severity=4.0)
        touched = [i for i in inside if mask[labels == i].mean() > 0.9]
        assert len(touched) == 1
        assert bore not in touched
        hole = labels == touched[0]
        assert image[hole].mean() > 2.5 * part.image[hole].mean()


@pytest.mark.parametrize("kind", DEFECTS)
def test_every_kind_finds_a_place_on_the_smallest_part(kind):
    for seed in range(30):
        rng = np.random.default_rng(seed)
        part = render_part(rng, (64, 64))
        assert plant(part.image, part.mask, kind, rng)[1].sum() >= 12


def test_the_only_hole_of_a_part_is_the_missing_one():
    yy, xx = np.mgrid[:96, :96] - 47.5
    radius = np.hypot(yy, xx)
    mask = (radius < 44) & (np.hypot(yy, xx - 28) > 5)
    image = np.where(mask, 150, 20).astype(np.uint8)[..., None].repeat(3, axis=2)
    _, changed = plant(image, mask, "missing_hole", np.random.default_rng(0))
    assert changed[43:53, 71:81].mean() > 0.6
    assert changed[:, :60].sum() == 0


def test_parts_that_cannot_carry_a_defect_say_so():
    rng = np.random.default_rng(0)
    image = np.full((64, 64, 3), 120, np.uint8)
    disc = np.hypot(*(np.mgrid[:64, :64] - 31.5)) < 25
    with pytest.raises(InputError, match="no hole"):
        plant(image, disc, "missing_hole", rng)
    ring = disc & (np.hypot(*(np.mgrid[:64, :64] - 31.5)) > 20)
    with pytest.raises(InputError, match="no metal"):
        plant(image, ring, "missing_hole", rng)
    with pytest.raises(InputError, match="empty"):
        plant(image, np.zeros((64, 64), bool), "dent", rng)
    with pytest.raises(InputError, match="no visible 'stain'"):
        plant(image, disc, "stain", rng, severity=1e-6)
    with pytest.raises(InputError, match="RGB uint8"):
        plant(image[..., 0], disc, "dent", rng)


@pytest.mark.parametrize("severity", [0.0, -1.0, np.inf, np.nan])
def test_an_impossible_severity_is_refused(severity, parts):
    with pytest.raises(ParameterError, match="severity"):
        plant(parts[0].image, parts[0].mask, "dent", np.random.default_rng(0), severity=severity)


def test_an_unknown_kind_lists_the_known_ones(parts):
    with pytest.raises(ParameterError, match="missing_hole"):
        plant(parts[0].image, parts[0].mask, "rust", np.random.default_rng(0))


def test_planting_leaves_its_inputs_writable_and_unchanged(parts):
    image, mask = parts[0].image.copy(), parts[0].mask.copy()
    plant(image, mask, "scratch", np.random.default_rng(0))
    np.testing.assert_array_equal(image, parts[0].image)
    assert image.flags.writeable
    assert mask.flags.writeable


def test_the_demo_has_the_layout_of_mvtec(tmp_path):
    import cv2

    root = write_demo(tmp_path / "new" / "demo", n_train=3, n_good=2, n_defect=7, size=(96, 80))
    names = set(files(root))
    expected = {f"flange/train/good/{i:03d}.png" for i in range(3)}
    expected |= {f"flange/test/good/{i:03d}.png" for i in range(2)}
    for i in range(7):
        kind, number = DEFECTS[i % 6], i // 6
        expected.add(f"flange/test/{kind}/{number:03d}.png")
        expected.add(f"flange/ground_truth/{kind}/{number:03d}_mask.png")
    assert names == expected
    assert [p.name for p in root.parent.iterdir()] == ["demo"]
    for name in names:
        image = cv2.imread(str(root / name), cv2.IMREAD_UNCHANGED)
        if "ground_truth" in name:
            assert image.shape == (96, 80)
            assert set(np.unique(image)) == {0, 255}
        else:
            assert image.shape == (96, 80, 3)


def test_the_demo_is_determined_by_its_seed_and_grows_without_changing(tmp_path):
    def written(name, **options):
        return files(write_demo(tmp_path / name, size=(64, 64), **options))

    small = written("a", n_train=2, n_good=1, n_defect=2)
    large = written("b", n_train=3, n_good=2, n_defect=4)
    other = written("c", n_train=2, n_good=1, n_defect=2, seed=1)
    assert small == {name: large[name] for name in small}
    assert all(small[name] != other[name] for name in small)
    assert small["flange/train/good/000.png"] != small["flange/test/good/000.png"]


def test_an_empty_directory_is_filled_and_a_full_one_is_left_alone(tmp_path):
    target = tmp_path / "démo"
    target.mkdir()
    write_demo(str(target), n_train=1, n_good=0, n_defect=0, size=(64, 64))
    before = files(tmp_path)
    assert list(before) == ["démo/flange/train/good/000.png"]
    with pytest.raises(DatasetError, match="not an empty directory"):
        write_demo(target)
    with pytest.raises(DatasetError, match="not an empty directory"):
        write_demo(target / "flange/train/good/000.png")
    assert files(tmp_path) == before


def test_a_demo_that_fails_leaves_nothing_behind(tmp_path):
    with pytest.raises(ParameterError, match="size"):
        write_demo(tmp_path / "demo", size=(10, 10))
    with pytest.raises(ParameterError, match="seed"):
        write_demo(tmp_path / "demo", seed=-1)
    assert list(tmp_path.iterdir()) == []


FROZEN = {
    (0, (256, 256)): "0f7bc2611a9272c9fb15bfacbb8eb12b04e46b1016cb6c175f2e718bcb9f54a9",
    (1, (256, 256)): "3018f091e6980b28ad5cc8ef4b9fca837818c8106ebc68ad7d9aa04b6e0ec7c2",
    (0, (33, 70)): "80f605b92dde8aed7c7e64f017f066316e358f680ae83db34eda57071652f1b6",
}


@pytest.mark.parametrize(("seed", "size"), FROZEN)
def test_golden_images_never_change(seed, size):
    image = golden_image(seed, size)
    assert image.dtype == np.uint8
    assert image.shape == (*size, 3)
    assert hashlib.sha256(image.tobytes()).hexdigest() == FROZEN[seed, size]


def test_golden_images_differ_by_seed_and_are_rich():
    images = [golden_image(seed, (64, 64)) for seed in range(8)]
    assert len({image.tobytes() for image in images}) == 8
    assert all(image.std() > 25 for image in images)
    assert all(np.ptp(golden_image(seed, (2, 2))) > 0 for seed in range(50))


@pytest.mark.parametrize(("seed", "size"), [(-1, (8, 8)), (0, (1, 8)), (0, (8, 0))])
def test_golden_images_refuse_the_impossible(seed, size):
    with pytest.raises(ParameterError, match="seed"):
        golden_image(seed, size)

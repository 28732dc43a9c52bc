"""AnomalyDINO against slow, obvious code; what turning, masking and leaving out must do."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

import fakes
from pyimgano.errors import InputError, NotFittedError, ParameterError
from pyimgano.features.base import PatchFeatures
from pyimgano.models import anomalydino
from pyimgano.models._foreground import first_component, foreground, lies_inside
from pyimgano.models._token_detector import shortened, turned
from pyimgano.models.anomalydino import AnomalyDINO
from pyimgano.views.intake import Images

TINY = {"extractor": fakes.TinyExtractor(), "size": 96}


@dataclass(frozen=True, kw_only=True)
class Colours:
    """The mean colour of cells of 8 pixels, whose numbers tests can plan."""

    name: str = "colours"

    @property
    def fingerprint(self):
        return self.name

    def embed(self, images):
        return [self._one(image) for image in images]

    def _one(self, image):
        h, w = image.shape[0] // 8, image.shape[1] // 8
        cells = image[: 8 * h, : 8 * w].reshape(h, 8, w, 8, 3).astype(np.float32)
        return PatchFeatures(cells.mean(axis=(1, 3)), (0.0, 0.0, 8.0 * h, 8.0 * w))


def picture(seed, height=96, width=96):
    """Smooth colours of their own, so that no two patches are alike."""
    rng = np.random.default_rng(seed)
    small = rng.integers(40, 216, (6, 6, 3)).astype(np.uint8)
    image = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int64)
    return np.clip(image + rng.integers(-6, 7, image.shape), 0, 255).astype(np.uint8)


def part(seed, *, spot=None):
    """Draw a bright disc on a dark ground, with a blue spot at (row, column) of 8 pixels a side."""
    rng = np.random.default_rng(seed)
    image = np.full((96, 96, 3), 40.0)
    y, x = np.mgrid[:96, :96]
    image[(y - 48) ** 2 + (x - 48) ** 2 < 28**2] = (200, 170, 120)
    image += rng.normal(0, 2, image.shape)
    if spot is not None:
        image[8 * spot[0] : 8 * spot[0] + 8, 8 * spot[1] : 8 * spot[1] + 8] = (20, 40, 250)
    return np.clip(image, 0, 255).astype(np.uint8)


# The definition, written out slowly -------------------------------------------------------


def slow_distances(tokens, bank, k):
    """Mean of the k smallest 1 - cos to rows of the bank, patch by patch."""
    out = np.zeros(tokens.shape[:2])
    for y, x in np.ndindex(out.shape):
        token = tokens[y, x].astype(np.float64)
        found = []
        for row in bank.astype(np.float64):
            cosine = token @ row / math.sqrt((token @ token) * (row @ row))
            found.append(1 - cosine)
        out[y, x] = np.mean(sorted(found)[:k])
    return out


def slow_top_mean(values, share):
    """Mean of the largest share, at least one."""
    ordered = sorted(values.ravel(), reverse=True)
    count = max(1, int(share * len(ordered)))
    return sum(ordered[:count]) / count


def slow_map(grid, covered, size, sigma):
    """Bilinear between the centres of cells that tile ``covered`` pixels; then the Gaussian."""
    out = np.zeros(size)
    for y, x in np.ndindex(size):
        v = min(max((y + 0.5) * grid.shape[0] / covered[0] - 0.5, 0), grid.shape[0] - 1)
        u = min(max((x + 0.5) * grid.shape[1] / covered[1] - 0.5, 0), grid.shape[1] - 1)
        i, j = min(int(v), grid.shape[0] - 2), min(int(u), grid.shape[1] - 2)
        above = grid[i, j] * (1 - (u - j)) + grid[i, j + 1] * (u - j)
        below = grid[i + 1, j] * (1 - (u - j)) + grid[i + 1, j + 1] * (u - j)
        out[y, x] = above * (1 - (v - i)) + below * (v - i)
    return gaussian_filter(out, sigma, mode="reflect", truncate=4)


def slow_grow(mask):
    """Set every cell that touches one that is set."""
    out = np.zeros_like(mask)
    for y, x in np.ndindex(mask.shape):
        out[y, x] = mask[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].any()
    return out


def slow_foreground(tokens, limit):
    """Return the mask of the sign that shows more of the middle than of the rim."""
    h, w, d = tokens.shape
    rows = tokens.reshape(-1, d).astype(np.float64)
    rows = rows - rows.mean(axis=0)
    axis = np.linalg.svd(rows, full_matrices=False)[2][0]
    component = (rows @ axis).reshape(h, w)
    limit = component.std() / 2 if limit is None else limit
    best, most = None, -np.inf
    for sign in (1, -1):
        mask = sign * component > limit
        middle = mask[int(0.2 * h) : int(0.8 * h), int(0.2 * w) : int(0.8 * w)].mean()
        rim = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean()
        if middle - rim > most:
            best, most = mask, middle - rim
    grown = slow_grow(np.pad(best, 3))  # beyond the image lies background
    return ~slow_grow(~slow_grow(grown))[3:-3, 3:-3]


def slow_rotation(image, angle):
    """Bilinear about the centre of the pixels, counter-clockwise, borders mirrored."""
    h, w = image.shape[:2]
    turn = math.radians(angle)
    out = np.zeros(image.shape)

    def mirrored(i, n):
        i = abs(i) % (2 * n - 2)
        return min(i, 2 * n - 2 - i)

    for y, x in np.ndindex(h, w):
        dy, dx = y - (h - 1) / 2, x - (w - 1) / 2
        u = math.cos(turn) * dx - math.sin(turn) * dy + (w - 1) / 2
        v = math.sin(turn) * dx + math.cos(turn) * dy + (h - 1) / 2
        i, j = math.floor(v), math.floor(u)
        for k, m in ((i, j), (i, j + 1), (i + 1, j), (i + 1, j + 1)):
            share = (1 - abs(v - k)) * (1 - abs(u - m))
            out[y, x] += share * image[mirrored(k, h), mirrored(m, w)]
    return out


def slow_bicubic(image, size):
    """Keys' cubic (a = -0.5), widened by the factor of reduction: the antialiased resize."""

    def weights(n, m):
        scale = max(n / m, 1.0)
        table = np.zeros((m, n))
        for i in range(m):
            centre = (i + 0.5) * n / m
            for j in range(n):
                t = abs((j + 0.5 - centre) / scale)
                if t < 1:
                    table[i, j] = 1.5 * t**3 - 2.5 * t**2 + 1
                elif t < 2:
                    table[i, j] = -0.5 * (t**3 - 5 * t**2 + 8 * t - 4)
        return table / table.sum(axis=1, keepdims=True)

    rows, columns = weights(image.shape[0], size[0]), weights(image.shape[1], size[1])
    return np.einsum("iy,yxc,jx->ijc", rows, image.astype(np.float64), columns)


# Each step against it ----------------------------------------------------------------------


@pytest.mark.parametrize("angle", [45, 90, 135, 200.5])
def test_rotation(angle):
    image = picture(1, 40, 56)
    found = turned(image, angle).astype(np.float64)
    assert np.abs(found - slow_rotation(image, angle)).max() <= 3  # OpenCV: steps of 1/32 pixel


def test_quarter_turns_move_pixels_and_mix_none():
    image = picture(2)
    assert turned(image, 360) is image
    for turns in (1, 2, 3):
        assert np.array_equal(turned(image, 90 * turns), np.rot90(image, turns))


@pytest.mark.parametrize(("height", "width"), [(60, 91), (91, 60), (33, 40)])
def test_the_shorter_side_is_resized_and_the_aspect_kept(height, width):
    image = picture(3, height, width)
    found = shortened(image, 48)
    short = min(height, width)
    size = (int(48 * height / short), int(48 * width / short))
    assert found.shape == (*size, 3)
    expected = np.clip(slow_bicubic(image, size), 0, 255)
    assert np.abs(found.astype(np.float64) - expected).max() <= 1.5  # rounded twice
    assert shortened(image, short) is image


@pytest.mark.parametrize("limit", [None, 10.0])
@pytest.mark.parametrize("seed", range(6))
def test_foreground(seed, limit):
    rng = np.random.default_rng(seed)
    tokens = rng.normal(0, 6, (14, 11, 5)).astype(np.float32)
    tokens[4:10, 3:8] += rng.normal(0, 20, 5).astype(np.float32)
    assert np.array_equal(foreground(tokens, limit), slow_foreground(tokens, limit))
    assert np.array_equal(foreground(tokens, limit), foreground(-tokens, limit))


@pytest.mark.parametrize("rotations", ["none", "agnostic"])
@pytest.mark.parametrize("k", [1, 3])
def test_scores_and_maps(rotations, k):
    """The image does not fill the cells: the map must not stretch over what was cut off."""
    goods = [picture(seed, 102, 133) for seed in range(2)]
    detector = AnomalyDINO(
        extractor=fakes.TinyExtractor(), size=51, rotations=rotations, n_neighbors=k, top=0.1
    ).fit(goods)
    tiny, test = fakes.TinyExtractor(), picture(9, 102, 133)
    angles = [0] if rotations == "none" else range(0, 360, 45)
    views = [shortened(turned(image, angle), 51) for image in goods for angle in angles]
    bank = np.concatenate([one.values.reshape(-1, 6) for one in tiny.embed(views)])
    tokens = tiny.embed([shortened(test, 51)])[0].values
    expected = slow_distances(tokens, bank, k)
    found = next(iter(detector.inspect([test])))
    assert expected.shape == (6, 8)
    assert found.score == pytest.approx(slow_top_mean(expected, 0.1), rel=1e-4)
    drawn = slow_map(expected, (48 * 102 / 51, 64 * 133 / 66), (102, 133), 4)
    assert np.abs(found.map - drawn).max() <= 1e-4 * drawn.max()


@pytest.mark.parametrize("how", ["topk_mean", "max", "mean"])
def test_aggregation(how):
    detector = AnomalyDINO(**TINY, aggregation=how, top=0.2, sigma=0).fit([picture(0), picture(1)])
    tokens = fakes.TinyExtractor().embed([picture(5)])[0].values
    distances = slow_distances(tokens, detector.bank_, 1)
    share = {"topk_mean": 0.2, "max": 1e-9, "mean": 1.0}[how]
    expected = slow_top_mean(distances, share)
    assert detector.decision_function([picture(5)])[0] == pytest.approx(expected, rel=1e-4)


# Properties --------------------------------------------------------------------------------


def test_turning_an_image_turns_its_map():
    detector = AnomalyDINO(**TINY, rotations="none", mask="never").fit([picture(0), picture(1)])
    image = picture(4)
    upright = detector.get_anomaly_map(image)
    for turns in (1, 2, 3):
        turned = detector.get_anomaly_map(np.rot90(image, turns).copy())
        assert np.allclose(turned, np.rot90(upright, turns), rtol=1e-3, atol=1e-6)


def test_turned_references_know_a_turned_part():
    goods = [picture(0), picture(1)]
    turned = np.rot90(goods[0]).copy()
    scores = {}
    for rotations, angles in (("agnostic", ()), ("informed", (90.0,)), ("none", ())):
        detector = AnomalyDINO(**TINY, rotations=rotations, angles=angles).fit(goods)
        scores[rotations] = detector.decision_function([turned])[0]
    assert scores["agnostic"] == 0 == scores["informed"] < scores["none"]


def test_a_reference_scores_0_in_sample_and_more_out_of_sample():
    goods = [picture(seed) for seed in range(4)]
    detector = AnomalyDINO(**TINY).fit(goods)
    assert np.array_equal(detector.decision_function(goods), np.zeros(4))
    assert (detector.decision_scores_ > 0).all()


@pytest.mark.parametrize("n", [4, 20])
def test_out_of_sample_scores_are_those_of_a_memory_without_the_block_and_its_turns(n):
    goods = [picture(seed, 48, 48) for seed in range(n)]
    made = AnomalyDINO(extractor=fakes.TinyExtractor(), size=48, mask="never", folds=5)
    detector = made.clone().fit(goods)
    width = n // 5 or 1
    for first in range(0, n, width):
        others = goods[:first] + goods[first + width :]
        held = made.clone().fit(others).decision_function(goods[first : first + width])
        assert np.allclose(held, detector.decision_scores_[first : first + width], rtol=1e-6)


def test_more_neighbours_change_the_result():
    goods, image = [picture(0), picture(1)], picture(5)
    scores = [
        AnomalyDINO(**TINY, n_neighbors=k).fit(goods).decision_function([image]) for k in (1, 5)
    ]
    assert scores[0] < scores[1]
    with pytest.raises(InputError, match="lower k"):
        AnomalyDINO(**TINY, n_neighbors=10**5).fit(goods).decision_function([image])


def test_masked_patches_are_0_and_the_part_is_judged():
    goods = [part(seed) for seed in range(5)]
    detectors = {
        mask: AnomalyDINO(extractor=Colours(), size=96, sigma=0, mask=mask, rotations="none")
        for mask in ("auto", "always", "never")
    }
    aside, on = part(20, spot=(1, 1)), part(21, spot=(6, 5))
    for mask, detector in detectors.items():
        drawn = detector.fit(goods).get_anomaly_map(aside)
        assert detector.masks_ is (mask != "never")
        assert bool((drawn[:12, :12] > 0).any()) is (mask == "never")
        assert detector.get_anomaly_map(on)[52, 44] > 0.1
        labels = detector.predict([aside, on])
        assert labels.tolist() == [int(mask == "never"), 1]
    tokens = Colours().embed([on])[0].values
    images = Images([aside, on], detectors["auto"].intake_)
    readings = detectors["auto"]._read(images)
    assert [one.score for one in readings[:2]] == [readings[0].score, readings[1].score]
    judged = detectors["auto"]._patches(detectors["auto"]._embed([on])[0])
    assert np.array_equal(judged.distances == 0, ~slow_foreground(tokens, None))


def test_a_texture_is_not_masked():
    detector = AnomalyDINO(**TINY).fit([picture(seed) for seed in range(3)])
    assert not detector.masks_
    assert not lies_inside(np.ones((8, 8), np.bool_))
    assert not lies_inside(np.zeros((8, 8), np.bool_))


def test_a_thin_part_is_the_foreground():
    """Its background covers more of the middle than it does itself."""
    tokens = np.zeros((20, 20, 2), np.float32)
    tokens[5:15, 9:11, 0] = 30
    mask = foreground(tokens)
    assert mask[5:15, 9:11].all()
    assert lies_inside(mask)
    assert not mask[0].any()


def test_where_nothing_stands_out_everything_is_judged():
    assert foreground(np.ones((6, 6, 3), np.float32)).all()
    assert foreground(np.random.default_rng(0).random((6, 6, 3), np.float32), 10.0).all()
    assert foreground(np.random.default_rng(0).random((1, 2, 3), np.float32)).shape == (1, 2)


def test_the_component_has_a_fixed_sign():
    rows = np.random.default_rng(0).normal(size=(40, 4)) * (1, 5, 1, 1)
    component = first_component(rows.astype(np.float32))
    assert np.corrcoef(component, rows[:, 1])[0, 1] > 0.9


def test_the_published_limit_is_for_dinov2_alone():
    found = {}
    for name in ("dinov2_vits14 sha256:0", "colours"):
        detector = AnomalyDINO(extractor=Colours(name=name), size=96).fit([part(0), part(1)])
        found[name] = detector._limit()
    assert list(found.values()) == [10.0, None]
    given = AnomalyDINO(extractor=Colours(), size=96, mask_threshold=3.5).fit([part(0), part(1)])
    assert given._limit() == 3.5


# One reference, bad input ------------------------------------------------------------------


def test_one_reference_gives_scores_and_no_threshold(caplog):
    detector = AnomalyDINO(**TINY).fit([picture(0)])
    assert "no threshold" in caplog.text
    assert not detector.is_calibrated
    assert detector.decision_function([picture(0), picture(1)])[1] > 0
    with pytest.raises(NotFittedError, match="no threshold"):
        detector.predict([picture(1)])
    detector.fit([picture(0)], calibration=[picture(seed) for seed in range(1, 5)])
    assert detector.certainty_.n == 4
    assert detector.predict([np.rot90(picture(0)).copy()])[0] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"rotations": "all"},
        {"mask": "yes"},
        {"aggregation": "median"},
        {"rotations": "informed"},
        {"angles": (90.0,)},
        {"size": 8},
        {"n_neighbors": 0},
        {"sigma": math.nan},
        {"top": 0.0},
    ],
    ids=str,
)
def test_parameters_that_cannot_be_used_are_named(wrong):
    with pytest.raises(
        ParameterError, match=next(iter(wrong)) if "top" not in wrong else "fraction"
    ):
        AnomalyDINO(**{**TINY, **wrong}).fit([picture(0), picture(1)])


def test_references_of_several_sizes():
    goods = [picture(0), picture(1, 100, 140), picture(2, 140, 100)]
    detector = AnomalyDINO(**TINY).fit(goods)
    maps = detector.predict_anomaly_map(goods)
    assert [one.shape for one in maps] == [(96, 96), (100, 140), (140, 100)]
    assert np.array_equal(detector.decision_function(goods), np.zeros(3))


def test_a_large_memory_is_announced(caplog, monkeypatch):
    monkeypatch.setattr(anomalydino, "_WARN_BYTES", 10**4)
    with caplog.at_level(logging.WARNING):
        AnomalyDINO(**TINY).fit([picture(0), picture(1)])
    assert "2 references in 8 orientations" in caplog.text


def test_pillow_is_what_the_authors_resize_with():
    """torchvision's resize of a picture is Pillow's; here its antialiasing shows."""
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(shortened(stripes, 32)[4:-4, 4:-4].astype(int)) < 90
    raw = np.asarray(Image.fromarray(stripes).resize((32, 32), Image.Resampling.NEAREST))
    assert np.ptp(raw) in {0, 255}

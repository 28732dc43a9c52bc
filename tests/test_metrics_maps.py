from __future__ import annotations

import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimgano import metrics
from pyimgano.errors import MetricError, ParameterError, PyimganoWarning
from pyimgano.metrics.ranks import rank_maps
from test_metrics_scores import by_scikit_learn

DTYPES = (np.float64, np.float32, np.float16, np.uint8, np.uint16, np.int32)


def curves_by_definition(masks, maps, limit):
    """Area under each region's curve, drawn threshold by threshold in exact fractions."""
    from scipy import ndimage

    pairs = [
        (np.zeros(m.shape, bool) if k is None else k != 0, m)
        for k, m in zip(masks, maps, strict=True)
    ]
    regions = []
    for index, (mask, scores) in enumerate(pairs):
        labels, n = ndimage.label(mask, np.ones((3, 3)))
        regions += [(index, scores[labels == number]) for number in range(1, n + 1)]
    normals = np.concatenate([scores[~mask] for mask, scores in pairs])
    thresholds = np.unique(np.concatenate([scores.ravel() for _, scores in pairs]))[::-1]
    limit, rows = Fraction(limit), []
    for index, region in regions:
        area, x0, y0 = Fraction(0), Fraction(0), Fraction(0)
        for threshold in thresholds:
            x1 = Fraction(int((normals >= threshold).sum()), normals.size)
            y1 = Fraction(int((region >= threshold).sum()), region.size)
            if x0 < limit and x1 > x0:
                end = min(x1, limit)
                y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
                area += (end - x0) * (y0 + y_end) / 2
            x0, y0 = x1, y1
        rows.append((index, region.size, float(area / limit)))
    return rows


@st.composite
def inspected(draw):
    """A few small images of several sizes with defects, good images as None, and tied scores."""
    seed = draw(st.integers(0, 2**32 - 1))
    levels = draw(st.sampled_from((1, 3, 20, 250)))
    dtype = draw(st.sampled_from(DTYPES))
    rng = np.random.default_rng(seed)
    masks, maps = [], []
    for _ in range(draw(st.integers(1, 4))):
        shape = tuple(rng.integers(2, 9, 2))
        masks.append(None if rng.random() < 0.3 else (rng.random(shape) < 0.3).astype(np.uint8))
        maps.append(rng.integers(0, levels, shape).astype(dtype))
    first = np.zeros((4, 5), np.uint8)
    first[1, 1:3] = first[3, 4] = 1
    return [first, *masks], [rng.integers(0, levels, (4, 5)).astype(dtype), *maps]


@settings(derandomize=True, deadline=None, max_examples=120)
@given(inspected(), st.sampled_from((0.3, 0.05, 1.0, 1e-3, 0.5)))
def test_region_values_follow_the_definition(data, limit):
    masks, maps = data
    rows = metrics.region_pro(masks, maps, limit)
    expected = curves_by_definition(masks, maps, limit)
    assert rows["image"].tolist() == [row[0] for row in expected]
    # The two programs number the regions of one image in different orders.
    np.testing.assert_allclose(sorted(rows.tolist()), sorted(expected), rtol=0, atol=1e-12)
    mean = sum(row[2] for row in expected) / len(expected)
    assert metrics.aupro(masks, maps, limit) == pytest.approx(mean, rel=0, abs=1e-12)
    assert 0 <= metrics.aupro(masks, maps, limit) <= 1


@settings(derandomize=True, deadline=None, max_examples=120)
@given(inspected())
def test_pixel_figures_agree_with_scikit_learn(data):
    masks, maps = data
    card = metrics.evaluate_maps(masks, maps)
    labels = np.concatenate(
        [np.zeros(m.size) if k is None else k.ravel() for k, m in zip(masks, maps, strict=True)]
    )
    scores = np.concatenate([m.ravel() for m in maps])
    auroc, ap, f1 = by_scikit_learn(labels, scores)
    assert card["pixel_auroc"] == pytest.approx(auroc, rel=0, abs=1e-12)
    assert card["pixel_ap"] == pytest.approx(ap, rel=0, abs=1e-12)
    assert card["pixel_f1max"] == pytest.approx(max(f1.values()), rel=0, abs=1e-12)
    assert metrics.pixel_auroc(masks, maps) == card["pixel_auroc"]
    assert metrics.pixel_average_precision(masks, maps) == card["pixel_ap"]
    assert metrics.pixel_f1_max(masks, maps) == card["pixel_f1max"]
    assert metrics.aupro(masks, maps) == card["aupro_0.3"]


@settings(derandomize=True, deadline=None, max_examples=40)
@given(inspected(), st.randoms(use_true_random=False))
def test_the_order_of_images_and_monotone_maps_change_no_bit(data, random):
    masks, maps = data
    card = metrics.evaluate_maps(masks, maps)
    order = list(range(len(maps)))
    random.shuffle(order)
    moved = metrics.evaluate_maps(
        [masks[i] for i in order], [np.exp(maps[i].astype(np.float64) / 100) for i in order]
    )
    del card["pixel_f1max_threshold"], moved["pixel_f1max_threshold"]
    assert moved == card


def test_double_precision_is_kept():
    rng = np.random.default_rng(2)
    fine = rng.permutation(2 * 20 * 20).reshape(2, 20, 20)
    masks = rng.random(fine.shape) < 0.3
    maps = 1 + fine * 2.0**-50
    card, expected = metrics.evaluate_maps(masks, maps), metrics.evaluate_maps(masks, fine)
    assert np.unique(maps.astype(np.float32)).size == 1
    assert card.pop("pixel_f1max_threshold") == 1 + expected.pop("pixel_f1max_threshold") * 2.0**-50
    assert card == expected


@pytest.mark.parametrize("dtype", [np.float16, np.uint8, np.int8, np.uint16, np.int16])
def test_the_table_of_small_types_counts_as_sorting_does(dtype):
    rng = np.random.default_rng(3)
    maps = rng.integers(0, 256, (4, 30, 20)).astype(np.uint8).view(np.int8)
    maps = (maps.astype(np.float64) * 3).astype(dtype)
    masks = rng.random(maps.shape) < 0.1
    table, plain = rank_maps(masks, maps), rank_maps(masks, maps.astype(np.float64))
    assert table.scores.dtype == dtype
    np.testing.assert_array_equal(table.scores.astype(np.float64), plain.scores)
    for name in ("counts", "above", "at_or_above", "images", "areas"):
        np.testing.assert_array_equal(getattr(table, name), getattr(plain, name))


def test_half_precision_infinities_and_zeros():
    scores = np.array([[-np.inf, -0.0, 0.0, 65504, np.inf, -65504, 6e-8, -6e-8]], np.float16)
    mask = np.array([[0, 1, 0, 0, 1, 0, 1, 0]])
    half, double = rank_maps([mask], [scores]), rank_maps([mask], [scores.astype(np.float64)])
    np.testing.assert_array_equal(half.above, double.above)
    np.testing.assert_array_equal(half.at_or_above, double.at_or_above)
    assert double.above.tolist() == [1, 1, 0]
    assert double.at_or_above.tolist() == [2, 1, 0]


def test_two_regions_by_hand():
    # Normals above: 0 and 3 for the pixels of one region, 0 for the other; 9 normals.
    mask = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
    scores = np.array([[12.0, 7, 3, 10], [9, 4, 8, 2], [5, 1, 6, 11]])
    card = metrics.evaluate_maps([mask], [scores], (0.3, 1.0))
    assert (card["pixel_auroc"], card["pixel_ap"]) == (8 / 9, 5 / 6)
    assert (card["pixel_f1max"], card["pixel_f1max_threshold"]) == (4 / 5, 11.0)
    assert card["aupro_0.3"] == pytest.approx(3 / 4, abs=1e-15)
    assert card["aupro_1.0"] == pytest.approx(11 / 12, abs=1e-15)
    assert card["n_regions"] == 2


def test_ties_between_defect_and_normal_pixels_by_hand():
    mask, scores = np.zeros((1, 12), bool), np.array([[5.0, 3, 5, 5, 3, 3, 3, 1, 1, 1, 1, 1]])
    mask[0, :2] = True
    card = metrics.evaluate_maps([mask], [scores])
    assert (card["pixel_auroc"], card["pixel_f1max"]) == (31 / 40, 4 / 9)
    assert card["pixel_ap"] == pytest.approx(13 / 42, abs=1e-15)
    assert card["aupro_0.3"] == pytest.approx(13 / 36, abs=1e-15)
    assert card["aupro_0.05"] == pytest.approx(1 / 16, abs=1e-15)


def test_a_perfect_detector_scores_exactly_one():
    mask = np.zeros((3, 37, 41), bool)
    mask[1, 3:20, 5:9] = mask[2, 7, 7] = True
    maps = np.random.default_rng(0).random(mask.shape) + mask
    card = metrics.evaluate_maps(mask, maps, (0.3, 0.05, 1.0))
    for key in ("pixel_auroc", "pixel_ap", "pixel_f1max", "aupro_0.3", "aupro_0.05", "aupro_1.0"):
        assert card[key] == 1.0


def test_regions_that_touch_at_a_corner_are_one():
    mask = np.zeros((6, 7), np.uint8)
    mask[0:2, 0:2] = mask[2:4, 2:4] = mask[5, 6] = 1
    rows = metrics.region_pro([None, mask], np.random.default_rng(1).random((2, 6, 7)))
    assert rows["image"].tolist() == [1, 1]
    assert rows["area"].tolist() == [8, 1]


def test_a_mask_may_be_written_in_several_ways():
    rng = np.random.default_rng(5)
    maps, mask = rng.random((3, 8, 9)), rng.random((3, 8, 9)) < 0.2
    mask[1] = False
    card = metrics.evaluate_maps(mask, maps)
    for other in (
        mask * np.uint8(255),
        mask.astype(np.int64),
        [mask[0], None, mask[2]],
        [np.asfortranarray(m) for m in mask],
        mask.tolist(),
    ):
        assert metrics.evaluate_maps(other, maps) == card
    assert metrics.evaluate_maps(mask, np.asfortranarray(maps)) == card
    assert metrics.evaluate_maps(mask, maps.astype(maps.dtype.newbyteorder())) == card
    assert metrics.evaluate_maps(mask[:, ::-1], maps[:, ::-1])["n_regions"] == card["n_regions"]


def test_inputs_are_not_changed():
    rng = np.random.default_rng(6)
    maps, masks = rng.random((2, 8, 8)), rng.random((2, 8, 8)) < 0.2
    kept = maps.copy(), masks.copy()
    maps.setflags(write=False)
    masks.setflags(write=False)
    metrics.evaluate_maps(masks, maps)
    np.testing.assert_array_equal(maps, kept[0])
    np.testing.assert_array_equal(masks, kept[1])


def test_maps_may_be_loaded_on_access():
    rng = np.random.default_rng(7)
    maps, masks = rng.random((3, 8, 8)), rng.random((3, 8, 8)) < 0.2

    class Loaded:
        def __init__(self, arrays):
            self.arrays = arrays

        def __len__(self):
            return len(self.arrays)

        def __getitem__(self, index):
            return self.arrays[index].copy()

    lazy = metrics.evaluate_maps(Loaded(masks), Loaded(maps))
    assert lazy == metrics.evaluate_maps(masks, maps)


@pytest.mark.parametrize("masks", [[None, None], np.zeros((2, 4, 4)) > 0, []])
def test_without_defects_all_is_undefined_with_a_reason(masks):
    maps = np.random.default_rng(8).random((len(masks), 4, 4))
    card = metrics.evaluate_maps(masks, maps)
    keys = {"pixel_auroc", "pixel_ap", "pixel_f1max", "pixel_f1max_threshold"}
    keys |= {"aupro_0.3", "aupro_0.05", "aupimo"}
    assert card["undefined"] == dict.fromkeys(keys, "there is no defective pixel")
    assert all(math.isnan(card[key]) for key in keys)
    assert card["n_regions"] == 0
    assert metrics.region_pro(masks, maps).size == 0


def test_without_normal_pixels_only_the_curves_are_undefined():
    masks, maps = np.ones((2, 4, 4), np.uint8), np.random.default_rng(9).random((2, 4, 4))
    card = metrics.evaluate_maps(masks, maps, limits=(0.3,))
    reason = "there is no normal pixel"
    assert card["undefined"] == {
        "pixel_auroc": reason,
        "aupro_0.3": reason,
        "aupimo": "there is no good image",
    }
    assert (card["pixel_ap"], card["pixel_f1max"]) == (1.0, 1.0)
    assert card["pixel_f1max_threshold"] == maps.min()
    assert np.isnan(metrics.region_pro(masks, maps)["value"]).tolist() == [True, True]


@pytest.mark.parametrize(
    "metric",
    [metrics.pixel_auroc, metrics.pixel_average_precision, metrics.pixel_f1_max, metrics.aupro],
)
def test_an_undefined_figure_is_nan_and_says_why(metric):
    with pytest.warns(PyimganoWarning, match="undefined: there is no defective pixel") as caught:
        assert math.isnan(metric([None], np.zeros((1, 2, 2))))
    assert caught[0].filename == __file__


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("mask", [None, np.eye(3, dtype=bool)])
def test_nan_names_the_image(dtype, mask):
    maps = np.zeros((3, 3, 3), dtype)
    maps[2, 1, 1] = np.nan
    with pytest.raises(MetricError, match="image 2 holds NaN"):
        metrics.evaluate_maps([np.eye(3, dtype=bool), None, mask], maps)


@pytest.mark.parametrize(
    ("masks", "maps", "message"),
    [
        ([None], np.zeros((2, 3, 3)), "1 masks and 2 maps"),
        ([None], np.zeros((1, 3)), r"image 0 has \(3,\)"),
        ([None, None], [np.zeros((3, 3)), np.zeros((1, 3, 3))], r"image 1 has \(1, 3, 3\)"),
        ([None, None], [np.zeros((3, 3)), np.zeros((3, 3), np.float32)], "float32"),
        ([None], np.zeros((1, 3, 3), complex), "image 0 must be real"),
        ([None], np.zeros((1, 3, 3), bool), "image 0 must be real"),
        (
            [None, np.ones((3, 4), bool)],
            np.zeros((2, 3, 3)),
            r"image 1 has a mask of bool \(3, 4\)",
        ),
        ([np.full((3, 3), 0.5)], np.zeros((1, 3, 3)), "mask of float64"),
    ],
)
def test_what_cannot_be_evaluated_is_named(masks, maps, message):
    with pytest.raises(MetricError, match=message):
        metrics.evaluate_maps(masks, maps)


@pytest.mark.parametrize("limit", [0, -0.1, 1.5, math.nan])
def test_a_limit_is_a_rate(limit):
    masks, maps = [np.eye(3, dtype=bool)], np.zeros((1, 3, 3))
    with pytest.raises(ParameterError, match="false-positive rate"):
        metrics.evaluate_maps(masks, maps, limits=(0.3, limit))
    with pytest.raises(ParameterError, match="false-positive rate"):
        metrics.aupro(masks, maps, limit)
    with pytest.raises(ParameterError, match="false-positive rate"):
        metrics.region_pro(masks, maps, limit)


def test_the_keys_are_those_promised():
    card = metrics.evaluate_maps([np.eye(3, dtype=bool)], np.arange(9.0).reshape(1, 3, 3))
    pixel = {"pixel_auroc", "pixel_ap", "pixel_f1max", "pixel_f1max_threshold"}
    assert set(card) >= pixel | {"aupro_0.3", "aupro_0.05", "n_regions", "aupimo", "undefined"}
    assert "auroc" not in card


def test_no_second_copy_of_all_maps_is_made():
    rng = np.random.default_rng(10)
    maps = rng.random((60, 512, 512), dtype=np.float32)
    masks = [None] * 59 + [np.pad(np.ones((20, 30), bool), ((0, 492), (0, 482)))]
    metrics.evaluate_maps(masks[-1:], maps[-1:])
    tracemalloc.start()
    metrics.evaluate_maps(masks, maps)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.75 * maps.nbytes

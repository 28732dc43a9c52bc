"""The gallery against brute force: which images are chosen, and how far their patches lie."""

from __future__ import annotations

import numpy as np
import pytest

import pyimgano.feature_detector
from fakes import TinyExtractor
from pyimgano import load
from pyimgano.detector_contract import texture
from pyimgano.errors import InputError, ParameterError
from pyimgano.maps.upsample import upsample
from pyimgano.models.knn_gallery import KnnGallery
from pyimgano.models.knn_index import INDEXES

N = 22
CELLS = 144
GOODS = [texture(i) for i in range(N)]
FRESH = [texture(500 + i) for i in range(2)]
BLOCKS = np.arange(N) * 5 // N


def gallery(**parameters):
    small = {"extractor": TinyExtractor(), "size": 96, "pad": 0}
    return KnnGallery(**{**small, **parameters})


def grids(fitted, images):
    """Standardised features (n, 12, 12, 6), by hand."""
    raw = np.stack([one.values for one in TinyExtractor().embed(images)])
    return ((raw - fitted.center_) * fitted.scale_).astype(np.float64)


def slow_reading(query, bank, n_images, k=1):
    """Return the patch map of one image (h, w, d), and its mean distance to the nearest images."""
    gaps = [float(np.linalg.norm(query.mean(axis=(0, 1)) - one.mean(axis=(0, 1)))) for one in bank]
    nearest = sorted(range(len(bank)), key=lambda i: (gaps[i], i))[:n_images]
    rows = np.concatenate([bank[i].reshape(-1, bank[i].shape[2]) for i in nearest])
    drawn = np.zeros(query.shape[:2])
    for y, x in np.ndindex(drawn.shape):
        drawn[y, x] = np.sort(np.sqrt(((rows - query[y, x]) ** 2).sum(axis=1)))[:k].mean()
    return drawn, float(np.mean([gaps[i] for i in nearest]))


def averaged(grid):
    """Mean over 3 x 3 cells; beyond the border stand zeros."""
    wide = np.pad(grid, ((1, 1), (1, 1), (0, 0)))
    out = np.empty_like(grid)
    for y, x in np.ndindex(grid.shape[:2]):
        out[y, x] = wide[y : y + 3, x : x + 3].mean(axis=(0, 1))
    return out


def smoothed(drawn):
    return upsample(drawn.astype(np.float32), (96, 96), sigma=4.0)


@pytest.mark.parametrize(("n_images", "k"), [(1, 1), (4, 3), (50, 1)])
def test_a_new_image_is_compared_with_the_most_similar_ones(n_images, k):
    fitted = gallery(n_images=n_images, n_neighbors=k).fit(GOODS)
    whole = gallery(n_images=n_images, n_neighbors=k, score="image").fit(GOODS)
    for image in FRESH:
        query, bank = grids(fitted, [image])[0], grids(fitted, GOODS)
        drawn, distance = slow_reading(query, bank, min(n_images, 17), k)
        expected = smoothed(drawn)
        np.testing.assert_allclose(fitted.get_anomaly_map(image), expected, rtol=1e-4, atol=1e-5)
        assert fitted.decision_function([image])[0] == pytest.approx(expected.max(), rel=1e-4)
        assert whole.decision_function([image])[0] == pytest.approx(distance, rel=1e-4)
        assert np.array_equal(whole.get_anomaly_map(image), fitted.get_anomaly_map(image))


def test_patches_are_averaged_over_their_neighbourhood_and_images_are_not():
    fitted = gallery(neighbourhood=3, n_images=4).fit(GOODS)
    bank, (query,) = grids(fitted, GOODS), grids(fitted, FRESH[:1])
    _, distance = slow_reading(query, bank, 4)
    gaps = np.linalg.norm(fitted.embeddings_ - query.mean(axis=(0, 1)), axis=1)
    assert np.sort(gaps)[:4].mean() == pytest.approx(distance, rel=1e-4)
    rows = np.concatenate([averaged(bank[i]).reshape(-1, 6) for i in np.argsort(gaps)[:4]])
    cells = averaged(query).reshape(-1, 6)
    nearest = [np.sqrt(((rows - cell) ** 2).sum(axis=1)).min() for cell in cells]
    expected = smoothed(np.array(nearest).reshape(12, 12))
    np.testing.assert_allclose(fitted.get_anomaly_map(FRESH[0]), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("score", ["map", "image"])
def test_a_good_image_is_judged_without_its_block(score):
    """Neither is an image of the block chosen, nor a patch of it compared with."""
    fitted = gallery(n_images=3, score=score).fit(GOODS)
    everything = grids(fitted, GOODS)
    for i in (0, 4, 5, 13, N - 1):
        drawn, distance = slow_reading(everything[i], everything[BLOCKS[i] != BLOCKS], 3)
        expected = distance if score == "image" else smoothed(drawn).max()
        assert fitted.decision_scores_[i] == pytest.approx(expected, rel=1e-4)


def test_a_gallery_knows_its_own_images_and_is_not_calibrated_on_them():
    fitted = gallery(n_images=2).fit([*GOODS[:21], GOODS[3]])
    np.testing.assert_allclose(fitted.decision_function(GOODS[:21]), 0, atol=1e-5)
    assert fitted.decision_scores_.min() > 0.1
    assert fitted.decision_scores_[21] == fitted.decision_scores_[3]  # copies share a block
    alone = gallery(n_images=1, score="image").fit(GOODS)
    assert np.array_equal(alone.decision_function(GOODS), np.zeros(N))
    assert alone.decision_scores_.min() > 0


def test_what_is_good_on_another_kind_of_part_is_found():
    """Bright patches are good on bright parts; a dark part with one is compared with dark parts."""

    def part(level, seed):
        noise = np.random.default_rng(seed).integers(-5, 6, (96, 96, 3))
        return (level + noise).astype(np.uint8)

    goods = [part(40 + 160 * (i % 2), i) for i in range(12)]
    mixed = part(40, 99)
    mixed[32:56, 32:56] = part(200, 98)[32:56, 32:56]
    scores = {
        k: gallery(n_images=k).fit(goods).decision_function([mixed, part(40, 97)]) for k in (5, 50)
    }
    assert scores[5][0] > 5 * scores[5][1]
    assert scores[50][0] < 2 * scores[50][1]


def test_as_many_images_as_every_good_image_can_be_compared_with():
    assert gallery().fit(GOODS).n_nearest_ == N - 5
    assert gallery(n_images=4).fit(GOODS).n_nearest_ == 4
    assert gallery().fit(GOODS[:6]).n_nearest_ == 5
    assert gallery().fit(GOODS, calibration=FRESH).n_nearest_ == N - 5  # the same model
    apart = gallery().fit(GOODS[:9], calibration=FRESH)
    assert apart.n_nearest_ == 9
    np.testing.assert_allclose(apart.decision_function(GOODS[:9]), 0, atol=1e-5)
    assert gallery().fit(GOODS[:1]).decision_function(FRESH).min() > 0


def test_at_most_max_rows_are_drawn_evenly_and_recorded():
    fitted = gallery(max_rows=N * 10 + 5).fit(GOODS)
    assert (fitted.n_rows_, fitted.n_sampled_) == (N * CELLS, N * 10)
    everything = grids(fitted, GOODS).astype(np.float32).reshape(N, CELLS, 6)
    for patches, cells in zip(fitted.patches_, everything, strict=True):
        found = {np.flatnonzero((cells == one).all(axis=1))[0] for one in patches}
        assert len(found) == 10
    again = gallery(max_rows=N * 10 + 5).fit(GOODS)
    assert np.array_equal(again.patches_, fitted.patches_)
    assert np.array_equal(again.decision_scores_, fitted.decision_scores_)
    other = gallery(max_rows=N * 10 + 5, seed=1).fit(GOODS)
    assert not np.array_equal(other.patches_, fitted.patches_)
    np.testing.assert_allclose(  # images are chosen by all of their patches
        fitted.embeddings_, everything.mean(axis=1, dtype=np.float64), atol=1e-6
    )
    assert gallery(max_rows=1).fit(GOODS).n_sampled_ == N


def test_features_that_lie_on_disk_give_the_same_gallery(monkeypatch):
    expected = gallery(n_images=3).fit(GOODS)
    monkeypatch.setattr(pyimgano.feature_detector, "_SPILL_BYTES", 0)
    fitted = gallery(n_images=3).fit(GOODS)
    assert type(fitted.patches_) is np.ndarray
    assert np.array_equal(fitted.decision_scores_, expected.decision_scores_)


EXACT = [entry.name for entry in INDEXES.entries() if entry.metadata.exact]


@pytest.mark.parametrize("name", EXACT)
def test_every_index_gives_the_same_scores(name):
    if INDEXES.entry(name).metadata.missing:
        pytest.skip(f"needs {', '.join(INDEXES.entry(name).metadata.missing)}")
    expected = gallery(n_images=3).fit(GOODS[:8])
    fitted = gallery(n_images=3, index=name).fit(GOODS[:8])
    np.testing.assert_allclose(fitted.decision_scores_, expected.decision_scores_, rtol=1e-6)
    found = fitted.decision_function(FRESH)
    np.testing.assert_allclose(found, expected.decision_function(FRESH), rtol=1e-6)


@pytest.mark.parametrize("score", ["map", "image"])
def test_a_loaded_gallery_is_bit_equal(tmp_path, score):
    fitted = gallery(n_images=3, max_rows=N * 50, score=score).fit(GOODS)
    fitted.save(tmp_path / "model.pyimg")
    loaded = load(tmp_path / "model.pyimg", extractor=TinyExtractor())
    assert np.array_equal(loaded.decision_function(FRESH), fitted.decision_function(FRESH))
    maps = [one.predict_anomaly_map(FRESH) for one in (loaded, fitted)]
    assert np.array_equal(*maps)


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_images": 0},
        {"n_neighbors": 0},
        {"max_rows": 0},
        {"score": "pixel"},
        {"neighbourhood": 2},
    ],
    ids=str,
)
def test_parameters_that_cannot_be_used_are_named(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        gallery(**wrong).fit(GOODS)


def test_more_neighbours_than_there_are_patches():
    with pytest.raises(InputError, match="lower k"):
        gallery(n_images=1, n_neighbors=CELLS + 1).fit(GOODS)

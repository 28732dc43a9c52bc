"""PatchCore against brute force in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import pyimgano
from fakes import TinyExtractor
from pyimgano.detector_contract import texture
from pyimgano.errors import InputError, ParameterError
from pyimgano.maps.upsample import upsample
from pyimgano.models._coreset import cover_radius, greedy_k_center
from pyimgano.models._neighbourhood import pooled as pooled_by_layer
from pyimgano.models.knn_index import INDEXES
from pyimgano.models.patchcore import PatchCore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

N = 22
CELLS = 144
GOODS = [texture(i) for i in range(N)]
FRESH = [texture(500 + i) for i in range(2)]
BLOCKS = np.arange(N) * 5 // N


def patchcore(**parameters: Any) -> PatchCore:
    small = {"extractor": TinyExtractor(), "size": 96, "pad": 0, "neighbourhood": 1}
    return PatchCore(**{**small, **parameters})


def grids(fitted: PatchCore, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Standardised features (n, 12, 12, 6), by hand."""
    raw = np.stack([one.values for one in TinyExtractor().embed(images)])
    return ((raw - fitted.center_) * fitted.scale_).astype(np.float64)


def distances(queries: NDArray[np.float64], bank: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(((queries[:, None] - bank[None]) ** 2).sum(axis=2))


@pytest.fixture(scope="module")
def full() -> PatchCore:
    return patchcore(coreset=1.0).fit(GOODS)


def test_with_all_patches_the_map_is_the_exact_distance(full: PatchCore) -> None:
    bank = grids(full, GOODS).reshape(-1, 6)
    for image in FRESH:
        exact = distances(grids(full, [image]).reshape(-1, 6), bank).min(axis=1).reshape(12, 12)
        drawn = upsample(exact.astype(np.float32), (96, 96), sigma=4.0)
        np.testing.assert_allclose(full.get_anomaly_map(image), drawn, rtol=1e-4, atol=1e-5)
        assert full.decision_function([image])[0] == pytest.approx(drawn.max(), rel=1e-4)


def test_a_good_image_is_scored_without_its_block(full: PatchCore) -> None:
    everything = grids(full, GOODS)
    for i in (0, 4, 5, 13, N - 1):
        bank = everything[BLOCKS[i] != BLOCKS].reshape(-1, 6)
        exact = distances(everything[i].reshape(-1, 6), bank).min(axis=1).reshape(12, 12)
        drawn = upsample(exact.astype(np.float32), (96, 96), sigma=4.0)
        assert full.decision_scores_[i] == pytest.approx(drawn.max(), rel=1e-4)
    assert (full.decision_scores_ > 0).all()
    in_sample = full.decision_function(GOODS)
    np.testing.assert_allclose(in_sample, 0, atol=1e-5)


def test_copies_of_an_image_do_not_hide_each_other() -> None:
    fitted = patchcore(coreset=1.0).fit([*GOODS[:21], GOODS[3]])
    assert fitted.decision_scores_.min() > 0.1
    assert fitted.decision_scores_[21] == fitted.decision_scores_[3]


def test_several_neighbours_are_averaged() -> None:
    fitted = patchcore(coreset=1.0, n_neighbors=3).fit(GOODS)
    bank = grids(fitted, GOODS).reshape(-1, 6)
    nearest = np.sort(distances(grids(fitted, FRESH[:1]).reshape(-1, 6), bank), axis=1)[:, :3]
    drawn = upsample(nearest.mean(axis=1).reshape(12, 12).astype(np.float32), (96, 96), sigma=4.0)
    np.testing.assert_allclose(fitted.get_anomaly_map(FRESH[0]), drawn, rtol=1e-4, atol=1e-5)


def pooled(grid: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Mean over a square of cells; beyond the border stand zeros."""
    reach = side // 2
    wide = np.pad(grid, ((reach, reach), (reach, reach), (0, 0)))
    out = np.empty_like(grid)
    for y in range(grid.shape[0]):
        for x in range(grid.shape[1]):
            out[y, x] = wide[y : y + side, x : x + side].mean(axis=(0, 1))
    return out


@pytest.mark.parametrize("side", [3, 5])
def test_patches_are_averaged_over_their_neighbourhood(side: int) -> None:
    fitted = patchcore(coreset=1.0, neighbourhood=side).fit(GOODS[:6])
    bank = np.stack([pooled(grid, side) for grid in grids(fitted, GOODS[:6])]).reshape(-1, 6)
    np.testing.assert_allclose(np.sort(fitted.bank_, axis=0), np.sort(bank, axis=0), atol=1e-5)
    query = pooled(grids(fitted, FRESH[:1])[0], side).reshape(-1, 6)
    exact = distances(query, bank).min(axis=1).reshape(12, 12).astype(np.float32)
    expected = upsample(exact, (96, 96), sigma=4.0)
    np.testing.assert_allclose(fitted.get_anomaly_map(FRESH[0]), expected, rtol=1e-3, atol=1e-4)


def test_each_layer_is_averaged_over_its_own_cells() -> None:
    grid = np.random.default_rng(0).normal(size=(9, 11, 5)).astype(np.float32)
    found = pooled_by_layer(grid[None], 3, ((2, 1), (3, 2)))[0]
    np.testing.assert_allclose(found[..., :2], pooled(grid[..., :2], 3), atol=1e-6)
    np.testing.assert_allclose(found[..., 2:], pooled(grid[..., 2:], 5), atol=1e-6)


def reweighted(query: NDArray[np.float64], bank: NDArray[np.float64], neighbours: int) -> float:
    """Equations 6 and 7 of PatchCore, literally."""
    table = distances(query, bank)
    nearest = table.argmin(axis=1)
    worst = int(table.min(axis=1).argmax())
    star = table[worst].min()
    around = np.argsort(distances(bank[nearest[worst]][None], bank)[0], kind="stable")[:neighbours]
    gaps = distances(query[worst][None], bank[around])[0]
    return float((1 - np.exp(star) / np.exp(gaps).sum()) * star)


@pytest.mark.parametrize("neighbours", [2, 9])
def test_the_image_score_is_reweighted_as_in_the_paper(neighbours: int) -> None:
    fitted = patchcore(coreset=0.3, reweight=neighbours).fit(GOODS)
    bank = fitted.bank_.astype(np.float64)
    for image in FRESH:
        expected = reweighted(grids(fitted, [image]).reshape(-1, 6), bank, neighbours)
        assert fitted.decision_function([image])[0] == pytest.approx(expected, rel=1e-4)
    everything = grids(fitted, GOODS)
    for i in (0, 12, N - 1):
        others = bank[fitted.bank_blocks_ != BLOCKS[i]]
        expected = reweighted(everything[i].reshape(-1, 6), others, neighbours)
        assert fitted.decision_scores_[i] == pytest.approx(expected, rel=1e-4)


def test_reweighting_stays_finite_for_large_distances() -> None:
    """Literally, e to the distance overflows from 710 on."""
    fitted = patchcore(coreset=0.3, reweight=3).fit(GOODS)
    fitted.scale_ = fitted.scale_ * np.float32(1e4)
    scores = fitted.decision_function(FRESH)
    assert np.isfinite(scores).all()
    assert (scores > 0).all()


def test_reweighting_has_its_neighbours_in_every_block() -> None:
    fitted = patchcore(coreset=1e-6, reweight=9).fit(GOODS[:2])
    assert np.bincount(fitted.bank_blocks_).tolist() == [9, 9]
    assert np.isfinite(fitted.decision_scores_).all()


def test_the_memory_is_the_union_of_the_coresets_of_the_blocks() -> None:
    fitted = patchcore(coreset=0.1).fit(GOODS)
    everything = grids(fitted, GOODS).astype(np.float32)
    expected, owners = [], []
    for block in range(5):
        rows = everything[block == BLOCKS].reshape(-1, 6)
        count = int(np.ceil(0.1 * len(rows)))
        expected.append(rows[greedy_k_center(rows, count, 0)])
        owners += [block] * count
    np.testing.assert_array_equal(fitted.bank_, np.concatenate(expected))
    np.testing.assert_array_equal(fitted.bank_blocks_, owners)


def test_the_cover_radius_is_that_of_the_worst_block_and_is_told(tmp_path: Path) -> None:
    fitted = patchcore(coreset=0.1).fit(GOODS)
    everything, radii = grids(fitted, GOODS).astype(np.float32), []
    for block in range(5):
        rows = everything[block == BLOCKS].reshape(-1, 6)
        count = int(np.ceil(0.1 * len(rows)))
        radii.append(cover_radius(rows, greedy_k_center(rows, count, 0)))
    assert fitted.cover_radius_ == max(radii)
    told = fitted.learned()["memory"]
    assert told.startswith(f"{len(fitted.bank_)} of {N * CELLS} patches as float32; none of the ")
    assert f"farther than {fitted.cover_radius_:.4g} " in told
    fitted.save(tmp_path / "model.pyimg")
    loaded = PatchCore.load(tmp_path / "model.pyimg", extractor=TinyExtractor())
    assert loaded.cover_radius_ == fitted.cover_radius_
    assert loaded.learned()["memory"] == told
    assert patchcore(coreset=0.3).fit(GOODS).cover_radius_ < fitted.cover_radius_
    assert patchcore(coreset=1.0).fit(GOODS[:6]).cover_radius_ == 0


def test_half_the_bytes_are_calibrated_as_they_are_kept(tmp_path: Path) -> None:
    plain, half = (
        patchcore(coreset=1.0, storage=name).fit(GOODS) for name in ("float32", "float16")
    )
    assert half.bank_.dtype == np.float16
    np.testing.assert_array_equal(half.bank_, plain.bank_.astype(np.float16))
    everything, bank = grids(half, GOODS).astype(np.float32), half.bank_.astype(np.float64)
    for i in (0, 9, N - 1):
        rows = everything[i].reshape(-1, 6).astype(np.float64)
        exact = distances(rows, bank[half.bank_blocks_ != BLOCKS[i]]).min(axis=1)
        drawn = upsample(exact.reshape(12, 12).astype(np.float32), (96, 96), sigma=4.0)
        assert half.decision_scores_[i] == pytest.approx(drawn.max(), rel=1e-6)
    plain.save(tmp_path / "plain.pyimg")
    half.save(tmp_path / "half.pyimg")
    saved = (tmp_path / "plain.pyimg").stat().st_size - (tmp_path / "half.pyimg").stat().st_size
    assert abs(saved - half.bank_.nbytes) < 200
    loaded = PatchCore.load(tmp_path / "half.pyimg", extractor=TinyExtractor())
    assert loaded.bank_.dtype == np.float16
    assert loaded.index_._index._bank.rows.dtype == np.float16
    np.testing.assert_array_equal(loaded.decision_function(FRESH), half.decision_function(FRESH))
    assert "as float16" in loaded.learned()["memory"]
    assert patchcore(storage="float16", reweight=3).fit(GOODS).decision_function(FRESH).all()


def test_features_beyond_half_floats_are_named() -> None:
    fitted = patchcore(storage="float16").fit(GOODS)
    with pytest.raises(InputError, match=r"reach 7e\+04, float16 only 65504: give storage=float32"):
        fitted._kept(np.array([[7e4, 1.0]], np.float32))


@pytest.mark.parametrize("name", ["faiss_hnsw", "faiss_ivf"])
def test_an_approximate_index_is_told_with_its_recall(name: str, tmp_path: Path) -> None:
    if INDEXES.entry(name).metadata.missing:
        pytest.skip("needs faiss")
    fitted = patchcore(index=name, coreset=1.0).fit(GOODS)
    told = fitted.learned()["neighbours"]
    assert told.startswith(f"approximate, by {name}: the nearest other is found of ")
    assert f" {fitted.index_.recall_:.1%} of a sample" in told
    exact = patchcore(coreset=1.0).fit(GOODS)
    assert "neighbours" not in exact.learned()
    assert (fitted.decision_scores_ >= exact.decision_scores_ - 1e-6).all()
    fitted.save(tmp_path / "model.pyimg")
    loaded = PatchCore.load(tmp_path / "model.pyimg", extractor=TinyExtractor())
    assert loaded.learned() == fitted.learned()
    np.testing.assert_array_equal(loaded.decision_function(FRESH), fitted.decision_function(FRESH))


def test_without_blocks_the_memory_is_one_coreset() -> None:
    fitted = patchcore(coreset=0.1).fit(GOODS[:9], calibration=FRESH)
    rows = grids(fitted, GOODS[:9]).astype(np.float32).reshape(-1, 6)
    expected = rows[greedy_k_center(rows, int(np.ceil(0.1 * len(rows))), 0)]
    np.testing.assert_array_equal(fitted.bank_, expected)


def test_images_of_their_own_for_the_threshold_leave_the_memory_as_it_is() -> None:
    fitted, apart = patchcore().fit(GOODS), patchcore().fit(GOODS, calibration=FRESH)
    np.testing.assert_array_equal(apart.bank_, fitted.bank_)
    assert len(apart.decision_scores_) == len(FRESH)


def test_at_most_max_rows_are_drawn_evenly_and_recorded() -> None:
    fitted = patchcore(coreset=1.0, max_rows=N * 10 + 5).fit(GOODS)
    assert (fitted.n_rows_, fitted.n_sampled_) == (N * CELLS, N * 10)
    assert len(fitted.bank_) == N * 10
    everything = grids(fitted, GOODS).astype(np.float32).reshape(N, CELLS, 6)
    for block in range(5):
        rows = fitted.bank_[fitted.bank_blocks_ == block]
        images = [
            sum((row == patch).all() for row in rows for patch in everything[i])
            for i in np.flatnonzero(block == BLOCKS)
        ]
        assert set(images) == {10}
    again = patchcore(coreset=1.0, max_rows=N * 10 + 5).fit(GOODS)
    np.testing.assert_array_equal(again.bank_, fitted.bank_)
    other = patchcore(coreset=1.0, max_rows=N * 10 + 5, seed=1).fit(GOODS)
    assert not np.array_equal(other.bank_, fitted.bank_)
    unsampled = patchcore(coreset=0.01).fit(GOODS)
    assert unsampled.n_rows_ == unsampled.n_sampled_ == N * CELLS


EXACT = [entry.name for entry in INDEXES.entries() if entry.metadata.exact]


@pytest.mark.parametrize("name", EXACT)
def test_every_index_gives_the_same_scores(name: str) -> None:
    if INDEXES.entry(name).metadata.missing:
        pytest.skip(f"needs {', '.join(INDEXES.entry(name).metadata.missing)}")
    expected = patchcore().fit(GOODS[:8])
    fitted = patchcore(index=name).fit(GOODS[:8])
    np.testing.assert_allclose(fitted.decision_scores_, expected.decision_scores_, rtol=1e-6)
    found = fitted.decision_function(FRESH)
    np.testing.assert_allclose(found, expected.decision_function(FRESH), rtol=1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"coreset": 0.0}, "coreset is a share"),
        ({"coreset": 1.5}, "coreset is a share"),
        ({"neighbourhood": 2}, "must be odd"),
        ({"neighbourhood": -1}, "must be odd"),
        ({"n_neighbors": 0}, "at least 1"),
        ({"max_rows": 0}, "at least 1"),
        ({"storage": "int8"}, "float32 or float16, got 'int8'"),
        ({"reweight": -1}, "2 and more"),
        ({"reweight": 1}, "always 0"),
        ({"sigma": -1.0}, "sigma"),
    ],
)
def test_parameters_are_checked_by_fit(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        patchcore(**changed).fit(GOODS)


# Light ------------------------------------------------------------------------------------------


def test_light_variants_are_learned_in_the_block_of_their_image() -> None:
    plain, lit = patchcore(coreset=1.0).fit(GOODS), patchcore(coreset=1.0, light=True).fit(GOODS)
    assert lit.n_rows_ == 5 * plain.n_rows_
    assert len(lit.decision_scores_) == N
    assert (lit.decision_scores_ <= plain.decision_scores_ + 1e-9).all()  # a memory that is larger
    assert (lit.decision_scores_ > 0).all()  # but not of one's own variants
    images = lit.bank_origins_[:, 0]
    assert np.array_equal(np.unique(images), np.arange(N))
    assert np.array_equal(lit.bank_blocks_, BLOCKS[images])
    darker = np.rint(0.85 * GOODS[3]).astype(np.uint8)
    assert lit.decision_function([darker])[0] < 1e-5 < plain.decision_function([darker])[0]


def test_with_light_variants_less_light_is_forgiven(tmp_path: Path) -> None:
    dim = [np.rint(0.9 * one).astype(np.uint8) for one in (texture(700 + i) for i in range(8))]
    above = []
    for light in (False, True):
        fitted = patchcore(light=light).fit(GOODS)
        above.append(np.median(fitted.decision_function(dim)) / fitted.threshold_)
    assert above[1] < above[0]
    fitted.save(tmp_path / "m.pyimg")
    loaded = pyimgano.load(tmp_path / "m.pyimg", extractor=TinyExtractor())
    assert loaded.light
    assert np.array_equal(loaded.decision_function(dim), fitted.decision_function(dim))

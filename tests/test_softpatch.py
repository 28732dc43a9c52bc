"""SoftPatch against slow code and scikit-learn; and on goods that hold defects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.neighbors import LocalOutlierFactor

from fakes import TinyExtractor
from pyimgano.detector_contract import _plant, texture
from pyimgano.errors import ParameterError
from pyimgano.maps.upsample import upsample
from pyimgano.metrics import auroc
from pyimgano.models._coreset import greedy_k_center
from pyimgano.models.patchcore import PatchCore
from pyimgano.models.softpatch import SoftPatch, outlier_factors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

N = 22
GOODS = [texture(i) for i in range(N)]
FRESH = [texture(500 + i) for i in range(2)]
BLOCKS = np.arange(N) * 5 // N
FLOOR = 0.01 * np.sqrt(2 * 6)


def softpatch(**parameters: Any) -> SoftPatch:
    small = {"extractor": TinyExtractor(), "size": 96, "pad": 0, "neighbourhood": 1}
    return SoftPatch(**{**small, **parameters})


def grids(fitted: SoftPatch, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Standardised features (n, 12, 12, 6), by hand."""
    raw = np.stack([one.values for one in TinyExtractor().embed(images)])
    return ((raw - fitted.center_) * fitted.scale_).astype(np.float64)


def slow_factors(points: NDArray[np.float64], k: int, floor: float) -> list[float]:
    """Breunig et al., definitions 3 to 7, point by point."""
    n = len(points)
    gaps = [[float(np.linalg.norm(points[i] - points[j])) for j in range(n)] for i in range(n)]
    near = [sorted((j for j in range(n) if j != i), key=lambda j: gaps[i][j])[:k] for i in range(n)]
    radius = [max(gaps[i][j] for j in near[i]) for i in range(n)]
    density = []
    for i in range(n):
        reach = [max(radius[j], gaps[i][j]) for j in near[i]]
        density.append(1 / (np.mean(reach) + floor))
    return [np.mean([density[j] for j in near[i]]) / density[i] for i in range(n)]


def slow_memory(
    features: NDArray[np.float64], blocks: NDArray[np.int64], noise: float, coreset: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Factors position by position, the largest share dropped, a coreset of each block."""
    factors = np.empty(features.shape[:3])
    for y, x in np.ndindex(12, 12):
        factors[:, y, x] = slow_factors(features[:, y, x], 6, FLOOR)
    limit = np.quantile(factors, 1 - noise)
    rows, weights = [], []
    for block in np.unique(blocks):
        kept = factors[blocks == block] <= limit
        own = features[blocks == block][kept]
        chosen = greedy_k_center(own.astype(np.float32), int(np.ceil(coreset * len(own))), 0)
        rows.append(own[chosen])
        weights.append(factors[blocks == block][kept][chosen])
    return np.concatenate(rows), np.concatenate(weights)


def slow_scores(
    queries: NDArray[np.float64], bank: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Distance to the nearest row, times that row's weight."""
    out = np.empty((12, 12), np.float32)
    for y, x in np.ndindex(12, 12):
        gaps = np.sqrt(((queries[y, x] - bank) ** 2).sum(axis=1))
        out[y, x] = gaps.min() * weights[gaps.argmin()]
    return out


@pytest.mark.parametrize("k", [1, 4, 19])
def test_the_factor_is_that_of_scikit_learn(k: int) -> None:
    points = np.random.default_rng(k).normal(size=(3, 2, 20, 5)) ** 3 + 100
    found = outlier_factors(points, k)
    for place in np.ndindex(3, 2):
        model = LocalOutlierFactor(n_neighbors=k).fit(points[place])
        np.testing.assert_allclose(found[place], -model.negative_outlier_factor_, rtol=1e-9)
        slow = slow_factors(points[place], k, 1e-10)
        np.testing.assert_allclose(found[place], slow, rtol=1e-9)


def test_equal_points_are_not_infinitely_dense() -> None:
    points = np.ones((10, 4))
    np.testing.assert_array_equal(outlier_factors(points, 3, 0.1), 1)
    points[7] += 0.01
    found = outlier_factors(points, 3, 0.1)
    assert found[7] == pytest.approx((0.02 + 0.1) / 0.1)
    assert outlier_factors(points, 3)[7] > 1e7


def test_memory_weights_and_scores() -> None:
    fitted = softpatch(noise=0.2, coreset=0.3).fit(GOODS)
    bank, weights = slow_memory(grids(fitted, GOODS), BLOCKS, 0.2, 0.3)
    np.testing.assert_allclose(fitted.bank_, bank, rtol=1e-6)
    np.testing.assert_allclose(fitted.weights_, weights, rtol=1e-4)
    assert np.ptp(weights) > 0.1
    for image in FRESH:
        expected = slow_scores(grids(fitted, [image])[0], bank, weights)
        drawn = upsample(expected, (96, 96), sigma=4.0)
        np.testing.assert_allclose(fitted.get_anomaly_map(image), drawn, rtol=1e-3)
        assert fitted.decision_function([image])[0] == pytest.approx(drawn.max(), rel=1e-4)


def test_a_good_image_is_scored_by_a_memory_that_knows_nothing_of_its_block() -> None:
    fitted = softpatch(coreset=0.3).fit(GOODS)
    everything = grids(fitted, GOODS)
    for i in (0, 9, N - 1):
        others = BLOCKS[i] != BLOCKS
        memory = slow_memory(everything[others], BLOCKS[others], 0.15, 0.3)
        drawn = upsample(slow_scores(everything[i], *memory), (96, 96), sigma=4.0)
        assert fitted.decision_scores_[i] == pytest.approx(drawn.max(), rel=1e-4)


def test_patches_are_averaged_over_their_neighbourhood_first() -> None:
    """With everything remembered it is the memory of PatchCore, which has its own oracle."""
    wide = softpatch(neighbourhood=3, noise=0.0, coreset=1.0).fit(GOODS)
    small = {"extractor": TinyExtractor(), "size": 96, "pad": 0, "neighbourhood": 3}
    expected = PatchCore(**small, coreset=1.0).fit(GOODS).bank_
    np.testing.assert_array_equal(np.sort(wide.bank_, axis=0), np.sort(expected, axis=0))


def test_without_noise_all_is_remembered() -> None:
    fitted = softpatch(noise=0.0, coreset=1.0).fit(GOODS)
    everything = grids(fitted, GOODS).reshape(-1, 6)
    np.testing.assert_allclose(
        np.sort(fitted.bank_, axis=0), np.sort(everything, axis=0), atol=1e-6
    )
    np.testing.assert_allclose(fitted.decision_function(GOODS), 0, atol=1e-5)


def test_at_most_max_rows_are_drawn_from_all_images() -> None:
    fitted = softpatch(coreset=1.0, max_rows=N * 10 + 5).fit(GOODS)
    everything = grids(fitted, GOODS).astype(np.float32)
    owners = [int(np.argwhere((everything == row).all(axis=3))[0][0]) for row in fitted.bank_]
    assert np.bincount(owners).tolist() == [10] * N
    again = softpatch(coreset=1.0, max_rows=N * 10 + 5).fit(GOODS)
    np.testing.assert_array_equal(again.bank_, fitted.bank_)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_images_have_few_neighbours(n: int) -> None:
    fitted = softpatch().fit(GOODS[:n], calibration=GOODS[10:14])
    assert np.isfinite(fitted.decision_function(FRESH)).all()
    if n == 1:
        np.testing.assert_array_equal(fitted.weights_, 1)
        assert len(fitted.bank_) == 15


def test_an_image_that_is_noise_throughout_leaves_nothing_behind() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    fitted = softpatch(coreset=1.0).fit([*GOODS[:7], noise])
    foreign = grids(fitted, [noise]).astype(np.float32).reshape(-1, 6)
    assert not any((fitted.bank_ == row).all(axis=1).any() for row in foreign)
    assert fitted.decision_scores_.argmax() == 7


@pytest.mark.parametrize("share", [5, 8])
def test_defects_among_the_goods_do_not_blind_it(share: int) -> None:
    """Every fifth or eighth good image has the defect that is to be found."""
    mixed = [_plant(texture(i)) if i % share == 3 else texture(i) for i in range(24)]
    fresh = [texture(500 + i) for i in range(10)]
    bad = [_plant(texture(600 + i)) for i in range(8)]
    found = {}
    for kind in (SoftPatch, PatchCore):
        detector = kind(extractor="handcrafted", size=96, contamination=0.25).fit(mixed)
        scores = detector.decision_function([*fresh, *bad])
        found[kind] = auroc([0] * 10 + [1] * 8, scores), scores[10:].min() / scores[:10].max()
    assert found[SoftPatch][0] == 1
    assert found[SoftPatch][1] > 4
    assert found[PatchCore][0] < 0.8
    assert found[PatchCore][1] < 1.5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"noise": -0.1}, "noise is a share"),
        ({"noise": 1.0}, "noise is a share"),
        ({"coreset": 0.0}, "coreset one in"),
        ({"neighbourhood": 2}, "must be odd"),
        ({"lof_neighbors": 0}, "at least 1"),
        ({"max_rows": 0}, "at least 1"),
    ],
)
def test_parameters_are_checked_by_fit(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        softpatch(**changed).fit(GOODS)

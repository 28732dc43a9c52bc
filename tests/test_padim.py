"""PaDiM against a covariance and its inverse at every position, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import TinyExtractor
from pyimgano.detector_contract import texture
from pyimgano.errors import InputError, ParameterError
from pyimgano.maps.upsample import upsample
from pyimgano.models import _gaussian
from pyimgano.models._gaussian import fit_places, held_out_distances, place_distances
from pyimgano.models.padim import PaDiM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

GOODS = [texture(i) for i in range(22)]
FRESH = [texture(500 + i) for i in range(3)]
BLOCKS = np.arange(22) * 5 // 22


def padim(**parameters: Any) -> PaDiM:
    return PaDiM(**{"extractor": TinyExtractor(), "size": 96, "pad": 0, **parameters})


def grids(fitted: PaDiM, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    raw = np.stack([one.values for one in TinyExtractor().embed(images)])
    return ((raw - fitted.center_) * fitted.scale_).astype(np.float64)[..., fitted.channels_]


def mahalanobis(
    goods: NDArray[np.float64], query: NDArray[np.float64], regularisation: float
) -> NDArray[np.float64]:
    """Position by position, as the paper writes it."""
    height, width, dimension = query.shape
    out = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            covariance = np.cov(goods[:, y, x].T) + regularisation * np.eye(dimension)
            off = query[y, x] - goods[:, y, x].mean(axis=0)
            out[y, x] = np.sqrt(off @ np.linalg.inv(covariance) @ off)
    return out


@pytest.mark.parametrize("regularisation", [0.01, 0.5])
@pytest.mark.parametrize("n", [4, 22])
def test_the_map_is_the_mahalanobis_distance(n: int, regularisation: float) -> None:
    fitted = padim(regularisation=regularisation).fit(GOODS[:n])
    goods = grids(fitted, GOODS[:n])
    for image in FRESH:
        exact = mahalanobis(goods, grids(fitted, [image])[0], regularisation)
        raw = fitted._score_features(fitted._standardise(fitted._embed([image]))).maps[0]
        np.testing.assert_allclose(raw, exact, rtol=1e-4)
        drawn = upsample(exact.astype(np.float32), (96, 96), sigma=4.0)
        np.testing.assert_allclose(fitted.get_anomaly_map(image), drawn, rtol=1e-4)
        assert fitted.decision_function([image])[0] == pytest.approx(drawn.max(), rel=1e-4)


@pytest.mark.parametrize("n", [2, 3, 10, 11])
def test_a_few_images_keep_their_directions_alone(n: int) -> None:
    draw = np.random.default_rng(n).normal
    goods = (3 + draw(size=(n, 2, 3, 40)) * np.geomspace(30, 1e-3, 40)).astype(np.float32)
    query = np.concatenate([goods[:1], draw(size=(4, 2, 3, 40)).astype(np.float32)])
    places = fit_places(goods, 0.01)
    assert places[1].shape == (2, 3, 2 * n if n <= 10 else 40, 40)
    found = place_distances(query, places, 0.01)
    for one, row in zip(query, found, strict=True):
        exact = mahalanobis(goods.astype(np.float64), one.astype(np.float64), 0.01)
        np.testing.assert_allclose(row, exact, rtol=2e-4)


def test_held_out_scores_are_those_of_a_refit_without_the_block() -> None:
    fitted = padim().fit(GOODS)
    everything = grids(fitted, GOODS)
    for i in (0, 4, 5, 13, 21):
        exact = mahalanobis(everything[BLOCKS[i] != BLOCKS], everything[i], 0.01)
        drawn = upsample(exact.astype(np.float32), (96, 96), sigma=4.0)
        assert fitted.decision_scores_[i] == pytest.approx(drawn.max(), rel=1e-4)


@given(count=st.integers(1, 6), sizes=st.lists(st.integers(1, 5), min_size=2, max_size=4))
def test_leaving_a_block_out_of_the_sums_is_leaving_it_out(count: int, sizes: list[int]) -> None:
    generator = np.random.default_rng(sum(sizes))
    blocks = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    features = generator.normal(3, 1, (len(blocks), 2, 5, count)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:  # so that columns are taken two at a time
        patch.setattr(_gaussian, "_AT_ONCE", 2 * 8 * count**2 * len(sizes))
        found = held_out_distances(features, blocks, 0.1)
    for block in range(len(sizes)):
        held = blocks == block
        places = fit_places(features[~held], 0.1)
        expected = place_distances(features[held], places, 0.1)
        np.testing.assert_allclose(found[held], expected, rtol=1e-3)


def test_channels_are_drawn_once_and_saved() -> None:
    fitted = padim(n_channels=4).fit(GOODS[:6])
    assert fitted.channels_.dtype == np.int64
    assert len(set(fitted.channels_.tolist())) == 4
    assert (np.diff(fitted.channels_) > 0).all()
    assert fitted.whitener_.shape == (12, 12, 4, 4)
    np.testing.assert_array_equal(padim(n_channels=4).fit(GOODS[:6]).channels_, fitted.channels_)
    draws = {tuple(padim(n_channels=4, seed=s).fit(GOODS[:3]).channels_) for s in range(8)}
    assert len(draws) > 1
    exact = mahalanobis(grids(fitted, GOODS[:6]), grids(fitted, FRESH[:1])[0], 0.01)
    expected = upsample(exact.astype(np.float32), (96, 96), sigma=4.0)
    np.testing.assert_allclose(fitted.get_anomaly_map(FRESH[0]), expected, rtol=1e-4)


def test_all_channels_are_taken_if_there_are_no_more() -> None:
    assert padim(n_channels=100).fit(GOODS[:3]).channels_.tolist() == list(range(6))


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_images_for_a_covariance_are_refused(n: int) -> None:
    with pytest.raises(InputError, match=r"two good images .* and three to set a threshold"):
        padim().fit(GOODS[:n])


def test_two_images_do_with_images_for_the_threshold() -> None:
    fitted = padim().fit(GOODS[:2], calibration=GOODS[2:])
    assert fitted.is_calibrated
    exact = mahalanobis(grids(fitted, GOODS[:2]), grids(fitted, FRESH[:1])[0], 0.01)
    drawn = upsample(exact.astype(np.float32), (96, 96), sigma=4.0)
    assert fitted.decision_function(FRESH[:1])[0] == pytest.approx(drawn.max(), rel=1e-4)


@pytest.mark.parametrize("changed", [{"n_channels": 0}, {"regularisation": 0.0}, {"size": 8}])
def test_parameters_are_checked_by_fit(changed: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="must be"):
        padim(**changed).fit(GOODS)

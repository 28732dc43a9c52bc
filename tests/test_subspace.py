"""SubspaceAD against a principal component analysis written out slowly."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
import pytest

from fakes import TinyExtractor
from pyimgano import load
from pyimgano.detector_contract import texture
from pyimgano.errors import NotFittedError, ParameterError
from pyimgano.features.base import PatchFeatures
from pyimgano.models._token_detector import turned
from pyimgano.models.subspace import Subspace, _Basis, _Moments

N = 22
GOODS = [texture(i) for i in range(N)]
FRESH = [texture(500 + i) for i in range(2)]
BLOCKS = np.arange(N) * 5 // N


@dataclass(frozen=True, kw_only=True)
class Wide:
    """Few cells of many numbers: random projections of their pixels, far from zero if asked."""

    cell: int = 24
    dim: int = 384
    offset: float = 0.0

    @property
    def fingerprint(self):
        return f"wide {self}"

    def embed(self, images):
        return [self._one(image) for image in images]

    def _one(self, image):
        side = self.cell
        h, w = image.shape[0] // side, image.shape[1] // side
        cells = image[: h * side, : w * side].reshape(h, side, w, side, 3).swapaxes(1, 2)
        pixels = cells.reshape(h, w, -1).astype(np.float64) / 255
        weights = np.random.default_rng(0).normal(size=(pixels.shape[2], self.dim))
        values = (pixels @ weights + self.offset).astype(np.float32)
        return PatchFeatures(values, (0.0, 0.0, float(h * side), float(w * side)))


def subspace(**parameters):
    small = {"extractor": TinyExtractor(), "size": 96, "rotations": 1, "explained": 0.9}
    return Subspace(**{**small, **parameters})


def tokens_of(image, extractor=None):
    return (extractor or TinyExtractor()).embed([image])[0].values


def slow_model(images, explained, extractor=None):
    """Return the mean and as many right singular vectors as explain the share, but not all."""
    tokens = [tokens_of(image, extractor) for image in images]
    rows = np.concatenate([one.reshape(-1, one.shape[2]) for one in tokens]).astype(np.float64)
    mean = rows.mean(axis=0)
    _, singular, directions = np.linalg.svd(rows - mean, full_matrices=False)
    kept, so_far = 0, 0.0
    while so_far < explained * (singular**2).sum() and kept < rows.shape[1] - 1:
        so_far += singular[kept] ** 2
        kept += 1
    return mean, directions[:kept]


def slow_residuals(tokens, model):
    """Take each component off each token, and square what is left."""
    mean, directions = model
    out = np.zeros(tokens.shape[:2])
    for y, x in np.ndindex(out.shape):
        off = tokens[y, x].astype(np.float64) - mean
        left = off.copy()
        for direction in directions:
            left -= (off @ direction) * direction
        out[y, x] = sum(value**2 for value in left)
    return out


def moments_of(rows, origin):
    moments = _Moments.about(origin)
    moments.add(rows)
    return moments


def slow_score(residuals, share=0.01):
    ordered = sorted(residuals.ravel(), reverse=True)
    return float(np.mean(ordered[: max(1, int(share * len(ordered)))]))


@pytest.mark.parametrize("explained", [0.5, 0.9, 0.99])
def test_residuals_and_scores_follow_the_definition(explained):
    fitted = subspace(explained=explained).fit(GOODS)
    model = slow_model(GOODS, explained)
    assert fitted.components_.shape == model[1].shape
    assert fitted.n_tokens_ == N * 144
    for image in FRESH:
        expected = slow_residuals(tokens_of(image), model)
        found = fitted._distances(fitted._embed([image])[0])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * expected.max())
        score = fitted.decision_function([image])[0]
        assert score == pytest.approx(slow_score(expected), rel=1e-4)


def test_references_are_learned_in_evenly_spaced_orientations():
    fitted = subspace(rotations=5).fit(GOODS[:3])
    views = [turned(image, 72.0 * step) for image in GOODS[:3] for step in range(5)]
    model = slow_model(views, 0.9)
    assert fitted.n_tokens_ == 15 * 144
    expected = slow_residuals(tokens_of(FRESH[0]), model)
    found = fitted._distances(fitted._embed(FRESH[:1])[0])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * expected.max())


@pytest.mark.parametrize("rotations", [1, 9])
def test_a_block_is_left_out_as_if_it_had_never_been_there(rotations):
    """Nine orientations are embedded in two batches."""
    fitted = subspace(rotations=rotations).fit(GOODS)
    for i in (0, 4, 5, 13, N - 1):
        others = [GOODS[j] for j in range(N) if BLOCKS[j] != BLOCKS[i]]
        again = subspace(rotations=rotations).fit(others, calibration=FRESH)
        expected = again.decision_function([GOODS[i]])[0]
        assert fitted.decision_scores_[i] == pytest.approx(expected, rel=1e-4)


def test_few_images_are_left_out_one_by_one():
    fitted = subspace().fit(GOODS[:4])
    for i in range(4):
        model = slow_model([GOODS[j] for j in range(4) if j != i], 0.9)
        expected = slow_score(slow_residuals(tokens_of(GOODS[i]), model))
        assert fitted.decision_scores_[i] == pytest.approx(expected, rel=1e-4)


def test_what_was_learned_is_expressed_where_directions_abound():
    """48 tokens of 384 numbers: everything seen lies in the subspace, nothing else does."""
    fitted = subspace(extractor=Wide(), explained=1.0).fit(GOODS[:3])
    assert fitted.components_.shape == (47, 384)
    spread = slow_score(
        slow_residuals(tokens_of(FRESH[0], Wide()), slow_model(GOODS[:3], 0, Wide()))
    )
    assert fitted.decision_function(GOODS[:3]).max() < 1e-9 * spread
    assert fitted.decision_scores_.min() > 1e-2 * spread
    assert fitted.decision_function(FRESH).min() > 1e-2 * spread


def test_at_least_one_direction_is_left_to_measure():
    fitted = subspace(explained=1.0).fit(GOODS)
    assert fitted.components_.shape == (5, 6)
    assert (fitted.decision_scores_ > 0).all()


def test_tokens_that_are_all_alike_have_no_components():
    rows = np.tile([1.0, 2.0, 3.0], (5, 1))
    basis = _Basis.of([moments_of(rows, rows[0])], 0.99)
    assert basis.components.shape == (0, 3)
    tokens = np.array([[[1, 2, 3], [1, 2, 5]]], np.float32)
    assert basis.residuals(tokens).tolist() == [[0.0, 4.0]]


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_residuals_are_exact_where_little_is_left(offset):
    """As a difference of squares they would drown: 1e-6 left of 100, negative ones among them."""
    generator = np.random.default_rng(0)
    flat = generator.normal(size=(400, 8)) @ generator.normal(size=(8, 64)) * 3
    thick = flat + generator.normal(scale=1e-3, size=flat.shape)
    tokens = (thick + offset).astype(np.float32).reshape(20, 20, 64)
    rows = tokens.reshape(-1, 64).astype(np.float64)
    basis = _Basis.of([moments_of(rows, rows[:50].mean(axis=0))], 0.9999)
    assert len(basis.components) == 8
    mean = rows.mean(axis=0)
    directions = np.linalg.svd(rows - mean)[2][:8]
    expected = slow_residuals(tokens, (mean, directions))
    found = basis.residuals(tokens)
    assert (found >= 0).all()
    np.testing.assert_allclose(found, expected, rtol=0.05 if offset else 0.01)


def test_moments_are_those_of_all_rows():
    generator = np.random.default_rng(1)
    parts = [generator.normal(1e4, 1, (n, 5)) for n in (7, 30)]
    moments = [moments_of(part, parts[0][0]) for part in parts]
    mean, components = _Basis.of(moments, 0.6)
    rows = np.concatenate(parts)
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-6)
    expected = np.linalg.eigh(np.cov(rows.T))[1][:, ::-1].T[: len(components)]
    np.testing.assert_allclose(np.abs(np.sum(components * expected, axis=1)), 1, atol=1e-5)


def test_turned_references_know_turned_parts():
    part = np.full((96, 96, 3), 60, np.uint8)
    part[::2, ::3] = 90
    part[20:40, 10:86] = np.arange(76, dtype=np.uint8)[:, None] + 120
    lying = np.rot90(part).copy()
    wide = {"extractor": Wide(cell=8, dim=64), "explained": 0.999}
    upright, all_ways = (subspace(rotations=n, **wide).fit([part, texture(1)]) for n in (1, 4))
    scores = [one.decision_function([lying])[0] for one in (upright, all_ways)]
    assert scores[1] < 0.2 * scores[0]


def test_a_model_of_384_channels_is_smaller_than_a_megabyte(tmp_path):
    fitted = subspace(extractor=Wide(cell=8), explained=1.0, rotations=3).fit(GOODS[:4])
    fitted.save(tmp_path / "model.pyimg")
    assert fitted.components_.nbytes > 200_000
    fitted.components_ = np.zeros((383, 384), np.float32)  # it cannot become larger
    fitted.save(tmp_path / "largest.pyimg")
    assert (tmp_path / "largest.pyimg").stat().st_size < 1_000_000


def test_a_repeat_and_a_loaded_model_are_bit_equal(tmp_path):
    fitted = subspace(rotations=3).fit(GOODS[:5])
    again = subspace(rotations=3).fit(GOODS[:5])
    assert np.array_equal(fitted.components_, again.components_)
    assert np.array_equal(fitted.decision_scores_, again.decision_scores_)
    fitted.save(tmp_path / "model.pyimg")
    loaded = load(tmp_path / "model.pyimg", extractor=TinyExtractor())
    assert np.array_equal(loaded.decision_function(FRESH), fitted.decision_function(FRESH))
    maps = [one.predict_anomaly_map(FRESH) for one in (loaded, fitted)]
    assert np.array_equal(*maps)
    assert {f.name for f in (tmp_path).iterdir()} == {"model.pyimg"}


def test_one_reference_gives_scores_and_no_threshold(caplog):
    with caplog.at_level(logging.WARNING):
        fitted = subspace(rotations=4).fit(GOODS[:1])
    assert "no threshold" in caplog.text
    assert fitted.decision_function(FRESH).min() > 0
    with pytest.raises(NotFittedError, match="no threshold"):
        fitted.predict(FRESH)
    assert subspace().fit(GOODS[:1], calibration=FRESH).certainty_.n == 2


def test_references_of_several_sizes():
    goods = [GOODS[0], GOODS[1][:, :80], GOODS[2][:88]]
    fitted = subspace(size=80).fit(goods)
    assert [one.shape for one in fitted.predict_anomaly_map(goods)] == [
        (96, 96),
        (96, 80),
        (88, 96),
    ]


@pytest.mark.parametrize(
    "wrong",
    [{"explained": 0.0}, {"explained": 1.01}, {"explained": math.nan}, {"rotations": 0}],
    ids=str,
)
def test_parameters_that_cannot_be_used_are_named(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        subspace(**wrong).fit(GOODS)

"""MuSc against slow, obvious code; what a batch must and must not change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from fakes import TinyExtractor
from pyimgano.detector_contract import _plant, texture
from pyimgano.errors import ParameterError
from pyimgano.features.base import PatchFeatures
from pyimgano.models._token_detector import shortened
from pyimgano.models.musc import MuSc, _likeness, _shared
from token_reference import picture, slow_map

SIZES = [(48, 64), (48, 64), (56, 48), (48, 64), (64, 64)]
BATCH = [picture(seed, *size) for seed, size in enumerate(SIZES)]


@dataclass(frozen=True, kw_only=True)
class TwoLayers(TinyExtractor):
    """Colours, and their deviation on cells twice as wide."""

    def _one(self, image):
        found = super()._one(image)
        return PatchFeatures(found.values, found.extent, ((3, 1), (3, 2)))


# The definition, written out slowly -------------------------------------------------------


def slow_neighbourhood(grid, side, step):
    """Normalise the layer of one image; then average each cell's square, zeros beyond."""
    grid = grid.astype(np.float64)
    grid = (grid - grid.mean()) / np.sqrt(grid.var() + 1e-5)
    reach = (side - 1) * step // 2
    out = np.zeros_like(grid)
    for y, x in np.ndindex(grid.shape[:2]):
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                if 0 <= y + dy < grid.shape[0] and 0 <= x + dx < grid.shape[1]:
                    out[y, x] += grid[y + dy, x + dx]
    return out / (2 * reach + 1) ** 2


def slow_mutual(grids, share):
    """Mean over the nearest other images of the distance to their nearest patch."""
    unit = [grid / np.linalg.norm(grid, axis=2, keepdims=True) for grid in grids]
    scores = []
    for i, grid in enumerate(unit):
        out = np.zeros(grid.shape[:2])
        for y, x in np.ndindex(out.shape):
            gaps = []
            for j, other in enumerate(unit):
                if j != i:
                    gaps.append(
                        min(np.linalg.norm(grid[y, x] - row) for row in other.reshape(-1, 3))
                    )
            count = max(1, int(share * len(gaps)))
            out[y, x] = np.mean(sorted(gaps)[:count])
        scores.append(out)
    return scores


def slow_rescored(scores, tokens, counts):
    """Average scores over the images of the most similar mean tokens."""
    means = [grid.reshape(-1, grid.shape[2]).astype(np.float64).mean(axis=0) for grid in tokens]
    found = []
    for i in range(len(scores)):
        likeness = []
        for j in range(len(scores)):
            cosine = means[i] @ means[j] / np.linalg.norm(means[i]) / np.linalg.norm(means[j])
            likeness.append((np.inf if j == i else cosine, max(cosine, 0), scores[j]))
        likeness.sort(reverse=True)
        averages = []
        for count in counts:
            near = likeness[:count]
            averages.append(sum(w * s for _, w, s in near) / sum(w for _, w, _ in near))
        found.append(np.mean(averages))
    return found


@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
def test_scores_and_maps(share):
    detector = MuSc(extractor=TwoLayers(), size=48, share=share, sigma=2).fit(BATCH)
    tokens = [one.values for one in TwoLayers().embed([shortened(image, 48) for image in BATCH])]
    total = [np.zeros(grid.shape[:2]) for grid in tokens]
    for side in (1, 3, 5):
        for channels, step in ((slice(3), 1), (slice(3, 6), 2)):
            layers = [slow_neighbourhood(grid[..., channels], side, step) for grid in tokens]
            for i, scores in enumerate(slow_mutual(layers, share)):
                total[i] += scores / 6
    expected = slow_rescored([part.max() for part in total], tokens, (1, 2, 3))
    found = list(detector.inspect(BATCH))
    np.testing.assert_allclose([one.score for one in found], expected, rtol=1e-4)
    for one, part, size in zip(found, total, SIZES, strict=True):
        covered = [cells * 8 * min(size) / 48 for cells in part.shape]
        drawn = slow_map(part, covered, size, 2)
        assert np.abs(one.map - drawn).max() <= 1e-4 * drawn.max()


def test_likeness_and_rescoring_by_hand():
    likeness = np.array([[1, 0.5, 0.2], [0.5, 1, 0], [0.2, 0, 1]])
    scores = np.array([3.0, 1.0, 8.0])
    np.testing.assert_array_equal(_shared(scores, likeness, (1,)), scores)
    first = (3 + 0.5) / 1.5
    assert _shared(scores, likeness, (2,))[0] == pytest.approx(first)
    third = (3 + 0.5 + 0.2 * 8) / 1.7
    assert _shared(scores, likeness, (1, 2, 9))[0] == pytest.approx((3 + first + third) / 3)


def test_opposite_images_are_not_alike():
    detector = MuSc(extractor=TinyExtractor(), size=48).fit(BATCH)
    seen = [detector._look(BATCH[0])]
    seen.append(seen[0]._replace(tokens=-seen[0].tokens))
    np.testing.assert_array_equal(_likeness(seen), np.eye(2))


# Properties --------------------------------------------------------------------------------


def test_a_rare_defect_is_found_and_a_common_one_is_not():
    detector = MuSc(extractor=TinyExtractor(), size=96).fit([texture(i) for i in range(6)])
    goods = [texture(100 + i) for i in range(9)]
    rare = detector.decision_function([*goods, _plant(texture(200))])
    assert rare.argmax() == 9
    common = [_plant(texture(200 + i)) for i in range(9)]
    assert detector.decision_function([*common, goods[0]])[:9].max() < rare[9] / 3


def test_copies_vouch_for_each_other():
    detector = MuSc(extractor=TinyExtractor(), size=48, similar=(1,)).fit(BATCH)
    scores = detector.decision_function([*BATCH, BATCH[0]])
    assert scores[0] == scores[5] == 0
    assert (scores[1:5] > 0).all()


def test_the_order_of_the_batch_moves_no_bit():
    detector = MuSc(extractor=TwoLayers(), size=48).fit(BATCH)
    scores = detector.decision_function(BATCH)
    np.testing.assert_allclose(detector.decision_function(BATCH[::-1])[::-1], scores, rtol=1e-12)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"neighbourhoods": (2,)}, "must be odd"),
        ({"neighbourhoods": ()}, "name one at least"),
        ({"share": 0.0}, "share must lie"),
        ({"share": 1.5}, "share must lie"),
        ({"similar": ()}, "similar"),
        ({"similar": (0, 1)}, "similar"),
        ({"aggregation": "median"}, "aggregation"),
    ],
)
def test_parameters_are_checked_by_fit(changed, message):
    with pytest.raises(ParameterError, match=message):
        MuSc(extractor=TinyExtractor(), **changed).fit(BATCH)

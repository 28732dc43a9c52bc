"""The template detector against medians pixel by pixel, and what it forgives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from pyimgano.detector_contract import texture
from pyimgano.errors import ParameterError
from pyimgano.inspection import Verdict
from pyimgano.maps.aggregate import TopMean
from pyimgano.models.template import CHANNELS, Template
from pyimgano.views.align import Align
from pyimgano.views.base import Views
from pyimgano.views.roi import Roi

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

GOODS = [texture(i) for i in range(22)]
FRESH = [texture(500 + i) for i in range(3)]
BLOCKS = np.arange(22) * 5 // 22
FLOOR = (2, 1, 1, 1)


def planes(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """L, a, b and the length of the gradient of a slightly smoothed L."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    light = cv2.GaussianBlur(lab[..., 0], (0, 0), 0.7)
    across = cv2.Sobel(light, cv2.CV_32F, 1, 0) / 4
    down = cv2.Sobel(light, cv2.CV_32F, 0, 1) / 4
    return np.dstack([lab, np.hypot(across, down)]).astype(np.float64)


def slow_map(
    goods: Sequence[NDArray[np.uint8]], image: NDArray[np.uint8], slack: int, floor: float
) -> NDArray[np.float64]:
    """Pixel by pixel and channel by channel, not smoothed."""
    stack, seen = np.stack([planes(good) for good in goods]), planes(image)
    median = np.median(stack, axis=0)
    spread = 1.4826 * np.median(np.abs(stack - median), axis=0)
    height, width = seen.shape[:2]
    drawn = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            near = (
                slice(max(y - slack, 0), y + slack + 1),
                slice(max(x - slack, 0), x + slack + 1),
            )
            said = []
            for c, least in enumerate(FLOOR):
                low, high = median[near][..., c].min(), median[near][..., c].max()
                off = max(low - seen[y, x, c], seen[y, x, c] - high, 0)
                said.append(off / np.sqrt(spread[near][..., c].max() ** 2 + (floor * least) ** 2))
            drawn[y, x] = max(said)
    return drawn


@pytest.mark.parametrize(("n", "slack", "floor"), [(5, 0, 1.0), (8, 2, 0.25)])
def test_the_map_is_the_robust_deviation(n: int, slack: int, floor: float) -> None:
    fitted = Template(slack=slack, floor=floor, sigma=0).fit(GOODS[:n])
    expected = slow_map(GOODS[:n], FRESH[0], slack, floor)
    assert expected.max() > 1
    np.testing.assert_allclose(fitted.get_anomaly_map(FRESH[0]), expected, rtol=1e-3, atol=1e-3)
    assert fitted.decision_function(FRESH[:1])[0] == pytest.approx(expected.max(), rel=1e-3)


def test_scores_and_maps_are_smoothed_alike() -> None:
    fitted = Template(sigma=1.5, aggregation=TopMean(0.01)).fit(GOODS[:6])
    expected = cv2.GaussianBlur(slow_map(GOODS[:6], FRESH[0], 1, 1.0), (0, 0), 1.5)
    np.testing.assert_allclose(fitted.get_anomaly_map(FRESH[0]), expected, rtol=1e-3, atol=2e-3)
    top = np.sort(expected.ravel())[-int(0.01 * expected.size) :].mean()
    assert fitted.decision_function(FRESH[:1])[0] == pytest.approx(top, rel=1e-3)


def test_held_out_scores_are_those_of_a_refit_without_the_block() -> None:
    fitted = Template().fit(GOODS)
    for block in range(5):
        held = np.flatnonzero(block == BLOCKS)
        others = Template().fit([GOODS[i] for i in np.flatnonzero(block != BLOCKS)])
        found = others.decision_function([GOODS[i] for i in held])
        np.testing.assert_array_equal(fitted.decision_scores_[held], found)


@pytest.mark.parametrize("slack", [1, 2])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("way", [-1, 1])
def test_an_edge_may_move_by_the_slack_and_no_further(slack: int, axis: int, way: int) -> None:
    part = np.full((64, 80, 3), (60, 70, 90), np.uint8)
    part[20:44, 24:56] = (200, 160, 120)
    fitted = Template(slack=slack, sigma=0).fit([part] * 3, calibration=GOODS_OF_PART)
    inside = fitted.decision_function([np.roll(part, way * slack, axis)])
    beyond = fitted.decision_function([np.roll(part, way * (slack + 2), axis)])
    assert inside[0] < 0.01
    assert beyond[0] > 10
    strict = Template(slack=0, sigma=0).fit([part] * 3, calibration=GOODS_OF_PART)
    assert strict.decision_function([np.roll(part, way * slack, axis)])[0] > 10


def _noisy(seed: int) -> NDArray[np.uint8]:
    generator = np.random.default_rng(seed)
    image = np.full((64, 80, 3), (60, 70, 90), np.int64)
    image[20:44, 24:56] = (200, 160, 120)
    return (image + generator.integers(-4, 5, image.shape)).astype(np.uint8)


GOODS_OF_PART = [_noisy(seed) for seed in range(4)]


def test_a_few_defects_among_the_goods_do_not_move_the_template() -> None:
    goods = [_noisy(seed) for seed in range(20)]
    spoilt = [image.copy() for image in goods]
    for image in spoilt[:6]:
        image[28:36, 36:44] = 0
    clean, fitted = Template().fit(goods), Template().fit(spoilt)
    fresh, bad = _noisy(100), _noisy(101)
    bad[28:36, 36:44] = 0
    assert fitted.decision_function([bad])[0] > 0.5 * clean.decision_function([bad])[0] > 5
    assert fitted.decision_function([fresh])[0] < 2


def test_a_bounded_sample_is_learned_from_and_recorded() -> None:
    fitted = Template(max_images=7).fit(GOODS)
    assert fitted.kept_.tolist() == [0, 4, 7, 10, 14, 18, 21]
    assert fitted.decision_scores_.shape == (22,)
    same = Template().fit([GOODS[i] for i in fitted.kept_])
    np.testing.assert_array_equal(fitted.decision_function(FRESH), same.decision_function(FRESH))
    # What is no part of the sample is scored by the sample without its block.
    kept = [i for i in fitted.kept_.tolist() if BLOCKS[i] != BLOCKS[2]]
    others = Template().fit([GOODS[i] for i in kept])
    assert fitted.decision_scores_[2] == others.decision_function([GOODS[2]])[0]


@pytest.mark.parametrize(("shape", "expected"), [((96, 96), (48, 48)), ((40, 90), (32, 72))])
def test_the_aspect_is_kept_and_nothing_is_enlarged(
    shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    goods = [image[: shape[0], : shape[1]] for image in GOODS[:4]]
    assert Template(size=48).fit(goods).low_.shape == (*expected, len(CHANNELS))
    assert Template(size=500).fit(goods).low_.shape == (*shape, len(CHANNELS))


def test_another_size_is_an_error_unless_it_is_allowed() -> None:
    large = cv2.resize(FRESH[0], (192, 192), interpolation=cv2.INTER_CUBIC)
    one = next(iter(Template().fit(GOODS[:5]).inspect([large])))
    assert one.verdict is Verdict.ERROR
    assert "192 x 192" in one.error
    fitted = Template(any_size=True).fit(GOODS[:5])
    assert fitted.get_anomaly_map(large).shape == (192, 192)
    near = fitted.decision_function([large, FRESH[0]])
    assert near[0] == pytest.approx(near[1], rel=0.6)


def test_it_sees_through_views() -> None:
    mask = np.zeros((96, 96), np.bool_)
    mask[16:80, 8:90] = True
    bad = FRESH[0].copy()
    bad[30:42, 40:52] = (250, 40, 40)
    view = Views((Roi.of(mask), Align("shift")))
    fitted = Template(view=view).fit(GOODS)
    assert fitted.low_.shape[:2] == (64, 82)
    one = next(iter(fitted.inspect([bad])))
    assert one.verdict is Verdict.NG
    y, x = np.unravel_index(int(one.map.argmax()), one.map.shape)
    assert 30 <= y < 42
    assert 40 <= x < 52
    assert not one.map[:16].any()


def test_it_says_which_channel_is_off() -> None:
    fitted = Template().fit(GOODS)
    red = FRESH[0].copy()
    red[40:60, 40:60, 0] = 250
    evidence = fitted._explain(red, [(0.5, 0.5), (0.02, 0.02)])
    assert tuple(evidence[0].parts) == CHANNELS
    assert evidence[0].parts["green to red"] > 5 > max(evidence[1].parts.values())


@pytest.mark.parametrize(
    "changed", [{"size": 8}, {"slack": -1}, {"floor": 0.0}, {"sigma": -1}, {"max_images": 1}]
)
def test_parameters_are_checked_by_fit(changed: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="must"):
        Template(**changed).fit(GOODS)

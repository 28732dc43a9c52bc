"""Geometry, scale, maps and held-out scores of detectors on patch features."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import fakes
from fakes import CellDetector, LevelDetector, TinyExtractor, grey
from pyimgano.calibration import Conformal
from pyimgano.detector_contract import texture
from pyimgano.errors import (
    CalibrationError,
    InputError,
    MissingExtra,
    ParameterError,
    UnjudgedError,
    UnknownNameError,
)
from pyimgano.feature_detector import FeatureDetector, PatchScores, _allocate, _input_size
from pyimgano.features.base import EXTRACTORS, PatchFeatures
from pyimgano.judging import Reading
from pyimgano.maps.aggregate import Mean
from pyimgano.maps.postprocess import (
    GaussianSmoothing,
    MinMaxNormalisation,
    Pipeline,
    RobustNormalisation,
)
from pyimgano.maps.upsample import upsample
from pyimgano.registry import Metadata
from pyimgano.views.intake import Images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

pytestmark = pytest.mark.usefixtures("named_fakes")


@dataclass(kw_only=True, eq=False)
class MeanPatch(FeatureDetector):
    """Distance of each patch from the mean patch; optionally with scores of its own."""

    extractor: Any = "tiny"
    size: int = 96
    own: float | None = None

    def _fit_features(self, features: NDArray[np.float32], blocks: NDArray[np.int64]) -> None:
        self.seen_blocks_ = blocks
        self.patch_ = features.mean(axis=(0, 1, 2))

    def _score_features(self, features: NDArray[np.float32]) -> PatchScores:
        maps = np.linalg.norm(features - self.patch_, axis=-1).astype(np.float32)
        if self.own is None:
            return PatchScores(maps)
        return PatchScores(maps, self.own * maps.mean(axis=(1, 2), dtype=np.float64))


class Recording(TinyExtractor):
    """Keeps what it was given."""

    seen: list[NDArray[np.uint8]] = []  # noqa: RUF012 - a fake's notebook

    def _one(self, image: NDArray[np.uint8]) -> PatchFeatures:
        self.seen.append(image)
        return super()._one(image)


TEXTURES = [texture(i) for i in range(6)]


@pytest.mark.parametrize(
    ("size", "target", "expected"),
    [
        ((96, 96), 96, (96, 96)),
        ((1000, 1000), 256, (256, 256)),
        ((1000, 500), 256, (384, 192)),
        ((500, 1000), 256, (192, 384)),
        ((10, 4000), 256, (32, 5120)),
        ((264, 256), 256, (256, 256)),
    ],
)
def test_the_input_keeps_aspect_and_area(
    size: tuple[int, int], target: int, expected: tuple[int, int]
) -> None:
    assert _input_size(size, target) == expected


def test_the_extractor_sees_a_resized_image_with_a_reflected_border() -> None:
    import cv2

    Recording.seen.clear()
    images = [grey(90 + i, i, (60, 130)) for i in range(3)]
    fitted = MeanPatch(extractor=Recording(), size=64, pad=8).fit(images)
    assert fitted.input_size_ == (64, 96)
    seen = Recording.seen[0]
    assert seen.shape == (80, 112, 3)
    expected = cv2.resize(images[0], (96, 64), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(seen[8:-8, 8:-8], expected)
    np.testing.assert_array_equal(seen, np.pad(expected, ((8, 8), (8, 8), (0, 0)), "reflect"))


def test_small_images_are_enlarged_and_equal_ones_untouched() -> None:
    import cv2

    Recording.seen.clear()
    small = [grey(90 + i, i, (32, 32)) for i in range(2)]
    MeanPatch(extractor=Recording(), size=64, pad=0).fit(small)
    expected = cv2.resize(small[0], (64, 64), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(Recording.seen[0], expected)
    Recording.seen.clear()
    MeanPatch(extractor=Recording(), pad=0).fit(TEXTURES[:2])
    np.testing.assert_array_equal(Recording.seen[0], TEXTURES[0])


def test_a_border_is_never_wider_than_the_image_can_reflect() -> None:
    fitted = MeanPatch(size=32, pad=200).fit([grey(90 + i, i, (32, 32)) for i in range(3)])
    assert fitted.decision_function([grey(95, 9, (32, 32))]).shape == (1,)


@pytest.mark.parametrize(
    ("pad", "top", "bottom"), [(0, 0, 96), (8, 0, 96), (32, 0, 96), (12, -4, 92), (10, -2, 94)]
)
def test_the_grid_is_cropped_back_to_the_image(pad: int, top: int, bottom: int) -> None:
    """Cells stay whose centre lies in the image; what they cover is remembered."""
    fitted = MeanPatch(pad=pad).fit(TEXTURES)
    assert fitted.extent_ == (top / 96, top / 96, bottom / 96, bottom / 96)


def features_of(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    return np.stack([one.values for one in TinyExtractor().embed(images)]).astype(np.float64)


def test_each_channel_is_centred_and_scaled_over_the_good_images() -> None:
    fitted = MeanPatch(pad=0).fit(TEXTURES)
    raw = features_of(TEXTURES)
    np.testing.assert_allclose(fitted.center_, raw.mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(1 / fitted.scale_, raw.std(axis=(0, 1, 2)), rtol=1e-4)


def test_dead_channels_are_left_out() -> None:
    class Constant(TinyExtractor):
        def _one(self, image: NDArray[np.uint8]) -> PatchFeatures:
            one = super()._one(image)
            values = one.values.copy()
            values[..., 1] = 7
            return PatchFeatures(values, one.extent)

    fitted = MeanPatch(extractor=Constant(), pad=0).fit(TEXTURES)
    assert (fitted.scale_ == 0).tolist() == [False, True, False, False, False, False]
    assert np.isfinite(fitted.decision_scores_).all()


def test_the_map_is_the_smoothed_grid_and_the_score_its_maximum() -> None:
    fitted = MeanPatch(pad=0, sigma=3.0).fit(TEXTURES)
    image = texture(77)
    grid = (features_of([image]) - fitted.center_) * fitted.scale_
    distances = np.linalg.norm(grid - fitted.patch_, axis=-1).astype(np.float32)[0]
    expected = upsample(distances, (96, 96), sigma=3.0)
    np.testing.assert_allclose(fitted.get_anomaly_map(image), expected, rtol=1e-4)
    assert fitted.decision_function([image])[0] == pytest.approx(expected.max(), rel=1e-5)
    averaging = MeanPatch(pad=0, sigma=3.0, aggregation=Mean()).fit(TEXTURES)
    assert averaging.decision_function([image])[0] == pytest.approx(expected.mean(), rel=1e-5)


def test_maps_are_in_original_pixels_and_scores_on_the_input() -> None:
    import cv2

    fitted = MeanPatch(pad=16, any_size=True).fit(TEXTURES)
    image = texture(77)
    large = cv2.resize(image, (240, 192), interpolation=cv2.INTER_NEAREST)
    maps = fitted.predict_anomaly_map([image, large])
    assert isinstance(maps, tuple)
    assert [m.shape for m in maps] == [(96, 96), (192, 240)]
    assert maps[1].dtype == np.float32
    y, x = np.unravel_index(maps[0].argmax(), (96, 96))
    v, u = np.unravel_index(maps[1].argmax(), (192, 240))
    assert abs(v / 2 - y) <= 3
    assert abs(u / 2.5 - x) <= 3
    equal = fitted.predict_anomaly_map([image, image])
    assert equal.shape == (2, 96, 96)


@pytest.mark.parametrize("own", [None, 2.0])
def test_held_out_scores_are_those_of_a_refit_without_the_block(own: float | None) -> None:
    fitted = MeanPatch(pad=0, own=own).fit(TEXTURES)
    grids = ((features_of(TEXTURES) - fitted.center_) * fitted.scale_).astype(np.float32)
    for i in range(6):
        patch = np.delete(grids, i, axis=0).mean(axis=(0, 1, 2))
        distances = np.linalg.norm(grids[i] - patch, axis=-1).astype(np.float32)
        drawn = upsample(distances, (96, 96), sigma=4.0)
        expected = drawn.max() if own is None else own * distances.mean()
        assert fitted.decision_scores_[i] == pytest.approx(expected, rel=1e-4)
    np.testing.assert_array_equal(fitted.seen_blocks_, range(6))


def test_scores_of_its_own_that_are_no_number_are_never_replaced() -> None:
    with pytest.raises(CalibrationError, match="is not finite"):
        MeanPatch(own=math.nan).fit(TEXTURES)


def test_separate_images_calibrate_scores_and_maps() -> None:
    fresh = [texture(100 + i) for i in range(5)]
    fitted = MeanPatch().fit(TEXTURES, calibration=fresh)
    np.testing.assert_array_equal(fitted.seen_blocks_, np.zeros(6))
    np.testing.assert_allclose(fitted.decision_scores_, fitted.decision_function(fresh), rtol=1e-6)
    assert fitted.pixel_threshold_ == pytest.approx(fitted.predict_anomaly_map(fresh).max())


def test_the_pixel_threshold_is_the_rule_on_the_peaks_of_held_out_maps() -> None:
    goods = [texture(i) for i in range(22)]
    steps = Pipeline((GaussianSmoothing(1.0),))
    fitted = CellDetector(postprocess=steps, contamination=0.2).fit(goods)
    blocks = np.arange(22) * 5 // 22
    peaks = []
    for block in range(5):
        part = CellDetector(postprocess=steps).fit(
            [g for g, b in zip(goods, blocks, strict=True) if b != block]
        )
        held = [g for g, b in zip(goods, blocks, strict=True) if b == block]
        peaks += [float(drawn.max()) for drawn in part.predict_anomaly_map(held)]
    assert fitted.suspects_ == ()
    assert fitted.pixel_threshold_ == Conformal().choose(np.array(peaks), 0.2).value


def test_suspects_are_kept_out_of_the_maps_too() -> None:
    odd = texture(50)
    odd[30:40, 30:40] = (255, 0, 255)
    goods = [*[texture(i) for i in range(12)], odd, *[texture(i) for i in range(12, 24)]]
    fitted = CellDetector().fit(goods)
    assert len(fitted.suspects_) == 1
    assert fitted.decision_scores_.argmax() == 12
    assert fitted.pixel_threshold_ < fitted.decision_scores_[12] / 2


def test_several_steps_may_learn_from_the_same_maps() -> None:
    steps = Pipeline((RobustNormalisation(), MinMaxNormalisation()))
    fitted = CellDetector(postprocess=steps).fit(TEXTURES)
    learned = fitted.postprocess_.steps
    assert all(getattr(step, "low", 0.0) is not None for step in learned)
    assert fitted.postprocess == steps
    assert fitted.pixel_threshold_ == pytest.approx(1.0)


def test_post_processing_does_not_change_the_score() -> None:
    image = texture(9)
    plain = CellDetector().fit(TEXTURES)
    steps = CellDetector(postprocess=Pipeline((MinMaxNormalisation(),))).fit(TEXTURES)
    assert plain.decision_function([image]) == steps.decision_function([image])
    assert plain.threshold_ == steps.threshold_
    assert not np.allclose(plain.get_anomaly_map(image), steps.get_anomaly_map(image))


def test_regions_are_where_the_map_exceeds_the_pixel_threshold() -> None:
    bad = texture(9)
    bad[40:56, 24:40] = (250, 10, 10)
    (found,) = CellDetector().fit(TEXTURES).inspect([bad])
    assert found.verdict == "NG"
    left, top, right, bottom = found.regions[0].bbox
    assert (left, top, right, bottom) == (24, 40, 40, 56)


def test_an_uncalibrated_detector_draws() -> None:
    fitted = MeanPatch().fit(TEXTURES[:1])
    assert not fitted.is_calibrated
    assert fitted.get_anomaly_map(TEXTURES[1]).shape == (96, 96)


def test_a_map_detector_that_draws_nothing_is_told() -> None:
    class Blind(CellDetector):
        def _infer(self, images: Sequence[NDArray[np.uint8]]) -> list[Reading]:
            return [Reading(one.score) for one in super()._infer(images)]

    with pytest.raises(CalibrationError, match="a reading without a map"):
        Blind().fit(TEXTURES)
    with pytest.raises(InputError, match="Blind gave no map"):
        Blind().fit(TEXTURES[:1]).get_anomaly_map(TEXTURES[0])


def test_maps_that_could_not_be_drawn_raise() -> None:
    fitted = MeanPatch().fit(TEXTURES)
    blank = np.zeros((96, 96, 3), np.uint8)
    with pytest.raises(UnjudgedError, match="blank") as caught:
        fitted.predict_anomaly_map([TEXTURES[0], blank])
    assert caught.value.inspections[0].map.shape == (96, 96)
    with pytest.raises(UnjudgedError):
        fitted.get_anomaly_map("no/such/file.png")


def test_many_images_are_embedded_in_batches() -> None:
    sizes = []

    class Counting(TinyExtractor):
        def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchFeatures]:
            sizes.append(len(images))
            return super().embed(images)

    MeanPatch(extractor=Counting()).fit([texture(i) for i in range(19)])
    assert sizes == [8, 8, 3]


def test_large_features_spill_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = MeanPatch().fit(TEXTURES)
    monkeypatch.setattr("pyimgano.feature_detector._SPILL_BYTES", 100)
    assert isinstance(_allocate((5, 6)), np.memmap)
    assert not isinstance(_allocate((5, 5)), np.memmap)
    spilt = MeanPatch().fit(TEXTURES)
    np.testing.assert_array_equal(spilt.decision_scores_, expected.decision_scores_)


@pytest.mark.parametrize("changed", [{"size": 31}, {"pad": -1}, {"sigma": -0.1}])
def test_parameters_are_checked_by_fit(changed: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="size must be at least 32"):
        MeanPatch(**changed).fit(TEXTURES)


def test_extractors_are_resolved_by_fit() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'tiny'"):
        MeanPatch(extractor="tini").fit(TEXTURES)
    with pytest.raises(ParameterError, match="has not both"):
        MeanPatch(extractor=object()).fit(TEXTURES)
    facts = Metadata(summary="x", extra="lite", modules=("no_such_package_at_all",))
    EXTRACTORS.register("missing", facts)(fakes.DropsOne)
    try:
        with pytest.raises(MissingExtra, match=r"pyimgano\[lite\]"):
            MeanPatch(extractor="missing").fit(TEXTURES)
    finally:
        del EXTRACTORS._entries["missing"]


def test_features_must_be_a_grid_in_a_rectangle() -> None:
    values = np.zeros((2, 2, 3), np.float32)
    for wrong in (values.astype(np.float64), values[0]):
        with pytest.raises(InputError, match="float32 of shape"):
            PatchFeatures(wrong, (0.0, 0.0, 8.0, 8.0))
    for extent in ((0.0, 0.0, 0.0, 8.0), (0.0, 8.0, 8.0, 8.0)):
        with pytest.raises(InputError, match="extent must be"):
            PatchFeatures(values, extent)


def test_detectors_without_maps_have_no_pixel_threshold(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert LevelDetector().fit(TEXTURES).pixel_threshold_ is None


def test_calibration_images_are_read_in_batches_and_drawn_when_asked_for() -> None:
    fitted = MeanPatch().fit(TEXTURES)
    fresh = [texture(900 + i) for i in range(11)]
    readings = fitted._read(Images(fresh, fitted.intake_))
    assert not isinstance(readings, list)
    assert len(readings) == 11
    for image, reading in zip(fresh, readings, strict=True):
        (alone,) = fitted._infer([image])
        assert reading.score == pytest.approx(alone.score, rel=1e-6)
        np.testing.assert_allclose(reading.map, alone.map, rtol=1e-5, atol=1e-6)

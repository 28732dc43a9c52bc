"""Post-processing: learned once from calibration maps, monotone, streamed, never per image."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from pyimgano.errors import CalibrationError, InputError, NotFittedError, ParameterError
from pyimgano.maps import (
    GaussianSmoothing,
    LearnedStep,
    MinMaxNormalisation,
    MorphologicalClosing,
    MorphologicalOpening,
    Pipeline,
    RobustNormalisation,
    SmallComponentRemoval,
)
from pyimgano.registry import VALUES

PROPERTY = settings(derandomize=True, deadline=None, max_examples=60)
maps = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    elements=st.floats(-100, 100, width=32),
)
STEPS = (
    MinMaxNormalisation(),
    RobustNormalisation(),
    GaussianSmoothing(1.5),
    MorphologicalOpening(3),
    MorphologicalClosing(3),
    SmallComponentRemoval(4),
)


@pytest.fixture
def calibration():
    rng = np.random.default_rng(2)
    return [rng.gamma(2, 1, size).astype(np.float32) for size in ((40, 50), (70, 30), (9, 200))]


# --- normalisation ------------------------------------------------------------------------------


def test_the_extremes_are_exact(calibration):
    fitted = MinMaxNormalisation().fit(iter(calibration))
    assert fitted.low == min(one.min() for one in calibration)
    assert fitted.high == max(one.max() for one in calibration)
    results = [fitted(one) for one in calibration]
    assert min(one.min() for one in results) == 0
    assert max(one.max() for one in results) == 1
    assert fitted(np.float32([[fitted.high * 2]]))[0, 0] > 1.5  # never clipped


def test_robust_statistics_are_those_of_all_pixels(calibration):
    fitted = RobustNormalisation().fit(iter(calibration))
    everything = np.concatenate([one.ravel() for one in calibration]).astype(float)
    centre = np.median(everything)
    assert fitted.centre == pytest.approx(centre, rel=1e-6)
    assert fitted.spread == pytest.approx(
        1.4826022185 * np.median(np.abs(everything - centre)), rel=1e-6
    )


def test_the_spread_of_a_normal_distribution_is_its_sigma():
    normal = np.random.default_rng(0).normal(5, 2, (900, 1100)).astype(np.float32)
    fitted = RobustNormalisation().fit([normal])
    assert fitted.centre == pytest.approx(5, abs=0.06)
    assert fitted.spread == pytest.approx(2, abs=0.06)


@PROPERTY
@given(maps, st.sampled_from([MinMaxNormalisation, RobustNormalisation]))
def test_normalisation_never_changes_an_order(anomaly_map, kind):
    calibration = np.random.default_rng(1).normal(0, 30, (20, 20)).astype(np.float32)
    found = kind().fit([calibration])(anomaly_map)
    assert found.dtype == np.float32
    order = np.argsort(anomaly_map, axis=None, kind="stable")
    assert np.all(np.diff(found.ravel()[order]) >= 0)
    assert np.array_equal(found.max(), found.ravel()[anomaly_map.argmax()])


def test_large_maps_are_sampled_evenly_and_in_bounded_memory():
    """A ramp along either axis keeps its median; a long stream keeps little."""
    rows, columns = np.mgrid[0:1024, 0:1024].astype(np.float32)
    for ramp in (rows, columns):
        assert RobustNormalisation().fit([ramp]).centre == pytest.approx(511.5, abs=8)

    def stream():
        rng = np.random.default_rng(0)
        for number in range(400):
            yield (rng.random((128, 128), dtype=np.float32) + number).astype(np.float32)

    tracemalloc.start()
    fitted = RobustNormalisation().fit(stream())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 90e6
    assert fitted.centre == pytest.approx(200, abs=4)


def test_the_sample_does_not_hold_on_to_the_maps_it_was_given():
    """A reader may reuse one buffer for all maps."""
    buffer = np.empty((8, 8), np.float32)

    def stream():
        for value in (1, 2, 3):
            buffer[:] = np.arange(64).reshape(8, 8) + value * 100
            yield buffer

    assert RobustNormalisation().fit(stream()).centre == 231.5


@pytest.mark.parametrize("step", [step for step in STEPS if isinstance(step, LearnedStep)])
def test_what_cannot_be_learned_from_is_named(step):
    with pytest.raises(CalibrationError, match="no calibration maps"):
        step.fit([])
    with pytest.raises(CalibrationError, match="map 1 is empty or holds NaN"):
        step.fit([np.ones((2, 2), np.float32), np.float32([[1, np.nan]])])
    with pytest.raises(CalibrationError, match="map 0 is empty"):
        step.fit([np.ones((0, 2), np.float32)])
    with pytest.raises(NotFittedError, match=r"call fit\(maps\) first"):
        step(np.ones((2, 2), np.float32))


def test_uniform_maps_cannot_be_normalised():
    uniform = np.ones((4, 4), np.float32)
    with pytest.raises(CalibrationError, match=r"all values .* are equal"):
        MinMaxNormalisation().fit([uniform])
    uniform[0, 0] = 2
    with pytest.raises(CalibrationError, match="use MinMaxNormalisation"):
        RobustNormalisation().fit([uniform])


# --- filters ------------------------------------------------------------------------------------


@PROPERTY
@given(maps, st.floats(0.1, 8))
def test_smoothing_equals_scipy(anomaly_map, sigma):
    expected = ndimage.gaussian_filter(anomaly_map.astype(float), sigma, truncate=4.0)
    found = GaussianSmoothing(sigma)(anomaly_map)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=3e-4)


@PROPERTY
@given(maps, st.sampled_from([1, 3, 5, 9]))
def test_opening_lowers_and_closing_raises(anomaly_map, size):
    opened, closed = (
        MorphologicalOpening(size)(anomaly_map),
        MorphologicalClosing(size)(anomaly_map),
    )
    assert opened.dtype == closed.dtype == np.float32
    assert np.all(opened <= anomaly_map)
    assert np.all(closed >= anomaly_map)
    np.testing.assert_array_equal(MorphologicalOpening(size)(opened), opened)
    np.testing.assert_array_equal(MorphologicalClosing(size)(closed), closed)
    np.testing.assert_array_equal(MorphologicalClosing(size)(-anomaly_map), -opened)


def test_opening_removes_specks_and_closing_fills_gaps():
    speck = np.zeros((20, 20), np.float32)
    speck[3, 3] = speck[8:14, 8:14] = 5
    opened = MorphologicalOpening(3)(speck)
    assert opened[3, 3] == 0
    assert opened[10, 10] == 5
    assert MorphologicalClosing(3)(-speck)[3, 3] == 0


def test_small_components_are_lowered_to_the_level_and_nothing_else_changes():
    calibration = np.linspace(0, 1, 2500, dtype=np.float32).reshape(50, 50)
    fitted = SmallComponentRemoval(5, quantile=0.9).fit([calibration])
    assert fitted.level == pytest.approx(0.9, abs=1e-3)
    anomaly_map = np.full((20, 20), 0.5, np.float32)
    anomaly_map[2, 2] = anomaly_map[3, 3] = anomaly_map[4, 2] = anomaly_map[5, 3] = 2  # four
    anomaly_map[10, 3:8] = 3  # five
    found = fitted(anomaly_map)
    expected = anomaly_map.copy()
    expected[expected == 2] = np.float32(fitted.level)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32


@PROPERTY
@given(maps, st.integers(1, 6), st.floats(-50, 50))
def test_small_component_removal_equals_scipy(anomaly_map, min_area, level):
    found = SmallComponentRemoval(min_area, level=level)(anomaly_map)
    labels, count = ndimage.label(anomaly_map > np.float32(level), np.ones((3, 3)))
    expected = anomaly_map.copy()
    for label in range(1, count + 1):
        if (labels == label).sum() < min_area:
            expected[labels == label] = np.float32(level)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (GaussianSmoothing, {"sigma": 0}),
        (GaussianSmoothing, {"sigma": float("nan")}),
        (MorphologicalOpening, {"size": 4}),
        (MorphologicalClosing, {"size": 0}),
        (SmallComponentRemoval, {"min_area": 0}),
        (SmallComponentRemoval, {"quantile": 1.0}),
    ],
)
def test_impossible_parameters_are_refused(kind, parameters):
    with pytest.raises(ParameterError, match=next(iter(parameters))):
        kind(**parameters)


# --- the pipeline -------------------------------------------------------------------------------


def test_an_empty_pipeline_is_the_identity(calibration):
    pipeline = Pipeline().fit(calibration)
    assert pipeline == Pipeline()
    assert pipeline(calibration[0]) is calibration[0]


def test_each_step_learns_from_what_the_steps_before_it_make(calibration):
    steps = (GaussianSmoothing(2), RobustNormalisation(), MinMaxNormalisation())
    fitted = Pipeline(steps).fit(calibration)
    smooth = [GaussianSmoothing(2)(one) for one in calibration]
    robust = RobustNormalisation().fit(smooth)
    extremes = MinMaxNormalisation().fit([robust(one) for one in smooth])
    assert fitted.steps == (GaussianSmoothing(2), robust, extremes)
    np.testing.assert_array_equal(fitted(calibration[1]), extremes(robust(smooth[1])))
    assert Pipeline(steps) == Pipeline((GaussianSmoothing(2), *steps[1:]))  # left unfitted
    assert fitted.fit(calibration) == fitted


def test_one_pass_is_enough_for_one_learner_and_refused_for_two(calibration):
    single = Pipeline((GaussianSmoothing(1), MinMaxNormalisation()))
    assert single.fit(iter(calibration)) == single.fit(calibration)
    double = Pipeline((MinMaxNormalisation(), SmallComponentRemoval()))
    with pytest.raises(InputError, match=r"2 steps learn from the maps in turn.*give a list"):
        double.fit(iter(calibration))


def test_an_unfitted_pipeline_says_so(calibration):
    with pytest.raises(NotFittedError, match="MinMaxNormalisation has learned nothing yet"):
        Pipeline((MinMaxNormalisation(),))(calibration[0])


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_steps_are_frozen_named_values_that_leave_their_input_alone(step, calibration):
    fitted = Pipeline((step,)).fit(calibration).steps[0]
    given = calibration[0].copy()
    given.flags.writeable = False
    result = fitted(given)
    assert result.shape == given.shape
    np.testing.assert_array_equal(given, calibration[0])
    name = VALUES.name_of(type(step))
    assert name is not None
    assert VALUES[name](**dataclasses.asdict(fitted)) == fitted
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(fitted, dataclasses.fields(fitted)[0].name, 1)

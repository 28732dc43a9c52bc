"""Parameters, learned state and the model file."""

from __future__ import annotations

import copy
import json
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import fakes
import pyimgano
from fakes import CellDetector, ForeignExtractor, LevelDetector, TinyExtractor, entered, grey
from pyimgano.archive import read_archive, write_archive
from pyimgano.calibration import Fixed, Quantile
from pyimgano.detector_contract import texture
from pyimgano.errors import ArchiveError, NotFittedError, ParameterError
from pyimgano.estimator import DETECTORS, Estimator, versions
from pyimgano.features.base import EXTRACTORS, PatchFeatures
from pyimgano.maps.aggregate import TopMean
from pyimgano.maps.postprocess import GaussianSmoothing, Pipeline, RobustNormalisation
from pyimgano.models.padim import PaDiM
from pyimgano.models.patchcore import PatchCore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("named_fakes")
LEVELS = [grey(100 + i, i) for i in range(8)]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.pyimg"
    LevelDetector().fit(LEVELS).save(path)
    return path


@pytest.fixture(scope="module")
def textures() -> list[np.ndarray]:
    return [texture(i) for i in range(8)]


class PlainExtractor:
    """The two members of the protocol, and nothing else."""

    fingerprint = "plain"

    def embed(self, images: Sequence[np.ndarray]) -> list[PatchFeatures]:
        return TinyExtractor().embed(images)


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest as a stranger could: with right checksums."""
    manifest, arrays = read_archive(path)
    for name in ("kind", "format", "arrays"):
        del manifest[name]
    change(manifest)
    write_archive(path, manifest, arrays)


def patchcore(**parameters: Any) -> PatchCore:
    return PatchCore(**{"extractor": "tiny", "size": 96, "coreset": 0.05, **parameters})


def test_fields_are_parameters() -> None:
    made = LevelDetector(scale=2.0, contamination=0.1)
    assert made.parameters()["scale"] == 2.0
    assert list(made.parameters())[:2] == ["contamination", "threshold"]
    copied = made.clone()
    assert copied is not made
    assert copied.parameters() == made.parameters()
    assert "scale=2.0" in repr(made)
    with pytest.raises(TypeError):
        LevelDetector(2.0)


def test_a_clone_has_learned_nothing() -> None:
    fitted = LevelDetector().fit(LEVELS)
    assert [name for name in vars(fitted.clone()) if name.endswith("_")] == []


def test_what_is_not_learned_yet_is_asked_for_by_name() -> None:
    made = LevelDetector()
    with pytest.raises(NotFittedError, match="LevelDetector has no 'level_' yet: call fit"):
        getattr(made, "level_")  # noqa: B009
    with pytest.raises(AttributeError, match="'LevelDetector' has no attribute 'levels'"):
        getattr(made, "levels")  # noqa: B009
    assert not hasattr(made, "level_")
    assert not hasattr(made, "_private_")
    assert copy.deepcopy(made).scale == 1.0


def test_a_model_comes_back_with_everything_it_learned(
    tmp_path: Path, textures: list[np.ndarray]
) -> None:
    rules = {"threshold": Quantile(), "aggregation": TopMean(0.02), "reweight": 3}
    steps = Pipeline((GaussianSmoothing(2.0), RobustNormalisation()))
    fitted = patchcore(postprocess=steps, **rules).fit(textures)
    fitted.save(tmp_path / "m")
    loaded = pyimgano.load(tmp_path / "m")
    assert type(loaded) is PatchCore
    assert loaded.parameters() == fitted.parameters()
    assert vars(loaded).keys() == vars(fitted).keys()
    for name, value in vars(fitted).items():
        found = getattr(loaded, name)
        if isinstance(value, np.ndarray):
            assert found.dtype == value.dtype
            np.testing.assert_array_equal(found, value)
        elif name == "certainty_":
            assert found.describe() == value.describe()
        elif name != "index_":
            assert found == value, name
    judged = [fitted.inspect(textures[:3]), loaded.inspect(textures[:3])]
    for before, after in zip(*judged, strict=True):
        assert (before.score, before.verdict) == (after.score, after.verdict)
        np.testing.assert_array_equal(before.map, after.map)


@pytest.mark.parametrize("make", [patchcore, lambda: PaDiM(extractor="tiny", size=96)])
def test_a_fresh_process_judges_bit_equal(
    tmp_path: Path, textures: list[np.ndarray], make: Callable[[], Any]
) -> None:
    fitted = make().fit(textures)
    fitted.save(tmp_path / "m")
    np.save(tmp_path / "x.npy", np.stack(textures[:2]))
    code = (
        "import sys, numpy as np, pyimgano; d = pyimgano.load(sys.argv[1]);"
        "x = list(np.load(sys.argv[2])); np.savez(sys.argv[3], scores=d.decision_function(x),"
        "labels=d.predict(x), maps=d.predict_anomaly_map(x), threshold=d.threshold_)"
    )
    fakes.python(code, tmp_path / "m", tmp_path / "x.npy", tmp_path / "y.npz")
    with np.load(tmp_path / "y.npz") as found:
        np.testing.assert_array_equal(found["scores"], fitted.decision_function(textures[:2]))
        np.testing.assert_array_equal(found["labels"], fitted.predict(textures[:2]))
        np.testing.assert_array_equal(found["maps"], fitted.predict_anomaly_map(textures[:2]))
        assert found["threshold"] == fitted.threshold_


def test_an_uncalibrated_model_stays_so(tmp_path: Path) -> None:
    LevelDetector().fit(LEVELS[:1]).save(tmp_path / "m")
    loaded = pyimgano.load(tmp_path / "m")
    assert not loaded.is_calibrated
    loaded.calibrate(LEVELS[1:])
    assert loaded.is_calibrated


def test_only_what_was_learned_can_be_saved(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        LevelDetector().save(tmp_path / "m")
    with pytest.raises(ParameterError, match="KeepsSilent is not registered"):
        fakes.KeepsSilent().fit([texture(i) for i in range(3)]).save(tmp_path / "m")
    with pytest.raises(ParameterError, match="cannot store <function"):
        patchcore(aggregation=np.max).fit([texture(i) for i in range(3)]).save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_golden_images_that_cannot_be_scored_stop_the_save(tmp_path: Path) -> None:
    fitted = LevelDetector().fit(LEVELS)
    fitted.level_ = float("nan")
    with pytest.raises(ArchiveError, match="cannot be stored"):
        fitted.save(tmp_path / "m")


def test_tampered_golden_scores_are_found(model: Path) -> None:
    sound = pyimgano.load(model).decision_function(LEVELS)
    rewrite(model, lambda m: m.update(golden=[g * 1.001 for g in m["golden"]]))
    with pytest.raises(ArchiveError, match=r"scores differently .* \(relative difference 0\.001\)"):
        pyimgano.load(model)
    np.testing.assert_array_equal(
        pyimgano.load(model, verify=False).decision_function(LEVELS), sound
    )


@pytest.mark.parametrize("golden", [[], [1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]]])
def test_golden_scores_of_another_number_are_found(model: Path, golden: list[Any]) -> None:
    rewrite(model, lambda m: m.update(golden=golden))
    with pytest.raises(ArchiveError, match="2 golden scores were expected"):
        pyimgano.load(model)


def test_tampered_arrays_of_a_model_are_found(tmp_path: Path) -> None:
    CellDetector().fit([texture(i) for i in range(4)]).save(tmp_path / "m")
    manifest, arrays = read_archive(tmp_path / "m")
    for name in ("kind", "format", "arrays"):
        del manifest[name]
    write_archive(tmp_path / "m", manifest, {**arrays, "mean_": arrays["mean_"] + 1})
    with pytest.raises(ArchiveError, match="scores differently"):
        pyimgano.load(tmp_path / "m")


def test_the_last_bits_may_differ_and_are_noted(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rewrite(model, lambda m: m.update(golden=[g * (1 + 1e-9) for g in m["golden"]]))
    with caplog.at_level(logging.INFO):
        pyimgano.load(model)
    assert "from those that it was saved with" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(detector="vision_unheard_of"), "unknown detector"),
        (lambda m: m.pop("detector"), "does not fit"),
        (lambda m: m.pop("state"), "does not fit"),
        (lambda m: m.pop("golden"), "does not fit"),
        (lambda m: m.update(golden=["many"]), "does not fit"),
        (lambda m: m.update(golden=None), "golden scores were expected"),
        (lambda m: m.update(parameters=[1]), "does not fit"),
        (lambda m: m["parameters"].update(novelty=1), "unexpected keyword argument 'novelty'"),
        (lambda m: m["parameters"].update(threshold={"value": "x", "params": {}}), "'x'"),
        (lambda m: m["state"].update(intake_={"odd": 1}), "cannot read the parameter"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    model: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    rewrite(model, change)
    with pytest.raises(ArchiveError, match=message):
        pyimgano.load(model)


def test_a_model_is_loaded_as_what_it_is(model: Path) -> None:
    assert isinstance(LevelDetector.load(model), LevelDetector)
    assert isinstance(Estimator.load(model), LevelDetector)
    with pytest.raises(ArchiveError, match="holds a LevelDetector, not a PatchCore"):
        PatchCore.load(model)


def test_versions_are_recorded(model: Path) -> None:
    found = read_archive(model)[0]["versions"]
    assert found == versions()
    assert found["pyimgano"] == pyimgano.__version__
    assert found["numpy"] == np.__version__
    assert set(found) >= {"python", "machine", "scipy"}


def test_versions_of_missing_packages_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyimgano.estimator._RECORDED", ("numpy", "no-such-distribution"))
    assert "no-such-distribution" not in versions()


def test_a_model_file_holds_no_image(tmp_path: Path) -> None:
    secret = [grey(120 + i, 50 + i) for i in range(4)]
    CellDetector().fit(secret).save(tmp_path / "m")
    data = (tmp_path / "m").read_bytes()
    for image in secret:
        assert image[7].tobytes() not in data
        assert image[7].astype(np.float32).tobytes() not in data


# Objects of one's own ----------------------------------------------------------------------------


def test_an_injected_extractor_must_be_given_again(
    tmp_path: Path, textures: list[np.ndarray]
) -> None:
    path = tmp_path / "m"
    fitted = patchcore(extractor=ForeignExtractor()).fit(textures)
    fitted.save(path)
    message = r"object of your own as 'extractor': give it again, load\(path, extractor=\.\.\.\)"
    with pytest.raises(ArchiveError, match=message):
        pyimgano.load(path)
    with pytest.raises(ArchiveError, match=r"fingerprint 'tiny 2.0', the model .* 'tiny 1.0'"):
        pyimgano.load(path, extractor=ForeignExtractor(gain=2.0))
    with pytest.raises(ArchiveError, match="does not fit"):
        pyimgano.load(path, extractor="tiny")
    mine = ForeignExtractor()
    loaded = pyimgano.load(path, extractor=mine)
    assert loaded.extractor_ is mine
    expected = fitted.decision_function(textures)
    np.testing.assert_array_equal(loaded.decision_function(textures), expected)


def test_an_object_that_the_file_does_not_want_is_refused(
    tmp_path: Path, model: Path, textures: list[np.ndarray]
) -> None:
    with pytest.raises(ParameterError, match=r"'extracter' .* are wanted for: nothing"):
        pyimgano.load(model, extracter=ForeignExtractor())
    with pytest.raises(ParameterError, match="'contamination'"):
        pyimgano.load(model, contamination=0.5)
    patchcore().fit(textures).save(tmp_path / "p")
    with pytest.raises(ParameterError, match="'extractor'"):
        pyimgano.load(tmp_path / "p", extractor=ForeignExtractor())


def test_an_extractor_that_changed_is_found(tmp_path: Path, textures: list[np.ndarray]) -> None:
    patchcore().fit(textures).save(tmp_path / "m")

    def older(manifest: dict[str, Any]) -> None:
        text = json.dumps(manifest["state"]).replace("tiny 1.0", "tiny 0.9")
        manifest["state"] = json.loads(text)

    rewrite(tmp_path / "m", older)
    with pytest.raises(ArchiveError, match=r"extractor here is 'tiny 1.0', .* with 'tiny 0.9'"):
        pyimgano.load(tmp_path / "m")


def test_a_model_whose_extractor_is_unknown_here_is_refused(
    tmp_path: Path, textures: list[np.ndarray]
) -> None:
    with entered(EXTRACTORS, "rare", ForeignExtractor):
        patchcore(extractor="rare").fit(textures).save(tmp_path / "m")
    with pytest.raises(ArchiveError, match="unknown extractor 'rare'"):
        pyimgano.load(tmp_path / "m")


def test_a_named_extractor_need_not_be_a_dataclass(
    tmp_path: Path, textures: list[np.ndarray]
) -> None:
    with entered(EXTRACTORS, "plain", PlainExtractor):
        fitted = patchcore(extractor="plain").fit(textures)
        fitted.save(tmp_path / "m")
        loaded = pyimgano.load(tmp_path / "m")
    assert isinstance(loaded.extractor_, PlainExtractor)
    np.testing.assert_array_equal(
        loaded.decision_function(textures), fitted.decision_function(textures)
    )


def test_auto_is_stored_as_what_it_was(tmp_path: Path, textures: list[np.ndarray]) -> None:
    fitted = patchcore(extractor="auto").fit(textures[:3])
    fitted.save(tmp_path / "m")
    stored = read_archive(tmp_path / "m")[0]["state"]["extractor_"]
    assert "auto" not in json.dumps(stored)
    assert pyimgano.load(tmp_path / "m").extractor_ == fitted.extractor_


def test_a_threshold_of_the_user_survives(tmp_path: Path) -> None:
    LevelDetector(threshold=Fixed(7.5)).fit(LEVELS).save(tmp_path / "m")
    loaded = pyimgano.load(tmp_path / "m")
    assert (loaded.threshold, loaded.threshold_) == (Fixed(7.5), 7.5)
    assert DETECTORS.name_of(type(loaded)) == "level"
    assert TinyExtractor().fingerprint == "tiny 1.0"


def test_an_extractor_object_of_a_registered_class_is_named_in_the_file(tmp_path):
    from pyimgano.features.handcrafted import Handcrafted

    images = [texture(i) for i in range(4)]
    PatchCore(extractor=Handcrafted(), size=64, pad=0).fit(images).save(tmp_path / "m.pyimg")
    loaded = pyimgano.load(tmp_path / "m.pyimg")
    assert isinstance(loaded.parameters()["extractor"], Handcrafted)

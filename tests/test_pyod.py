"""vision_pyod against PyOD itself on the same rows; what it keeps, refuses and leaves out."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import fakes
from cli_calls import call
from pyimgano import load
from pyimgano.detector_contract import DETECTOR_CHECKS, Bench, texture
from pyimgano.errors import ArchiveError, InputError, ParameterError
from pyimgano.models.pyod import METHODS, PyOD
from pyimgano.optional import is_available

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

here = pytest.mark.skipif(not is_available("pyod"), reason="needs pyod")
GOODS = [texture(i) for i in range(22)]
FRESH = [texture(500 + i) for i in range(3)]
# As few neighbours as 17 images have, and as few trees as save time.
PARAMETERS = {
    "IForest": {"n_estimators": 20},
    "INNE": {"n_estimators": 20},
    "LOF": {"n_neighbors": 5},
    "Sampling": {"subset_size": 10},
}
RUN = (
    "import sys, numpy as np, pyimgano; folder, *names = sys.argv[1:];"
    "images = list(np.load(f'{folder}/images.npy'));"
    "models = (pyimgano.load(f'{folder}/{name}.pyimg') for name in names);"
    "np.save(f'{folder}/scores.npy', [model.decision_function(images) for model in models])"
)


def pyod(method: str = "ECOD", **parameters: Any) -> PyOD:
    given = {"extractor": fakes.TinyExtractor(), "size": 96, "pad": 0, **parameters}
    return PyOD(method=method, **given)


def grids(fitted: PyOD, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    raw = np.stack([one.values for one in fakes.TinyExtractor().embed(images)])
    return (raw - fitted.center_) * fitted.scale_


def pooled(grid: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean and deviation over all cells, image by image."""
    cells = grid.reshape(len(grid), -1, grid.shape[-1]).astype(np.float64)
    rows = [[*image.mean(axis=0), *image.std(axis=0)] for image in cells]
    return np.array(rows, np.float32).astype(np.float64)


def theirs(method: str, rows: NDArray[np.float64]) -> Any:
    kind = getattr(importlib.import_module(f"pyod.models.{method.lower()}"), method)
    seed = {"random_state": 0} if "random_state" in inspect.signature(kind).parameters else {}
    return kind(**PARAMETERS.get(method, {}), **seed).fit(rows)


@pytest.fixture
def rng_untouched() -> Iterator[None]:
    before = str(np.random.get_state())  # noqa: NPY002 - it must not change
    yield
    assert str(np.random.get_state()) == before  # noqa: NPY002


@pytest.fixture(scope="module")
def fitted_by_method(named_fakes: Path) -> dict[str, PyOD]:
    return {
        name: pyod(name, extractor="tiny", method_params=PARAMETERS.get(name, {})).fit(GOODS)
        for name in METHODS
    }


@here
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.usefixtures("rng_untouched")
def test_every_method_is_pyods_own(fitted_by_method: dict[str, PyOD], method: str) -> None:
    fitted = fitted_by_method[method]
    scores = fitted.decision_function(FRESH)
    assert np.array_equal(fitted.clone().fit(GOODS).decision_function(FRESH), scores)
    rows, blocks = pooled(grids(fitted, GOODS)), np.arange(len(GOODS)) * 5 // len(GOODS)
    expected = [theirs(method, rows[blocks != block]) for block in range(5)]
    alone = [
        np.mean([each.decision_function(row[None])[0] for each in expected])
        for row in pooled(grids(fitted, FRESH))
    ]
    np.testing.assert_allclose(scores, alone, rtol=1e-6)


@here
def test_too_few_goods_for_blocks_are_learned_by_one_model() -> None:
    fitted = pyod("ECOD").fit(GOODS[:9], calibration=GOODS[9:])
    expected = theirs("ECOD", pooled(grids(fitted, GOODS[:9])))
    alone = [expected.decision_function(row[None])[0] for row in pooled(grids(fitted, FRESH))]
    np.testing.assert_allclose(fitted.decision_function(FRESH), alone, rtol=1e-6)


@here
def test_images_of_their_own_for_the_threshold_leave_the_model_as_it_is() -> None:
    fitted, apart = pyod("ECOD").fit(GOODS), pyod("ECOD").fit(GOODS, calibration=FRESH)
    assert np.array_equal(fitted.decision_function(FRESH), apart.decision_function(FRESH))


@here
def test_every_method_scores_the_same_in_a_fresh_process(
    fitted_by_method: dict[str, PyOD], tmp_path: Path
) -> None:
    for name, fitted in fitted_by_method.items():
        fitted.save(tmp_path / f"{name}.pyimg")
    np.save(tmp_path / "images.npy", np.stack(FRESH))
    fakes.python(RUN, tmp_path, *METHODS)
    found = dict(zip(METHODS, np.load(tmp_path / "scores.npy"), strict=True))
    for name, fitted in fitted_by_method.items():
        assert np.array_equal(found[name], fitted.decision_function(FRESH)), name


@here
def test_out_of_sample_scores_come_from_the_other_blocks() -> None:
    fitted = pyod("KNN").fit(GOODS)
    rows = pooled(grids(fitted, GOODS))
    blocks = np.arange(len(GOODS)) * 5 // len(GOODS)
    for i, score in enumerate(fitted.decision_scores_):
        without = theirs("KNN", rows[blocks != blocks[i]])
        assert score == pytest.approx(without.decision_function(rows[i : i + 1])[0], rel=1e-6)


@here
@pytest.mark.parametrize("method", ["KNN", "ECOD"])
def test_patches_are_rows_of_their_own_and_make_the_map(method: str) -> None:
    fitted = pyod(method, on="patch", sigma=0.0).fit(GOODS[:6])
    expected = theirs(method, grids(fitted, GOODS[:6]).reshape(-1, 6).astype(np.float64))
    for image in FRESH:
        grid = grids(fitted, [image])[0]
        found = fitted._score_features(grid[None]).maps[0]
        rows = grid.reshape(-1, 6).astype(np.float64)
        np.testing.assert_allclose(found.ravel(), expected.decision_function(rows), rtol=1e-5)
        drawn = fitted.get_anomaly_map(image)
        assert drawn.shape == (96, 96)
        assert fitted.decision_function([image])[0] == drawn.max()
    assert fitted.pixel_threshold_ > 0


@here
def test_rows_are_drawn_evenly_from_all_images() -> None:
    few = pyod("HBOS", on="patch", max_rows=44).fit(GOODS)
    grid = grids(few, GOODS).reshape(len(GOODS), -1, 6)
    owners = [np.flatnonzero((grid == row).all(axis=2).any(axis=1)) for row in few.rows_]
    assert [each.tolist() for each in owners] == [[i // 2] for i in range(44)]
    again, other = (
        pyod("HBOS", on="patch", max_rows=44, seed=seed).fit(GOODS).rows_ for seed in (0, 1)
    )
    assert np.array_equal(again, few.rows_)
    assert not np.array_equal(other, few.rows_)


@here
def test_a_whole_image_has_a_score_and_no_map(shared_parts: Path, tmp_path: Path) -> None:
    fitted = pyod("KNN").fit(GOODS)
    assert fitted.pixel_threshold_ is None
    bad = next(iter(fitted.inspect([255 - GOODS[0]])))
    assert (bad.verdict, bad.map, bad.regions) == ("NG", None, ())
    with pytest.raises(InputError, match=r"draws no maps .*on='image'"):
        fitted.predict_anomaly_map(FRESH)
    with pytest.raises(InputError, match="gave no map"):
        fitted.get_anomaly_map(FRESH[0])
    data = ("--dataset", "mvtec", "--root", shared_parts.parent, "--category", "flange")
    chosen = ("--detector", "vision_pyod", "--extractor", "handcrafted", "--set", "size=96")
    params = ("--set", "method=KNN", "--set", 'method_params={"n_neighbors": 2}')
    done = call("evaluate", *data, *chosen, *params, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    facts = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert str(facts["detector"]["parameters"]["method_params"]) == "{'n_neighbors': 2}"
    assert 0 <= facts["metrics"]["auroc"] <= 1
    assert facts["metrics"].get("pixel_auroc") is None
    assert facts["pixel_threshold"] is None


@here
@pytest.mark.parametrize("check", ["decides", "independence", "sizes", "maps", "bad_input"])
def test_patches_keep_the_contract(check: str) -> None:
    DETECTOR_CHECKS[check](Bench(lambda: pyod("KNN", on="patch", max_rows=2000)))


@here
def test_defects_say_what_is_caught_and_have_nothing_to_tune(caplog: Any) -> None:
    bad = [255 - texture(900 + i) for i in range(6)]
    fitted = pyod("KNN").fit(GOODS, defects=bad, tune=True)
    assert fitted.tuned_.caught == 6
    assert "no post-processing to tune" in caplog.text
    patches = pyod("KNN", on="patch", max_rows=2000).fit(GOODS, defects=bad, tune=True)
    assert patches.tuned_.n_settings > 1


@here
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"method": "ecodd"}, "unknown method 'ecodd'; did you mean ECOD"),
        ({"method": "xyzw"}, "unknown method 'xyzw'; known: ABOD, COPOD"),
        ({"method": "OCSVM"}, "unknown method 'OCSVM'"),
        ({"on": "pixel"}, "on must be one of"),
        ({"max_rows": 1}, "max_rows must be at least 2"),
        ({"method_params": {"n_jobz": 2}}, "ECOD has an unknown parameter 'n_jobz'; did you mean "),
        ({"method_params": {"contamination": 0.1}}, "contamination is contamination of vision_"),
        ({"method": "PCA", "method_params": {"random_state": 3}}, "random_state is seed of vision"),
        ({"method": "KNN", "method_params": {"n_neighbors": 99}}, "KNN cannot learn from 17 rows"),
        ({"method": "HBOS", "method_params": {"n_bins": "x"}}, "HBOS cannot learn from 17 rows"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_named(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ParameterError, match=told) as caught:
        pyod(**wrong).fit(GOODS)
    assert "\n" not in str(caught.value)


@here
def test_images_that_are_all_alike_are_refused() -> None:
    with pytest.raises(InputError, match="two good images that differ"):
        pyod().fit(GOODS[:1])
    flat = [np.pad(np.zeros((95, 96, 3), np.uint8), ((1, 0), (0, 0), (0, 0)), constant_values=9)]
    with pytest.raises(InputError, match="two good images that differ"):
        pyod().fit(flat * 3)


@here
def test_channels_without_news_are_left_out() -> None:
    grey = [np.repeat(image[..., :1], 3, axis=2) for image in GOODS]
    grey = [np.dstack([one[..., :2], np.full(one.shape[:2], 7, np.uint8)]) for one in grey]
    fitted = pyod("HBOS").fit(grey)
    assert fitted.rows_.shape == (22, 12)
    assert set(range(12)) - set(fitted.models_[0][0].tolist()) == {2, 5, 8, 11}


@here
@pytest.mark.usefixtures("named_fakes")
def test_rows_of_another_method_do_not_pass_for_the_model(tmp_path: Path) -> None:
    from pyimgano.archive import read_archive, write_archive

    pyod(extractor="tiny").fit(GOODS).save(tmp_path / "m.pyimg")
    manifest, arrays = read_archive(tmp_path / "m.pyimg")
    assert {"rows_", "center_"} <= arrays.keys()
    manifest["parameters"]["method"] = "KNN"
    rest = {k: v for k, v in manifest.items() if k not in {"kind", "format", "arrays"}}
    write_archive(tmp_path / "m.pyimg", rest, arrays)
    with pytest.raises(ArchiveError, match="scores differently"):
        load(tmp_path / "m.pyimg")


def test_without_the_extra_the_line_that_installs_it_is_told(tmp_path: Path) -> None:
    """In a process in which there is no pyod: the list says what is missing, a fit refuses."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'pyod':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
    )
    line = 'pip install "pyimgano[pyod]"'
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import sitecustomize, importlib;"
        "importlib.reload(sitecustomize); import pyimgano; from pyimgano.models.pyod import PyOD;"
        "entry = {one.name: one for one in pyimgano.list_detectors()}['vision_pyod'];"
        "assert entry.metadata.missing == ('pyod',), entry;"
        "print(entry.metadata.pip_line);\n"
        "for use in (lambda: pyimgano.create_detector('vision_pyod'), lambda: PyOD()._made()):\n"
        "    try: use()\n"
        "    except pyimgano.errors.MissingExtra as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    told = done.stdout.splitlines()
    assert told[0] == line
    assert len(told) == 3
    assert all(text.endswith(line) for text in told)

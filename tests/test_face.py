"""The public face is lazy, complete and small."""

from __future__ import annotations

import html
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pyimgano
from fakes import TinyExtractor, grey, python
from pyimgano.errors import MissingExtra, ParameterError, UnknownNameError
from pyimgano.estimator import DETECTORS
from pyimgano.maps.overlay import encode_png
from pyimgano.models import DEFAULT, create_detector, list_detectors
from pyimgano.models.default import Default
from pyimgano.models.patchcore import PatchCore
from pyimgano.registry import Metadata

HEAVY = ("numpy", "scipy", "cv2", "PIL", "onnx", "onnxruntime", "torch", "jinja2", "rich", "typer")


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import json, sys, pyimgano; dir(pyimgano); pyimgano.__version__;"
        "print(json.dumps([m for m in sys.modules if m.startswith('pyimgano.')"
        f" or m in {HEAVY}]))"
    )
    assert json.loads(python(code)) == []


def test_looking_detectors_up_loads_numpy_only() -> None:
    code = (
        "import json, sys, pyimgano; pyimgano.list_detectors(); pyimgano.load_dataset;"
        f"print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    )
    assert json.loads(python(code)) == ["numpy"]


def test_every_public_name_resolves() -> None:
    for name in pyimgano.__all__:
        assert callable(getattr(pyimgano, name)) or name == "metrics"
    assert pyimgano.metrics.auroc([0, 1], [0.0, 1.0]) == 1.0
    assert set(pyimgano.__all__) <= set(dir(pyimgano))
    assert "__version__" in dir(pyimgano)


def test_a_detector_says_what_it_learned(caplog: pytest.LogCaptureFixture) -> None:
    unfitted = create_detector("vision_patchcore", extractor=TinyExtractor(), size=64)
    assert str(unfitted) == f"{unfitted!r}, not fitted"
    assert "not fitted" in unfitted._repr_html_()
    goods = [grey(100 + i, i, (64, 80)) for i in range(24)]
    fitted = unfitted.clone().fit(goods)
    assert repr(fitted) == repr(unfitted), "repr is that of the parameters"
    told = str(fitted)
    assert told.startswith("PatchCore\n")
    for word in (
        "24 good images of 80 x 64 px",
        f"threshold  {fitted.threshold_:.4g}: ",
        "good parts rejected, with 95 % confidence",
        fitted.extractor_.fingerprint,
    ):
        assert word in told
        assert html.escape(word.split("  ")[-1]) in fitted._repr_html_()
    single = unfitted.clone().fit(goods[:1])
    assert "none: scores only" in str(single)
    assert "no threshold" in caplog.text

    printed: list[str] = []

    class Printer:
        text = staticmethod(printed.append)

    fitted._repr_pretty_(Printer, False)
    fitted._repr_pretty_(Printer, True)
    assert printed == [told, "..."]


def test_suspects_and_skipped_images_are_named(tmp_path: Path) -> None:
    from fakes import LevelDetector

    steady = [grey(100 + i % 5, i) for i in range(159)]
    paths = []
    for i, image in enumerate([*steady, grey(140, 999)]):
        paths.append(tmp_path / f"<{i}>.png")
        paths[-1].write_bytes(encode_png(image))
    for path in paths[:6]:
        path.write_bytes(b"torn")
    fitted = LevelDetector().fit(paths)
    told = str(fitted)
    assert "154 good images of" in told
    assert f"skipped    {paths[0]}, " in told
    assert " and 1 more" in told
    assert f"suspects   {paths[-1]}" in told
    assert "&lt;0&gt;.png" in fitted._repr_html_()


USER = """
import pyimgano
from pyimgano import metrics

detector = pyimgano.fit("good/")
reveal_type(detector)
reveal_type(detector.threshold_)
reveal_type(detector.certainty_.describe())
reveal_type(detector.fit(["a.png"], calibration="more/"))
reveal_type(detector.predict(["a.png"]))
for one in detector.inspect("new/"):
    reveal_type(one)
    reveal_type(one.verdict)
reveal_type(next(detector.inspect("x.png")).reason)
reveal_type(pyimgano.load("model.pyimg"))
reveal_type(pyimgano.load_dataset("mvtec", "root", category="screw").train[0].path)
reveal_type(pyimgano.list_detectors()[0].name)
reveal_type(metrics.auroc([0, 1], [0.0, 1.0]))
data = pyimgano.load_dataset("mvtec", "root", category="screw")
reveal_type(pyimgano.evaluate(pyimgano.create_detector("vision_padim"), data).metrics)
pyimgano.fitt
"""
REVEALED = [
    "pyimgano.detector.Detector",
    "float",
    "str",
    "pyimgano.detector.Detector",
    "numpy.ndarray",
    "pyimgano.inspection.Inspection",
    "pyimgano.inspection.Verdict | None",
    "str",
    "pyimgano.detector.Detector",
    "pathlib.Path",
    "str",
    "float",
    "dict[str, Any]",
]


def test_a_users_script_is_typed(tmp_path: Path) -> None:
    """A type checker sees the lazy names, and their types, without a plugin."""
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(USER)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull, script.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    revealed = [
        line.partition('type is "')[2].removesuffix('"') for line in lines if "note: R" in line
    ]
    plain = [name.replace("builtins.", "").replace("typing.", "") for name in revealed]
    assert [name.partition("ndarray[")[0] + "ndarray" * ("ndarray[" in name) for name in plain] == (
        REVEALED
    )
    errors = [line for line in lines if ": error:" in line]
    assert len(errors) == 1, done.stdout
    assert 'Module has no attribute "fitt"' in errors[0]
    assert (Path(pyimgano.__file__).parent / "py.typed").exists()


def test_one_line_fits_a_detector() -> None:
    goods = [grey(100 + i, i, (64, 64)) for i in range(6)]
    parameters = {"extractor": TinyExtractor(), "size": 64}
    fitted = pyimgano.fit(goods[:4], calibration=goods[4:], **parameters)
    assert isinstance(fitted, Default)
    assert fitted.certainty_.n == 2
    assert pyimgano.fit(goods, detector="vision_padim", **parameters).certainty_.n == 6


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="module 'pyimgano' has no attribute 'fitt'"):
        pyimgano.fitt  # noqa: B018 - the access is the test


def test_detectors_are_made_by_name() -> None:
    made = create_detector("vision_patchcore", coreset=0.5)
    assert isinstance(made, PatchCore)
    assert made.coreset == 0.5
    with pytest.raises(UnknownNameError, match=r"did you mean .*'vision_patchcore'"):
        create_detector("vision_patchcor")
    with pytest.raises(ParameterError, match=r"unexpected keyword argument 'core'; its .* coreset"):
        create_detector("vision_patchcore", core=1)


def test_a_detector_that_misses_a_package_gives_the_pip_line() -> None:
    facts = Metadata(summary="x", extra="torch", modules=("no_such_package_at_all",))
    len(DETECTORS)
    DETECTORS.register("needs_more", facts)(PatchCore)
    try:
        with pytest.raises(MissingExtra, match=r'pip install "pyimgano\[torch\]"'):
            create_detector("needs_more")
        entry = next(one for one in list_detectors() if one.name == "needs_more")
        assert entry.metadata.missing == ("no_such_package_at_all",)
    finally:
        del DETECTORS._entries["needs_more"]


def test_the_list_says_what_each_detector_is() -> None:
    entries = list_detectors()
    assert DEFAULT in {entry.name for entry in entries}
    for entry in entries:
        assert entry.name.startswith("vision_")
        assert entry.metadata.summary.endswith(".")
        assert entry.metadata.paper

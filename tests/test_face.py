"""The public face is lazy, complete and small."""

from __future__ import annotations

import json

import pytest

import pyimgano
from fakes import TinyExtractor, grey, python
from pyimgano.errors import MissingExtra, ParameterError, UnknownNameError
from pyimgano.estimator import DETECTORS
from pyimgano.models import DEFAULT, create_detector, list_detectors
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


def test_one_line_fits_a_detector() -> None:
    goods = [grey(100 + i, i, (64, 64)) for i in range(6)]
    parameters = {"extractor": TinyExtractor(), "size": 64}
    fitted = pyimgano.fit(goods[:4], calibration=goods[4:], **parameters)
    assert isinstance(fitted, PatchCore)
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

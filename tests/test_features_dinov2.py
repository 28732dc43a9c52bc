"""What the DINOv2 extractors do without torch: find weights, say what is missing, group images."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys

import numpy as np
import pytest

from pyimgano.errors import ArchiveError, InputError, MissingExtra, ParameterError
from pyimgano.features._checkpoint import VARIABLE
from pyimgano.features._grid import alike
from pyimgano.features.base import EXTRACTORS, resolve_extractor
from pyimgano.features.dinov2 import DinoV2B14Reg, DinoV2S14
from pyimgano.optional import is_available

NAMES = [name for name in EXTRACTORS if name.startswith("dinov2_")]
IMAGE = np.zeros((28, 28, 3), np.uint8)


def test_the_published_models_are_registered():
    assert [f"dinov2_vit{one}14{reg}" for one in "bgls" for reg in ("", "_reg")] == NAMES
    widths = {"s": 384, "b": 768, "l": 1024, "g": 1536}
    for name in NAMES:
        shape = EXTRACTORS[name].shape
        assert (shape.dim, shape.registers) == (widths[name[10]], 4 * name.endswith("_reg"))
        assert shape.dim // shape.heads == 64
        assert shape.antialias is bool(shape.registers) is not bool(shape.offset)
        assert shape.gated is (name[10] == "g")


@pytest.fixture(autouse=True)
def no_weights_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no-torch"))
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.mark.parametrize("name", NAMES)
def test_missing_weights_say_what_to_fetch_from_where(name, tmp_path):
    kind = EXTRACTORS[name]
    base = name.removesuffix("_reg")
    file = f"{base}_reg4_pretrain.pth" if name.endswith("_reg") else f"{base}_pretrain.pth"
    told = re.escape(f"https://dl.fbaipublicfiles.com/dinov2/{base}/{file} (Apache-2.0)")
    with pytest.raises(ParameterError, match=told):
        _ = kind().fingerprint
    with pytest.raises(ArchiveError, match=told):
        _ = kind(path=str(tmp_path / "none.pth")).fingerprint


def test_weights_are_found_in_a_folder_of_torch_hub_and_by_the_variable(tmp_path, monkeypatch):
    hub = tmp_path / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    (hub / "dinov2_vitb14_reg4_pretrain.pth").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    expected = f"dinov2_vitb14_reg sha256:{digest} layers:-1 fp32"
    for given in (tmp_path, tmp_path / "hub", hub, hub / "dinov2_vitb14_reg4_pretrain.pth"):
        assert DinoV2B14Reg(path=str(given)).fingerprint == expected
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert DinoV2B14Reg().fingerprint == expected
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv(VARIABLE, str(hub))
    assert DinoV2B14Reg().fingerprint == expected
    moved = DinoV2B14Reg(path="/moved/dinov2_vitb14_reg4_pretrain.pth", layers=(-2, -1))
    assert moved.fingerprint == expected.replace(":-1", ":-2,-1")


@pytest.mark.parametrize(
    "wrong", [{"layers": ()}, {"layers": (12,)}, {"precision": "fp8"}, {"batch_size": 0}], ids=str
)
def test_parameters_are_looked_at_before_weights(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        DinoV2S14(**wrong).embed([IMAGE])


def test_an_image_smaller_than_a_patch_is_named():
    with pytest.raises(InputError, match="at least 14 pixels"):
        DinoV2S14().embed([IMAGE[:13]])


@pytest.mark.skipif(is_available("torch"), reason="torch is here")
def test_without_torch_the_pip_line_is_told(tmp_path):
    path = tmp_path / "dinov2_vits14_pretrain.pth"
    path.write_bytes(b"weights")
    line = 'pip install "pyimgano[torch]"'
    with pytest.raises(MissingExtra, match=re.escape(line)):
        resolve_extractor(f"dinov2_vits14:{path}")
    # In a folder of its own: here lies one called torch, which Python would import.
    code = "import numpy as np, sys; from pyimgano.features.dinov2 import DinoV2S14;"
    for use in (
        "DinoV2S14(path=sys.argv[1]).embed([np.zeros((28, 28, 3), np.uint8)])",
        "DinoV2S14(download=True).fingerprint",
    ):
        ran = subprocess.run(
            [sys.executable, "-c", code + use, str(path)],
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert line in ran.stderr


def test_neighbours_of_one_size_run_together():
    small, large = np.zeros((14, 14, 3)), np.zeros((28, 14, 3))
    groups = list(alike([small, small, small, large, small], 2))
    assert [(len(one), one[0].shape[0]) for one in groups] == [(2, 14), (1, 14), (1, 28), (1, 14)]
    assert list(alike([], 2)) == []


def test_importing_the_extractors_imports_no_torch():
    code = "import sys; import pyimgano.features.dinov2, pyimgano.features.onnx_file;"
    code += "sys.exit(bool({'torch', 'onnxruntime'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

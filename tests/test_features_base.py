"""What the text of an extractor says: a name, a file, a model, fields."""

from __future__ import annotations

import re

import pytest

from pyimgano.errors import MissingExtra, ParameterError, UnknownNameError
from pyimgano.features.base import resolve_extractor
from pyimgano.features.efficientnet_lite import EfficientNetLite0
from pyimgano.features.onnx_file import OnnxFile
from pyimgano.optional import is_available


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a,b=c.onnx"  # read as a field, and told so
    path.write_bytes(b"network")
    (tmp_path / "net.onnx").write_bytes(b"network")
    return tmp_path / "net.onnx"


def test_fields_follow_a_name_or_a_file(file):
    assert resolve_extractor("efficientnet_lite0,taps=[4]") == EfficientNetLite0(taps=(4,))
    made = resolve_extractor(
        f"onnx:{file},output=tokens,mean=[0.5,0.5,0.5],deviation=[1.0,1.0,1.0]"
    )
    assert made == OnnxFile(
        path=str(file), output="tokens", mean=(0.5, 0.5, 0.5), deviation=(1.0, 1.0, 1.0)
    )
    assert resolve_extractor(f"onnx:{file},output=12").output == "12"


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("efficientnet_lite0,tap=[4]", ParameterError, "'efficientnet_lite0' has no field 'tap'"),
        ("efficientnet_lite0,taps=4", ParameterError, "'taps=4': taps of .* another kind: (4, 10)"),
        ("efficientnet_lite0,taps=", ParameterError, "another kind"),
        ("handcrafted,x=1", ParameterError, "'handcrafted' has no field 'x'"),
        ("handcrafted:net.onnx", ParameterError, "takes no file: leave 'net.onnx' out"),
        ("onnx:{folder}/a,b=c.onnx", ParameterError, "has no field 'b'"),
        ("handcraftd", UnknownNameError, "did you mean 'handcrafted'"),
    ],
)
def test_what_cannot_be_read_is_named(file, text, error, told):
    pattern = re.escape(told).replace(r"\ \.\*\ ", " .* ")
    with pytest.raises(error, match=pattern):
        resolve_extractor(text.format(folder=file.parent))


@pytest.mark.skipif(is_available("timm"), reason="timm is here")
def test_without_timm_the_pip_line_is_told():
    from pyimgano.features.timm_model import TimmModel

    line = re.escape('pip install "pyimgano[timm]"')
    with pytest.raises(MissingExtra, match=line):
        resolve_extractor("timm:vit_small_patch16_dinov3")
    with pytest.raises(MissingExtra, match=line):
        _ = TimmModel(model="vit_small_patch16_dinov3").fingerprint

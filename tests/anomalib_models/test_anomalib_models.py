"""Models that anomalib trained, in every format, beside anomalib's own network."""

from __future__ import annotations

import os
import pickle  # noqa: TID251 - the fault itself
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import pyimgano
import torch
from anomalib_models.trained import (
    FORMATS,
    LOADED,
    NOT_RUN,
    SIDE,
    WHOLE,
    build,
    to_onnx,
    to_openvino,
    write_table,
)
from pyimgano.detector_contract import DETECTOR_CHECKS, Bench, _plant, texture
from pyimgano.errors import ArchiveError, CalibrationError, ParameterError
from pyimgano.maps.upsample import upsample
from pyimgano.models import create_detector
from pyimgano.models.anomalib import FAMILY
from pyimgano.models.anomalib import MODELS as NAMES

pytestmark = [pytest.mark.anomalib, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
GOOD = [texture(3000 + seed) for seed in range(24)]
BAD = [_plant(texture(4000 + seed)) for seed in range(5)]


def made(path, name=FAMILY, **given):
    trust = {"trust_checkpoint": True} if str(path).endswith(".pt") else {}
    return create_detector(name, **{"checkpoint": str(path), **trust, **given})


def difference(found, expected):
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


CASES = [(name, suffix) for name in WHOLE for suffix in FORMATS]
CASES += [(name, "ckpt") for name in LOADED]


@pytest.fixture(scope="session")
def rows():
    """What every format of every model gave; written, if that is asked for and all were run."""
    found = {}
    yield found
    if os.environ.get("PYIMGANO_WRITE"):
        assert len(found) == len(CASES)
        blank = dict.fromkeys(("scores", "maps", "batch", "threads"), "")
        said = [
            {"model": name, "format": "not run here", **blank, "scores": why}
            for name, why in NOT_RUN.items()
        ]
        write_table([*found.values(), *said], ROOT / "docs" / "reference" / "anomalib-formats")


def measured(model, suffix):
    detector = made(model.files[suffix]).fit(GOOD)
    scores, maps = model.raw(BAD)
    judged = list(detector.inspect(BAD))
    alone = [detector.decision_function([one])[0] for one in BAD]
    with ThreadPoolExecutor(4) as pool:  # other images at the same time, each four times
        several = list(pool.map(lambda i: detector.decision_function([BAD[i % 5]])[0], range(20)))
    drawn = "-"
    if maps is not None:  # some see images larger than they are
        expected = np.stack([upsample(one, (SIDE, SIDE)) for one in maps])
        drawn = difference(np.stack([one.map for one in judged]), expected)
    batch = getattr(detector.runtime_, "_batch", 0)
    return {
        "model": model.name,
        "format": f".{suffix}",
        "scores": f"{difference([one.score for one in judged], scores):.1e}",
        "maps": drawn if drawn == "-" else f"{drawn:.1e}",
        "batch": batch or "any",
        "threads": "equal" if several == alone * 4 else "differ",
    }


@pytest.mark.parametrize(("name", "suffix"), CASES)
def test_raw_scores_and_maps_are_those_of_anomalib(zoo, rows, name, suffix):
    row = rows[name, suffix] = measured(zoo[name], suffix)
    # Other runtimes add up in another order, and a flow passes it through exponentials.
    least = 1e-4 if (name, suffix) in {("fastflow", "onnx"), ("fastflow", "xml")} else 1e-5
    assert float(row["scores"]) <= least
    assert row["maps"] == "-" or float(row["maps"]) <= least
    assert row["threads"] == "equal"


def test_every_model_is_run_or_says_why_not():
    assert {*WHOLE, *LOADED, *NOT_RUN} == set(NAMES)


@pytest.mark.parametrize("name", ["padim", "patchcore", "stfpm", "fastflow"])
def test_the_threshold_is_ours(zoo, name):
    # A good image may stand out of a model of few epochs, and on which machine is chance.
    detector = made(zoo[name].files["ckpt"], f"vision_{name}_anomalib", keep_suspects=True)
    detector.fit(GOOD)
    expected = zoo[name].raw(GOOD)[0]
    assert np.allclose(detector.decision_scores_, expected, rtol=1e-5)
    assert detector.threshold_ == detector.decision_scores_.max()
    assert detector.certainty_.method == "separate images"
    assert detector.learned()["model"].startswith("checkpoint of")


def _benches():
    for suffix in FORMATS:
        for check in DETECTOR_CHECKS:
            if (suffix, check) != ("pt", "saves"):  # trust is in no file, and has a test of its own
                yield "padim", suffix, check
    for name, suffix in (("patchcore", "ckpt"), ("stfpm", "onnx"), ("fastflow", "xml")):
        for check in ("shapes", "decides", "independence", "sizes"):
            yield name, suffix, check


@pytest.fixture(scope="session")
def benches():
    return {}


@pytest.mark.parametrize(("name", "suffix", "check"), list(_benches()))
def test_the_contract(zoo, benches, name, suffix, check):
    path = zoo[name].files[suffix]
    bench = benches.setdefault(path, Bench(lambda: made(path)))
    DETECTOR_CHECKS[check](bench)


# Formats ----------------------------------------------------------------------------------------


def test_an_alias_refuses_another_model(zoo):
    told = {
        "ckpt": "is a checkpoint of Padim, not of Stfpm",
        "pt": "use vision_padim_anomalib",
        "onnx": "use vision_padim_anomalib",
    }
    for suffix, message in told.items():
        with pytest.raises(ArchiveError, match=message):
            made(zoo["padim"].files[suffix], "vision_stfpm_anomalib").fit(GOOD)
    with pytest.raises(ArchiveError, match="has no Rkde"):
        made(zoo["padim"].files["ckpt"], "vision_rkde_anomalib").fit(GOOD)


def test_normalised_exports_warn_and_count(zoo, tmp_path, caplog):
    module = zoo["padim"].module
    module.post_processor.enable_normalization = True
    try:
        onnx = to_onnx(module, tmp_path)
        normal = made(zoo["padim"].files["pt"], raw=False).fit(GOOD)
        with torch.inference_mode():
            own = module(torch.from_numpy(np.stack(BAD)).permute(0, 3, 1, 2).float() / 255)
    finally:
        module.post_processor.enable_normalization = False
    for path in (onnx, to_openvino(onnx)):
        caplog.clear()
        detector = made(path).fit(GOOD)
        assert "enable_normalization=False" in caplog.text
        assert "scores are exactly 0 or 1" in detector.learned()["saturated"]
        assert (detector.decision_function(BAD) == 1).all()
        with pytest.raises(CalibrationError, match="no defect could exceed them"):
            made(path).fit([*BAD, *GOOD[:1]])
    assert np.allclose(normal.decision_function(BAD), own.pred_score.reshape(-1))


def test_exports_frozen_at_two_are_padded(zoo, tmp_path):
    padim = zoo["padim"]
    expected = padim.raw(BAD)[0]
    for name in ("padim", "patchcore"):
        module, (expected, _) = zoo[name].module, zoo[name].raw(BAD)
        onnx = to_onnx(module, tmp_path, name, dynamic_shapes=({0: 2},))
        for path in (onnx, to_openvino(onnx)):
            detector = made(path).fit(GOOD)
            assert detector.runtime_._batch == 2
            assert difference(detector.decision_function(BAD), expected) <= 1e-5
            assert difference(detector.decision_function(BAD[:1]), expected[:1]) <= 1e-5


def test_maps_of_a_model_that_crops_lie_where_it_looked(zoo):
    import cv2

    module = build("patchcore", size=128, crop=96)
    module.model.memory_bank = zoo["patchcore"].module.model.memory_bank
    module.eval()

    class Given:
        model = module
        fingerprint = "a patchcore that crops"

        def predict(self, image):
            raise AssertionError("its network is asked")

    large = [cv2.resize(one, (192, 144)) for one in (GOOD[0], GOOD[1], BAD[0])]
    detector = create_detector(FAMILY, inferencer=Given()).fit(large[:2])
    top, left, bottom, right = detector.runtime_(large[:1])[0].extent
    assert np.allclose([top, left, bottom, right], [1 / 8, 1 / 8, 7 / 8, 7 / 8], atol=1e-3)
    drawn = detector.get_anomaly_map(large[2])
    assert drawn.shape == (144, 192)
    y, x = np.unravel_index(int(drawn.argmax()), drawn.shape)
    assert 16 * 1.5 - 12 <= y <= 32 * 1.5 + 12
    assert 56 * 2 - 16 <= x <= 76 * 2 + 16


def test_a_trusted_export_sets_the_switch_for_itself_alone(zoo, monkeypatch):
    path = zoo["padim"].files["pt"]
    monkeypatch.delenv("TRUST_REMOTE_CODE", raising=False)
    with pytest.raises(ArchiveError, match="trust_checkpoint=True"):
        create_detector(FAMILY, checkpoint=str(path)).fit(GOOD)
    made(path).fit(GOOD)
    assert "TRUST_REMOTE_CODE" not in os.environ
    monkeypatch.setenv("TRUST_REMOTE_CODE", "no")
    made(path).fit(GOOD)
    assert os.environ["TRUST_REMOTE_CODE"] == "no"


class Malicious:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_malicious_checkpoint_is_not_run(zoo, tmp_path):
    trace = tmp_path / "was_here"
    good = torch.load(zoo["padim"].files["ckpt"], weights_only=True)
    path = tmp_path / "evil.ckpt"
    torch.save({**good, "more": Malicious(trace)}, path)
    with pytest.raises(ArchiveError, match="nothing was run"):
        made(path).fit(GOOD)
    torch.save({"model": Malicious(trace)}, tmp_path / "evil.pt")
    with pytest.raises(ArchiveError, match="trust_checkpoint"):
        create_detector(FAMILY, checkpoint=str(tmp_path / "evil.pt")).fit(GOOD)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Malicious(trace))).close()  # noqa: S301 - it would have worked
    assert trace.exists()


def test_checkpoints_that_do_not_load(zoo, tmp_path):
    saved = torch.load(zoo["padim"].files["ckpt"], weights_only=True)
    path = tmp_path / "other.ckpt"
    torch.save({**saved, "hyper_parameters": {"size": 3}}, path)
    with pytest.raises(ArchiveError, match="does not name its model"):
        made(path).fit(GOOD)
    del saved["state_dict"]["model.idx"]
    torch.save(saved, path)
    with pytest.raises(ArchiveError, match="does not load"):
        made(path).fit(GOOD)
    torch.save({"model": torch.nn.Identity()}, tmp_path / "foreign.pt")
    with pytest.raises(ArchiveError, match="holds a Identity"):
        made(tmp_path / "foreign.pt").fit(GOOD)
    for suffix in ("onnx", "xml"):
        cut = zoo["padim"].files[suffix]
        broken = tmp_path / f"broken.{suffix}"
        broken.write_bytes(cut.read_bytes())
        if suffix == "xml":
            broken.with_suffix(".bin").write_bytes(cut.with_suffix(".bin").read_bytes()[:-4000])
        with pytest.raises(ArchiveError, match="truncated or damaged"):
            made(broken).fit(GOOD)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_device_that_is_not_there(zoo, suffix):
    with pytest.raises(ParameterError, match="there is no device 'npu' here"):
        made(zoo["padim"].files[suffix], device="npu").fit(GOOD)
    assert made(zoo["padim"].files[suffix], device="cpu").fit(GOOD).is_calibrated


def test_artefacts_of_the_first_version(zoo, tmp_path):
    """Its exports have one output without a name of ours: a map, or a score."""
    import openvino

    expected, maps = zoo["padim"].raw(BAD)
    core = openvino.Core()
    for wanted, scores in (("anomaly_map", maps.max(axis=(1, 2))), ("pred_score", expected)):
        model = core.read_model(zoo["padim"].files["xml"])
        one = next(out for out in model.outputs if out.get_any_name() == wanted)
        first = openvino.Model([one], model.get_parameters(), "v1")
        first.outputs[0].get_tensor().set_names({"output"})
        path = tmp_path / f"{wanted}.xml"
        openvino.save_model(first, path, compress_to_fp16=False)
        path.write_bytes(path.read_bytes().replace(wanted.encode(), b"output"))
        (tmp_path / "metadata.json").write_text('{"task": "segmentation"}')
        detector = made(path).fit(GOOD)
        assert "anomalib 1.x" in detector.learned()["model"]
        assert difference(detector.decision_function(BAD), scores) <= 1e-5


# Model files ------------------------------------------------------------------------------------


def test_a_model_file_knows_its_checkpoint_by_its_checksum(zoo, tmp_path):
    place = tmp_path / "model.onnx"
    for file in zoo["stfpm"].files["onnx"].parent.glob("model.onnx*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    detector = made(place).fit(GOOD)
    model = tmp_path / "model.pyimg"
    detector.save(model)
    assert model.stat().st_size < 100_000
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in tmp_path.glob("model.onnx*"):
        file.rename(moved / file.name)
    with pytest.raises(ArchiveError, match="there is no checkpoint"):
        pyimgano.load(model)
    loaded = pyimgano.load(model, checkpoint=str(moved / "model.onnx"))
    assert np.array_equal(loaded.decision_function(BAD), detector.decision_function(BAD))
    with pytest.raises(ArchiveError, match=r"padim.* is not the model.onnx"):
        pyimgano.load(model, checkpoint=str(zoo["padim"].files["onnx"]))
    data = moved / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-1] + b"\1")
    with pytest.raises(ArchiveError, match=r"model.onnx.data is not"):
        pyimgano.load(model, checkpoint=str(moved / "model.onnx"))


def test_trust_is_given_again(zoo, tmp_path):
    model = tmp_path / "model.pyimg"
    detector = made(zoo["padim"].files["pt"]).fit(GOOD)
    detector.save(model)
    with pytest.raises(ArchiveError, match="trust_checkpoint=True"):
        pyimgano.load(model)
    loaded = pyimgano.load(model, trust_checkpoint=True)
    assert np.array_equal(loaded.decision_function(BAD), detector.decision_function(BAD))


def test_exports_run_without_anomalib_or_torch_and_write_nothing(zoo, tmp_path):
    code = (
        "import sys, numpy as np\n"
        "sys.modules.update(dict.fromkeys(('anomalib', 'torch', 'torchvision', 'lightning')))\n"
        "from pyimgano.detector_contract import texture\n"
        "from pyimgano.models import create_detector\n"
        "good = [texture(3000 + i) for i in range(6)]\n"
        "for path in sys.argv[1:]:\n"
        "    d = create_detector('vision_anomalib_checkpoint', checkpoint=path).fit(good)\n"
        "    print(d.decision_function(good).shape)\n"
    )
    files = [str(zoo["padim"].files[suffix]) for suffix in ("onnx", "xml")]
    command = [sys.executable, "-c", code, *files]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, text=True)
    assert ended.stdout == "(6,)\n(6,)\n", ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_anomalibs_own_inferencers_can_be_injected(zoo, monkeypatch, tmp_path):
    from anomalib.deploy import OpenVINOInferencer, TorchInferencer

    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    monkeypatch.chdir(tmp_path)  # one of them writes a cache where it is called
    expected = zoo["padim"].raw(BAD)[0]
    torch_one = TorchInferencer(path=zoo["padim"].files["pt"], device="cpu")
    openvino_one = OpenVINOInferencer(path=zoo["padim"].files["xml"], device="CPU")
    # Its OpenVINO lets the processor choose the precision, which may be bf16.
    for inferencer, least in ((torch_one, 1e-5), (openvino_one, 1e-2)):
        detector = create_detector(FAMILY, inferencer=inferencer).fit(GOOD)
        assert difference(detector.decision_function(BAD), expected) <= least
        assert detector.predict_anomaly_map(BAD).shape == (5, SIDE, SIDE)
    told = create_detector(FAMILY, inferencer=torch_one, raw=False).fit(GOOD)
    assert (told.decision_function(BAD) == 1).all()

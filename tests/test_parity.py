"""What less precision changes is measured, told and stored."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

import pyimgano
from fakes import TinyExtractor
from pyimgano.detector_contract import texture
from pyimgano.models.padim import PaDiM
from pyimgano.models.patchcore import PatchCore
from pyimgano.parity import compare_precision

GOODS = [texture(i) for i in range(24)]


@dataclass(frozen=True)
class Rounding(TinyExtractor):
    """Rounds as bfloat16 does; ``rough`` keeps a few bits only."""

    precision: str = "fp32"

    def _one(self, image):
        whole = super()._one(image)
        kept = {"fp32": 32, "bf16": 16, "rough": 11}[self.precision]
        bits = whole.values.view(np.uint32) >> (32 - kept) << (32 - kept)
        return replace(whole, values=bits.view(np.float32))


def fitted(precision, kind=PatchCore, **given):
    return kind(extractor=Rounding(precision=precision), size=96, pad=0, **given).fit(GOODS)


@pytest.mark.parametrize("kind", [PatchCore, PaDiM])
def test_it_is_that_of_two_fits(kind):
    full, lower = fitted("fp32", kind), fitted("bf16", kind)
    assert "parity_" not in vars(full)
    gap = lower.decision_scores_ / lower.threshold_ - full.decision_scores_ / full.threshold_
    assert lower.parity_.largest == np.abs(gap).max() > 0
    assert (lower.parity_.precision, lower.parity_.n) == ("bf16", 24)
    assert lower.learned()["precision"].startswith("bf16: no verdict on good images other than")


def test_flips_are_counted_and_warned_of(caplog):
    rough = fitted("rough", contamination=0.3)
    full = fitted("fp32", contamination=0.3)
    rejected = [one.decision_scores_ > one.threshold_ for one in (rough, full)]
    assert rough.parity_.flips == np.count_nonzero(rejected[0] != rejected[1]) > 0
    assert f"{rough.parity_.flips} of 24 verdicts" in caplog.text


def test_it_is_stored(tmp_path):
    lower = fitted("bf16")
    lower.save(tmp_path / "model.pyimg")
    loaded = pyimgano.load(tmp_path / "model.pyimg", extractor=Rounding(precision="bf16"))
    assert loaded.parity_.describe() == lower.parity_.describe()


def test_without_a_threshold_there_is_nothing_to_compare():
    alone = PatchCore(extractor=Rounding(precision="bf16"), size=96, pad=0).fit(GOODS[:1])
    assert "parity_" not in vars(alone)


def test_calibration_images_take_part():
    lower = PatchCore(extractor=Rounding(precision="bf16"), size=96, pad=0)
    lower.fit(GOODS[:12], calibration=GOODS[12:])
    assert lower.parity_.n == 12


def test_another_threshold_is_not_told_of():
    lower = fitted("bf16")
    lower.calibrate([texture(900 + i) for i in range(8)])
    assert "parity_" not in vars(lower)


def test_a_threshold_of_zero_is_no_division():
    found = compare_precision((np.zeros(3), 0.0), (np.array([0.0, 0.0, 1.0]), 0.0), "bf16")
    assert (found.largest, found.flips) == (1.0, 1)

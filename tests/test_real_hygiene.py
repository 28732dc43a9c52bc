"""Real images: a defect among the goods is found and named, and days that differ are told."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import pyimgano
from cli_calls import call
from pyimgano.datasets import load_dataset

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        "PYIMGANO_REAL_DATA" not in os.environ,
        reason="PYIMGANO_REAL_DATA does not name a folder of real images",
    ),
]
QUICK = {"extractor": "handcrafted", "size": 192}


def test_a_broken_cookie_among_the_goods_is_named_and_shown(tmp_path: Path) -> None:
    cookie = load_dataset(
        "visa", Path(os.environ["PYIMGANO_REAL_DATA"]) / "visa", category="cookie"
    )
    goods = tmp_path / "goods"
    goods.mkdir()
    for sample in cookie.train:
        shutil.copy(sample.path, goods)
    broken = next(one.path for one in cookie.test if one.path.name == "anomaly-4.jpg")
    shutil.copy(broken, goods / "x.jpg")
    shutil.copy(goods / "normal-5.jpg", goods / "zcopy.jpg")
    ended = call("check", goods, "--out", tmp_path / "checked")
    assert ended.code == 0
    facts = json.loads((tmp_path / "checked" / "check.json").read_text(encoding="utf-8"))
    assert facts["suspects"][0][0] == str(goods / "x.jpg")
    assert [Path(name).name for name, _ in facts["exposure"]] == ["normal-31.jpg"]
    assert (facts["n"], facts["n_distinct"]) == (33, 32)
    model = tmp_path / "model.pyimg"
    call("fit", goods, "-o", model, "--clean", "drop", "--set", "size=192")
    fitted = pyimgano.load(model)
    assert {Path(name).name for name, _ in fitted.dropped_} >= {
        "normal-31.jpg",
        "x.jpg",
        "zcopy.jpg",
    }
    assert fitted.certainty_.dropped >= 2


def test_later_days_of_ballscrew_are_told_and_cookie_is_of_one_session() -> None:
    root = Path(os.environ["PYIMGANO_REAL_DATA"])
    screws = load_dataset("mvtec", root / "mvtec", category="ballscrew")
    later = pyimgano.create_detector("vision_padim", **QUICK).fit(screws.train[::2])
    good = [one for one in screws.test if one.label == 0]
    drift = later.drift(later.inspect([one.path for one in good]))
    assert any("darker" in text for text in drift.found)
    cookie = load_dataset("visa", root / "visa", category="cookie")
    same = pyimgano.create_detector("vision_padim", **QUICK).fit(cookie.train)
    for images in (cookie.test, [one.path for one in cookie.test]):  # with labels, without
        assert same.drift(same.inspect(images)).found == ()

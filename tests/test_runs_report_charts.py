"""What a report draws, links and embeds: charts, pictures, facts of images and models."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, unquote_to_bytes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pyimgano
from cli_calls import write_defect
from pyimgano.maps.overlay import encode_png
from pyimgano.metrics.rates import Rate
from pyimgano.runs import gallery, report
from pyimgano.runs.artifacts import RunWriter
from pyimgano.runs.evaluate import evaluate
from pyimgano.runs.facts import read_run
from pyimgano.runs.histogram import BINS, histogram
from pyimgano.runs.report import write_report
from pyimgano.synthesis import write_demo
from report_pages import IMAGE, Page, broken, labelled, page_of, part

if TYPE_CHECKING:
    from pathlib import Path


def test_scores_are_embedded_once_and_exactly(tmp_path: Path) -> None:
    items = [*labelled(), part("u.png", 0.1 + 0.2, None), broken("x.png", 0)]
    page = page_of(tmp_path, items, threshold=2.0)
    data = json.loads(page.code[-2])
    assert data["scores"] == [item.score for item in items[:-1]]
    assert data["labels"] == "g" * 11 + "d" * 10 + "u"
    assert data["threshold"] == 2.0


def test_originals_are_linked_where_they_are_found(tmp_path: Path) -> None:
    names = ["a b#?.png", "javascript:alert(1).png", "100%25.png", "gone.png", os.fsdecode(b"\xff")]
    (tmp_path / "images").mkdir()
    for name in names:
        if name != "gone.png":
            (tmp_path / "images" / name).write_bytes(encode_png(IMAGE))
    items = [part(str(tmp_path / "images" / name), 1 + i / 8, 0) for i, name in enumerate(names)]
    run = tmp_path / "runs" / "first"
    page_of(run, items, threshold=2.0)
    assert links(run) == {
        "../../images/a%20b%23%3F.png",
        "../../images/javascript%3Aalert%281%29.png",
        "../../images/100%2525.png",
        "../../images/%FF",
    }
    assert all((run / os.fsdecode(unquote_to_bytes(link))).is_file() for link in links(run))


def links(run: Path) -> set[str]:
    page = Page((run / "report.html").read_text("utf-8"))
    return {value for tag, name, value in page.attributes if (tag, name) == ("a", "href")}


def test_data_facts_come_from_the_originals_that_are_there(tmp_path: Path) -> None:
    for name, image in (("a", IMAGE), ("b", IMAGE), ("c", IMAGE[:, :, 0]), ("d", IMAGE[:30])):
        (tmp_path / f"{name}.png").write_bytes(encode_png(np.ascontiguousarray(image)))
    (tmp_path / "e.png").write_bytes(b"no picture")
    items = [part(str(tmp_path / f"{name}.png"), 1, None) for name in "abcdex"]
    items += [part("a\0b", 1, None), part("x" * 5000, 1, None)]
    made = page_of(tmp_path / "run", items).text("How it was made")
    assert "originals found 4 sizes 64 x 48: 3 64 x 30: 1" in made
    assert "modes RGB, 8 bit, PNG: 3 L, 8 bit, PNG: 1" in made
    assert f"exact copies {tmp_path}/a.png = {tmp_path}/b.png" in made


def test_model_facts_name_licences_where_they_are_known(tmp_path: Path) -> None:
    facts = {"name": "vision_patchcore", "extractor": "handcrafted version:1 channels:9"}
    made = page_of(tmp_path, [part("a.png", 1, None)], detector=facts).text("How it was made")
    assert "detector paper Roth et al." in made
    assert "extractor licence Apache-2.0" in made
    assert "fingerprint handcrafted version:1 channels:9" in made


def test_curves_are_drawn_where_they_are_defined(tmp_path: Path) -> None:
    curve = {"x": [0.0, 0.1, 0.3], "y": [0.0, 0.5, 1.0]}
    page = page_of(tmp_path, labelled(), threshold=2.0, curves={"pro": curve})
    text = page.text("Metrics")
    assert "ROC, images" in text
    assert "PRO, pixels" in text
    paths = [value for tag, name, value in page.attributes if (tag, name) == ("path", "d")]
    assert paths[1] == "M0.00 200.00L66.67 100.00L200.00 0.00"
    dot = {name: value for tag, name, value in page.attributes if tag == "circle"}
    assert (float(dot["cx"]), float(dot["cy"])) == pytest.approx((200 / 11, 200 * 0.2))
    none = {"label": -1, "verdict": None, "threshold": None, "pixel_threshold": None}
    ranked = [part(f"{i}.png", i, i % 2, regions=(), **none) for i in range(4)]
    assert {"path", "circle"} & set(page_of(tmp_path / "ranked", ranked).tags) == {"path"}
    undefined = page_of(tmp_path / "goods", [part("a.png", 1, 0)], threshold=2.0)
    assert "path" not in undefined.tags


def test_an_evaluation_notes_its_curve_and_how_far_suspects_stand_out(tmp_path: Path) -> None:
    size = {"n_train": 40, "n_good": 3, "n_defect": 6, "size": (96, 96)}
    parts = write_demo(tmp_path / "data", **size) / "flange"
    good = parts / "train" / "good"
    odd = sorted(good.iterdir())[7]
    write_defect(odd, odd)
    data = pyimgano.load_dataset("mvtec", parts.parent, category="flange")
    detector = pyimgano.create_detector("vision_patchcore", extractor="handcrafted", size=96)
    found = evaluate(detector, data, tmp_path / "run")
    facts = read_run(tmp_path / "run")[0]
    curve = facts["curves"]["pro"]
    area = np.trapezoid(curve["y"], curve["x"]) / 0.3
    assert len(curve["x"]) == len(curve["y"]) <= 200
    assert area == pytest.approx(found.metrics["aupro_0.3"], abs=1 / 197)
    assert "curves" not in found.metrics
    there = {tmp_path / "run" / unquote(link) for link in links(tmp_path / "run")}
    assert {path.resolve() for path in there} == {sample.path for sample in data.test}
    assert facts["suspects"] == [str(odd)]
    page = Page((tmp_path / "run" / "report.html").read_text("utf-8"))
    z = re.search(r"z = ([\d.]+)", page.text("Suspects among the good images"))
    assert z is not None
    assert float(z[1]) > 4


def test_all_images_are_listed_the_unjudged_first(tmp_path: Path, monkeypatch) -> None:
    items = [part("a.png", 1, None), broken("b.png"), part("c.png", 3, None)]
    listed = page_of(tmp_path, items, threshold=2.0).text("All images")
    assert listed.index("b.png") < listed.index("c.png") < listed.index("a.png")
    monkeypatch.setattr(report, "LISTED", 2)
    listed = Page(write_report(tmp_path).read_text("utf-8")).text("All images")
    assert "The first 2 of 3; all are in results.csv." in listed
    assert "a.png" not in listed


def test_no_image_is_shown_twice_and_sections_are_short(tmp_path: Path) -> None:
    page = page_of(tmp_path, labelled(), threshold=2.0)
    titles = [value for tag, name, value in page.attributes if (tag, name) == ("span", "title")]
    assert len(titles) == len(set(titles)) == page.tags.count("figure") - 1  # the ROC curve
    thumbnails = sum(value == "thumb" for _, name, value in page.attributes if name == "class")
    assert thumbnails == len(labelled())
    assert len(page.pictures) == 3 * len(titles) + thumbnails + 1  # the colour scale


def test_pictures_share_one_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    with RunWriter(tmp_path, command="predict") as run:
        for i in range(12):
            run.add(part(f"{i}.png", i / 4, None, map=np.zeros((600, 600), np.float32)), noise)
    full = write_report(tmp_path).stat().st_size
    monkeypatch.setattr(gallery, "PICTURE_BYTES", 900_000)
    assert write_report(tmp_path).stat().st_size < 4 / 3 * 900_000 + 150_000 < full
    monkeypatch.setattr(gallery, "PICTURE_BYTES", 100)  # the smallest are still shown
    assert len(Page(write_report(tmp_path).read_text("utf-8")).pictures) == 12 * 3 + 12 + 1
    monkeypatch.setattr(gallery, "THUMBNAIL_BYTES", 100)
    assert len(Page(write_report(tmp_path).read_text("utf-8")).pictures) == 12 * 3 + 1 + 1


def test_a_picture_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    page_of(tmp_path, [part("a.png", 3, None)])
    kept = tmp_path / "overlays" / "00000-a.png"
    for data in (b"damaged", encode_png(IMAGE[:, :9])):  # too narrow for three panels
        kept.write_bytes(data)
        page = Page(write_report(tmp_path).read_text("utf-8"))
        assert page.pictures == []
        assert "no picture was kept" in page.text("Strongest NG")


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (0, 0)])
def test_interval_against_its_definition(k: int, n: int) -> None:
    from scipy.stats import binom

    low, high = Rate(k, n).interval
    assert 0 <= low <= high <= 1
    if k > 0:
        assert binom.sf(k - 1, n, low) == pytest.approx(0.025)
    if k < n:
        assert binom.cdf(k, n, high) == pytest.approx(0.025)
    assert Rate(k, n).value == (k / n if n else None)


scores = st.integers(-16_000, 16_000).map(lambda n: n / 16) | st.integers(1, 10**6).map(float)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    values=st.lists(st.tuples(scores, st.sampled_from([0, 1, None])), min_size=1, max_size=40),
    threshold=st.none() | scores,
)
def test_histogram_counts_every_image_on_its_side(
    values: list[tuple[float, int | None]], threshold: float | None
) -> None:
    rows = [{"score": score, "label": label} for score, label in values]
    chart = histogram([*rows, {"score": None, "label": 0}], threshold)
    assert chart is not None
    assert sum(lane.count for lane in chart.lanes) == len(values)
    names = {0: "good", 1: "defective", None: "unlabelled"}
    for lane in chart.lanes:
        mine = [score for score, label in values if names[label] == lane.name]
        counts = [int(text.split()[0]) for *_, text in lane.bars]
        assert sum(counts) == len(mine) == lane.count
        assert all(3 <= height <= 100 for _, _, height, _ in lane.bars)
        assert all(-100 / BINS <= left <= 100 for left, *_ in lane.bars)
        if threshold is not None and chart.threshold is not None:
            above = sum(
                count
                for count, (left, *_) in zip(counts, lane.bars, strict=True)
                if left >= chart.threshold - 1e-6
            )
            assert above == sum(score > threshold for score in mine)
    assert 1 <= len(chart.ticks) <= 13
    assert all(-1e-6 <= at <= 100 + 1e-6 for at, _ in chart.ticks)


def test_no_score_no_histogram() -> None:
    assert histogram([{"score": None, "label": None}], 2.0) is None


def test_wide_positive_scores_get_a_logarithmic_axis() -> None:
    chart = histogram([{"score": 10.0**i, "label": None} for i in range(5)], 30.0)
    assert chart is not None
    assert chart.logarithmic
    assert [tick for _, tick in chart.ticks] == pytest.approx([1, 10, 100, 1000, 10_000])

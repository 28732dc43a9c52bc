"""The report says what the run says, in one file that is safe to open."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimgano.errors import InputError
from pyimgano.inspection import Inspection, Verdict
from pyimgano.records import Region, Sample
from pyimgano.runs import report
from pyimgano.runs.artifacts import RunWriter
from pyimgano.runs.histogram import BINS, histogram
from pyimgano.runs.report import Rate, write_report

SHAPE = (48, 64)
IMAGE = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
VOID = {"meta", "img"}


class Page(HTMLParser):
    """What a browser would find: tags, attributes, visible text by section heading."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.sections: dict[str, str] = {"": ""}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        if self._open and self._open[-1] == "h2":
            self.sections[data] = ""
        last = next(reversed(self.sections))
        self.sections[last] += f" {' '.join(data.split())}"

    def text(self, section: str) -> str:
        return " ".join(self.sections[section].split())

    @property
    def pictures(self) -> list[str]:
        return [v for tag, name, v in self.attributes if (tag, name) == ("img", "src")]


def part(path: str, score: float, truth: int | None, defect: str = "", **more: Any) -> Inspection:
    ng = int(score > 2)
    anomaly = np.full(SHAPE, min(score, 1.0), np.float32)
    anomaly[5:15, 5:15] = score
    regions = (Region((5, 5, 15, 15), 100.0, 100 / anomaly.size, (9.5, 9.5), score),)
    values: dict[str, Any] = {
        "source": Sample(Path(path), split="test", defect=defect or "good", label=truth),
        "score": score,
        "label": ng,
        "verdict": Verdict.NG if ng else Verdict.OK,
        "map": anomaly,
        "regions": regions if ng else (),
        "threshold": 2.0,
        "pixel_threshold": 2.0,
    }
    return Inspection(**{**values, **more})


def broken(path: str, label: int | None = None, defect: str = "good") -> Inspection:
    return Inspection(
        source=Sample(Path(path), defect=defect, label=label),
        verdict=Verdict.ERROR,
        error=f"{path}: the file ends early",
        threshold=2.0,
    )


def labelled() -> list[Inspection]:
    goods = [part(f"parts/good/{i}.png", 0.5 + 0.1 * i, 0) for i in range(10)]
    cuts = [part(f"parts/cut/{i}.png", 2.5 + i, 1, "cut") for i in range(6)]
    dents = [part(f"parts/dent/{i}.png", 1.7 + 0.2 * i, 1, "dent") for i in range(4)]
    return [*goods, part("parts/good/odd.png", 2.2, 0), *cuts, *dents]


def page_of(out: Path, items: list[Inspection], **notes: Any) -> Page:
    with RunWriter(out, command="predict") as run:
        run.note(**notes)
        for item in items:
            run.add(item, IMAGE)
    path = write_report(out)
    assert path == out / "report.html"
    return Page(path.read_text("utf-8"))


def test_a_labelled_run_says_what_was_caught_and_rejected(tmp_path: Path) -> None:
    items = [*labelled(), broken("parts/cut/x.png", 1, "cut"), broken("parts/good/x.png", 0)]
    page = page_of(
        tmp_path,
        items,
        detector={"name": "vision_patchcore", "parameters": {"seed": 0, "size": [1, 2], "k": None}},
        data={"name": "mvtec", "category": "screw"},
        threshold=2.0,
        pixel_threshold=2.0,
        certainty="threshold: the largest of 20 good images.",
        suspects=["train/7.png"],
        skipped=[("train/9.png", "train/9.png: empty file")],
        timing={"ms_per_image": 12.5},
        metrics={
            "auroc": 0.987654,
            "f1max": 0.9,
            "aupro_0.3": None,
            "undefined": {"aupro_0.3": "no masks", "pixel_auroc": "no maps"},
            "at_threshold": {"catches": {"count": 8}},
            "errors": 2,
        },
    )
    assert "predict · vision_patchcore · mvtec · screw" in page.text("")
    assert "Images in parts/" in page.text("")
    assert "2 of 23 could not be judged. Of the other 21, 9 are NG and 12 OK." in page.text(
        "Verdicts"
    )
    assert "Threshold: the largest of 20 good images." in page.text("Threshold")
    against = page.text("Against the labels, at this threshold")
    assert "Defects caught 8 of 10 · 80.0 % 95 % interval: 44.4 % to 97.5 %" in against
    assert "Good parts rejected 1 of 11 · 9.1 % 95 % interval: 0.2 % to 41.3 %" in against
    assert "defective 8 2 1 11" in against
    assert "good 1 10 1 12" in against
    assert "cut 6 0 1 100 %" in against
    assert "dent 2 2 0 50.0 %" in against
    metrics = page.text("Metrics")
    assert "AUROC 0.9877" in metrics
    assert "F1 max oracle (tuned on test labels) 0.9" in metrics
    assert "AUPRO 0.3 undefined no masks" in metrics
    assert "Pixel AUROC undefined no maps" in metrics
    assert "at_threshold" not in metrics
    assert "dent/0.png" in page.text("Worst misses")
    assert "good/odd.png" in page.text("False alarms")
    strongest = page.text("Strongest NG")
    assert strongest.index("cut/5.png") < strongest.index("cut/4.png")
    assert "1 region, 3.3 % of the image" in strongest
    assert "good/9.png" in page.text("Borderline")
    assert "Typical OK" in page.sections
    assert "cut/x.png the file ends early" in page.text("Could not be judged")
    assert "train/7.png" in page.text("Suspects among the good images")
    assert "train/9.png empty file" in page.text("Good images that were skipped")
    limits = page.text("What this does not prove")
    assert "exchangeable" in limits
    assert "11 good and 10 defective images were judged here" in limits
    assert "named oracle" in limits
    assert "2 images were not judged" in limits
    made = page.text("How it was made")
    assert "parameters.seed 0 parameters.size 1, 2 parameters.k —" in made
    assert "ms_per_image 12.5" in made
    assert "numpy" in made


def test_an_unlabelled_run_claims_nothing_of_misses(tmp_path: Path) -> None:
    page = page_of(tmp_path, [part("a.png", 1, None), part("b.png", 3, None)], threshold=2.0)
    assert "Every image could be judged. Of 2, 1 is NG and 1 OK." in page.text("Verdicts")
    assert "Nothing was recorded of how certain it is." in page.text("Threshold")
    assert not {"Metrics", "Against the labels, at this threshold"} & page.sections.keys()
    assert "No image carries a label" in page.text("What this does not prove")
    assert "unlabelled 2 images" in page.text("Scores")


def test_an_uncalibrated_run_has_scores_and_no_verdicts(tmp_path: Path) -> None:
    none = {"label": -1, "verdict": None, "threshold": None, "pixel_threshold": None}
    items = [part(f"{i}.png", i, None, regions=(), **none) for i in range(9)]
    page = page_of(tmp_path, items)
    assert "there are 9 scores and no verdicts" in page.text("Verdicts")
    assert "None was calibrated" in page.text("Threshold")
    assert "8.png" in page.text("Highest scores")
    assert "Borderline" not in page.sections


def test_only_errors_is_no_pass(tmp_path: Path) -> None:
    page = page_of(tmp_path, [broken("a.png", 0), broken("b.png", 1, "cut")], threshold=2.0)
    assert "2 of 2 could not be judged." in page.text("Verdicts")
    assert "neither OK nor NG" in page.text("Could not be judged")
    assert not {"Scores", "Strongest NG", "Typical OK"} & page.sections.keys()
    assert page.pictures == []


def test_more_errors_than_a_page_holds(tmp_path: Path) -> None:
    page = page_of(tmp_path, [broken(f"{i}.png") for i in range(203)])
    assert "and 3 more: see results.csv" in page.text("Could not be judged")


def test_no_images(tmp_path: Path) -> None:
    page = page_of(tmp_path, [])
    assert "No image was judged." in page.text("Verdicts")


def test_a_run_that_did_not_end_well_says_so_first(tmp_path: Path) -> None:
    def work() -> None:
        with RunWriter(tmp_path, command="predict") as run:
            run.add(part("a.png", 1, None), IMAGE)
            raise RuntimeError("camera <gone>")

    with pytest.raises(RuntimeError):
        work()
    page = Page(write_report(tmp_path).read_text("utf-8"))
    assert "This run failed after 1 image (RuntimeError: camera <gone>)" in page.text("")
    killed = RunWriter(tmp_path / "killed", command="predict").__enter__()
    for file in killed._files:
        file.close()
    page = Page(write_report(killed.out).read_text("utf-8"))
    assert "This run has not ended." in page.text("")


HOSTILE = '"><script>alert(1)</script><img src=https://evil.example/x onerror=a()>{{ 7*7 }}\udcff'


def test_names_and_reasons_are_text_never_markup(tmp_path: Path) -> None:
    items = [
        part(f"{HOSTILE}.png", 3, 1, HOSTILE),
        part("x/y.png", 1, 1, HOSTILE),
        Inspection(source=HOSTILE, verdict=Verdict.ERROR, error=HOSTILE),
    ]
    page = page_of(
        tmp_path,
        items,
        threshold=2.0,
        certainty=HOSTILE,
        suspects=[HOSTILE],
        skipped=[(HOSTILE, HOSTILE)],
        detector={"name": HOSTILE, HOSTILE: HOSTILE},
        metrics={HOSTILE: 1.0, "undefined": {"auroc": HOSTILE}},
        timing={HOSTILE: HOSTILE},
    )
    assert not {"script", "iframe", "link", "a", "object", "form"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "49" not in page.text("Suspects among the good images")
    assert "<script>alert(1)</script>" in page.text("Suspects among the good images")
    assert "\\udcff" in page.text("Suspects among the good images")


def test_nothing_is_asked_from_outside(tmp_path: Path) -> None:
    page = page_of(tmp_path, labelled(), threshold=2.0)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert not re.search(r"https?:|url\(|@import|//[a-z]", text)
    assert page.pictures
    assert all(source.startswith("data:image/") for source in page.pictures)
    policy = [v for _, name, v in page.attributes if name == "content" and "default-src" in v]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_no_image_is_shown_twice_and_sections_are_short(tmp_path: Path) -> None:
    page = page_of(tmp_path, labelled(), threshold=2.0)
    titles = [value for _, name, value in page.attributes if name == "title"]
    assert len(titles) == len(set(titles))
    assert page.tags.count("figure") == len(titles) == len(page.pictures) - 1  # the colour scale


def test_pictures_share_one_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    with RunWriter(tmp_path, command="predict") as run:
        for i in range(12):
            run.add(part(f"{i}.png", i / 4, None, map=np.zeros((600, 600), np.float32)), noise)
    full = write_report(tmp_path).stat().st_size
    monkeypatch.setattr(report, "PICTURE_BYTES", 600_000)
    assert write_report(tmp_path).stat().st_size < 4 / 3 * 600_000 + 60_000 < full
    monkeypatch.setattr(report, "PICTURE_BYTES", 100)  # the smallest are still shown
    assert len(Page(write_report(tmp_path).read_text("utf-8")).pictures) == 12 + 1


def test_a_picture_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    page_of(tmp_path, [part("a.png", 3, None)])
    (tmp_path / "overlays" / "00000-a.png").write_bytes(b"damaged")
    page = Page(write_report(tmp_path).read_text("utf-8"))
    assert page.pictures == []
    assert "no picture was kept" in page.text("Strongest NG")


def test_an_interrupted_run_knows_its_threshold_from_its_rows(tmp_path: Path) -> None:
    speck = (Region((0, 0, 1, 1), 1.0, 1 / 3072, (0.0, 0.0), 3.0),)
    page = page_of(tmp_path, [part("a.png", 3, None, regions=speck), part("b.png", 1, None)])
    assert "Threshold 2 " in page.text("Threshold")
    assert "drawn where the map is above 2;" in page.text("Threshold")
    assert "1 region, < 0.1 % of the image" in page.text("Strongest NG")


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        write_report(tmp_path)


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

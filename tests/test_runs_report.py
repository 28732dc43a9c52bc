"""The report says what the run says, in one file that is safe to open."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING

import pytest

from pyimgano.errors import InputError
from pyimgano.inspection import Inspection, Verdict
from pyimgano.records import Region
from pyimgano.runs.artifacts import RunWriter
from pyimgano.runs.report import write_report
from report_pages import IMAGE, Page, broken, ids, labelled, page_of, part

if TYPE_CHECKING:
    from pathlib import Path


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
        suspects_z=[5.21],
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
    assert "The largest of 20 good images." in page.text("Threshold")
    against = page.text("Against the labels")
    escapes = "Escapes: defects judged OK 2 of 10 · 20.0 % 95 % interval: 2.5 % to 55.6 %"
    rejects = "False rejects: good parts judged NG 1 of 11 · 9.1 % 95 % interval: 0.2 % to 41.3 %"
    assert escapes in against
    assert rejects in against
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
    assert "train/7.png z = 5.2" in page.text("Suspects among the good images")
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
    assert not {"Metrics", "Against the labels"} & page.sections.keys()
    assert "No image carries a label" in page.text("What this does not prove")
    assert "unlabelled 2 images" in page.text("Scores")
    assert not {"escapes", "rejects"} & ids(page)


def test_an_uncalibrated_run_has_scores_and_no_verdicts(tmp_path: Path) -> None:
    none = {"label": -1, "verdict": None, "threshold": None, "pixel_threshold": None}
    items = [part(f"{i}.png", i, None, regions=(), **none) for i in range(9)]
    page = page_of(tmp_path, items)
    assert "there are 9 scores and no verdicts" in page.text("Verdicts")
    assert "None was calibrated" in page.text("Threshold")
    assert "8.png" in page.text("Highest scores")
    assert "Borderline" not in page.sections
    assert "— NG — OK" in page.text("Scores")


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
    assert not {"iframe", "a", "object", "form", "base"} & set(page.tags)
    assert page.tags.count("script") == 2
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert not [code for code in page.code if "alert" in code or "7*7" in code]
    assert "49" not in page.text("Suspects among the good images")
    assert "<script>alert(1)</script>" in page.text("Suspects among the good images")
    assert "\\udcff" in page.text("Suspects among the good images")


def test_nothing_is_asked_from_outside_and_one_script_may_run(tmp_path: Path) -> None:
    page = page_of(tmp_path, labelled(), threshold=2.0)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert not re.search(r"https?:|url\(|@import|//[a-z]", text)
    assert page.pictures
    assert all(source.startswith("data:image/") for source in page.pictures)
    policy = next(v for _, name, v in page.attributes if name == "content" and "default" in v)
    digest = base64.b64encode(hashlib.sha256(page.code[-1].encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "img-src data:",
        f"script-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]


def test_an_interrupted_run_knows_its_threshold_from_its_rows(tmp_path: Path) -> None:
    speck = (Region((0, 0, 1, 1), 1.0, 1 / 3072, (0.0, 0.0), 3.0),)
    page = page_of(tmp_path, [part("a.png", 3, None, regions=speck), part("b.png", 1, None)])
    assert "Threshold 2 an image is NG when" in page.text("Threshold")
    assert "drawn where the map is above 2;" in page.text("Threshold")
    assert "1 region, < 0.1 % of the image" in page.text("Strongest NG")


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        write_report(tmp_path)

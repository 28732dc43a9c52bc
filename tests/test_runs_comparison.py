"""Runs side by side: matched images, exact tests, and the images on which they disagree."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.stats import binomtest

from browser.judged import HOSTILE
from cli_calls import SMALL, call, write_parts
from pyimgano.errors import InputError, ParameterError
from pyimgano.inspection import Inspection
from pyimgano.metrics import auroc, delong
from pyimgano.runs.artifacts import RunWriter
from pyimgano.runs.comparison import match, write_comparison
from pyimgano.runs.comparison_charts import score_map
from pyimgano.runs.comparison_pairs import compare, mcnemar
from pyimgano.runs.facts import read_run
from report_pages import IMAGE, Page, broken, part

if TYPE_CHECKING:
    from pathlib import Path

    from pyimgano.inspection import Inspection


def row(path: str, score: float | None, label: int | None = None, **more: Any) -> dict[str, Any]:
    verdict = "ERROR" if score is None else "NG" if score > 2 else "OK"
    known = {"path": path, "score": score, "label": label, "verdict": verdict, "threshold": 2.0}
    return {**known, "overlay": None, "defect": "good", **more}


def write_run(out: Path, items: list[Inspection], **notes: Any) -> Path:
    with RunWriter(out, command="predict", **notes.pop("writer", {})) as run:
        run.note(**notes)
        for item in items:
            run.add(item, IMAGE)
    return out


def compared(out: Path, *runs: Path) -> Page:
    path = write_comparison(runs, out)
    assert path == out / "comparison.html"
    return Page(path.read_text("utf-8"))


def scored(scores: list[float], label: int | None, defect: str = "good") -> list[Inspection]:
    return [part(f"p/{defect}/{i}.png", score, label, defect) for i, score in enumerate(scores)]


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Runs of 12 goods, 8 cuts and 2 images without a label."""
    a = scored([1.0 + 0.05 * i for i in range(11)] + [2.5], 0) + scored(
        [2.5] * 5 + [1.5] * 3, 1, "cut"
    )
    b = scored([1.2 - 0.05 * i for i in range(12)], 0) + scored([1.7, *[3.0] * 7], 1, "cut")
    a += scored([3.0, 1.0], None, "x")
    b += scored([1.0, 4.0], None, "x")
    detector = {"name": "one", "extractor": "tiny 4f3a"}
    return (
        write_run(
            tmp_path / "a", a, detector=detector, threshold=2.0, timing={"ms_per_image": 3.5}
        ),
        write_run(tmp_path / "b", b, detector={"name": "two"}, threshold=2.0),
    )


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 0), (3, 12), (7, 7), (40, 20)])
def test_mcnemar_is_the_exact_sign_test(a: int, b: int) -> None:
    expected = binomtest(a, a + b).pvalue if a + b else 1.0
    assert mcnemar(a, b) == mcnemar(b, a) == pytest.approx(expected)


def test_a_pair_counts_what_one_alone_judged_ng() -> None:
    rng = np.random.default_rng(3)
    labels = [int(value) for value in rng.integers(0, 2, 60)]
    scores = rng.normal(1.5, 1, (60, 2)) + np.array(labels)[:, None]
    common = [tuple(row(str(i), float(s)) for s in pair) for i, pair in enumerate(scores)]
    common.append((row("x", None), row("x", 5.0)))
    pair = compare(common, [*labels, 1], 0, 1)
    expected = delong(labels, *scores.T)
    assert pair.auroc == expected
    assert expected.auroc_a == pytest.approx(auroc(labels, scores[:, 0]))
    ng = scores > 2
    for found, kind in zip(pair.discordances, (1, 0), strict=True):
        chosen = ng[np.array(labels) == kind]
        assert found.n == len(chosen)
        assert found.only_a == (chosen[:, 0] & ~chosen[:, 1]).sum()
        assert found.only_b == (chosen[:, 1] & ~chosen[:, 0]).sum()
        assert found.p == mcnemar(found.only_a, found.only_b)
    assert pair.equal == (ng[:, 0] == ng[:, 1]).sum()
    assert pair.verdicts["ERROR", "NG"] == 1
    assert compare(common[:1], [None], 0, 1).auroc is None


def test_images_are_matched_by_path_then_by_bytes(tmp_path: Path) -> None:
    for name, data in {"a": b"1", "moved": b"1", "b": b"2", "other": b"3"}.items():
        (tmp_path / name).write_bytes(data)
    first = [
        row(str(tmp_path / "a"), 1.0),
        row("same", 2.0),
        row("same", 9.0),
        row(str(tmp_path / "b"), 3.0),
    ]
    second = [
        row("same", 4.0),
        row(str(tmp_path / "moved"), 5.0),
        row(str(tmp_path / "other"), 6.0),
    ]
    second.append(row("array\0", 7.0))
    found = match([first, second])
    assert [tuple(one["score"] for one in both) for both in found] == [(2.0, 4.0), (1.0, 5.0)]
    assert match([first, first[:1]]) == [(first[0], first[0])]
    assert match([first, []]) == []


def test_two_runs_side_by_side(tmp_path: Path, two: tuple[Path, Path]) -> None:
    page = compared(tmp_path / "new" / "out", *two)
    assert "one · tiny against two" in page.text("")
    assert "22 images in common · 7 judged differently" in page.text("")
    assert "A one · tiny" in page.text("Runs")
    assert "3.5" in page.text("Runs")
    labels = page.text("Against the labels")
    assert "37.5 % 3 of 8 8.5 % to 75.5 % 8.3 % 1 of 12 0.2 % to 38.5 %" in labels
    assert "12.5 % 1 of 8" in labels
    truth = [0] * 12 + [1] * 8
    scores = [[one["score"] for one in read_run(run)[1] if one["label"] is not None] for run in two]
    assert all(f"{auroc(truth, run):.3f}" in page.text("Scores") for run in scores)
    assert "F1 max (oracle)" in page.text("Scores")
    text = page.text("Differences")
    assert f"{delong(truth, *scores).difference:+.3f}".replace("-", "\u2212") in text
    assert "A \u2013 B defects caught by one alone 8 1 3 \u221225.0 % 0.625" in text
    assert "A \u2013 B good parts rejected by one alone 12 1 0 +8.3 % 1.000" in text
    assert "A \u2013 B unlabelled, NG in one alone 2 1 1 +0.0 % 1.000" in text
    assert "A \u2013 B same verdict 22 15 alike 68.2 %" in text
    assert "A: NG 4 3" in text
    assert "A: OK 4 11" in text
    assert "3 images" in page.text("Misses of A that B catches")
    assert "1 image" in page.text("Misses of B that A catches")
    for title in ("False alarms of A alone", "NG in A alone", "NG in B alone"):
        assert "1 image" in page.text(title)
    assert "False alarms of B alone" not in page.sections
    assert len(page.pictures) == 7 * 3
    assert "detector.name one two" in page.text("What the runs do not share")
    assert page.text("Judged differently").count("p/cut/") == 4


def test_many_disagreements_are_cut_and_pictures_may_be_gone(
    tmp_path: Path, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    a = write_run(tmp_path / "c", scored([2.5 + i for i in range(9)], 0), threshold=2.0)
    b = write_run(tmp_path / "d", scored([1.0] * 9, 0), writer={"overlays": "ng"})
    monkeypatch.setattr("pyimgano.runs.comparison.LISTED", 4)
    page = compared(tmp_path, a, b)
    assert "9 images, the 6 on which the scores are farthest apart" in page.text(
        "False alarms of A alone"
    )
    assert "p/good/8.png" in page.text("False alarms of A alone")
    assert page.text("False alarms of A alone").count("no picture was kept") == 6
    assert "The first 4 of 9" in page.text("Judged differently")
    assert "Scores" in page.sections  # the map of scores
    shutil.rmtree(a / "overlays")
    assert compared(tmp_path, a, b).pictures == []


def test_what_is_not_in_common_is_left_out_and_said(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", [*scored([1.0, 3.0], 0), part("p/z.png", 1.0, 1)])
    b = write_run(tmp_path / "b", [*scored([1.0, 3.0, 4.0], 0), part("p/z.png", 1.0, 0)])
    page = compared(tmp_path, a, b)
    assert (
        "Everything below is of the 2 in common alone; left out: 1 of 3 in A, 2 of 4 in B. "
        "Among them 1 image whose labels contradict each other."
    ) in page.text("")
    nothing = write_run(tmp_path / "c", [part("p/elsewhere.png", 1.0, 0)])
    page = compared(tmp_path, a, nothing)
    assert "no image in common" in page.text("")
    assert not {"Differences", "Against the labels", "Scores"} & page.sections.keys()


def test_runs_that_did_not_end_or_could_not_judge(tmp_path: Path) -> None:
    def interrupted() -> None:
        with RunWriter(tmp_path / "a", command="predict") as run:
            run.add(part("p/good/0.png", 1.0, 0))
            run.add(broken("p/good/1.png", 0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    plain = [
        part(f"p/good/{i}.png", -1.0, None, verdict=None, threshold=None, label=-1)
        for i in range(2)
    ]
    b = write_run(tmp_path / "b", plain)
    page = compared(tmp_path, tmp_path / "a", b)
    assert "Run A is not complete (interrupted: KeyboardInterrupt)" in page.text("")
    assert "a score and no verdict" in page.text("Runs")
    assert "A: ERROR" in page.text("Differences")
    assert "the file ends early" in page.text("Judged differently")
    assert "Scores" not in page.sections


def test_equal_runs_say_so(tmp_path: Path, two: tuple[Path, Path]) -> None:
    page = compared(tmp_path, two[0], two[0], two[0])
    assert "3 runs side by side" in page.text("")
    assert "They note the same" in page.text("What the runs do not share")
    assert page.text("Differences").count("no variance") == 3
    assert "Judged differently" not in page.sections


def test_the_map_of_scores_needs_scores_above_zero() -> None:
    tables = [[row("a", -1.0), row("b", 1.0)], [row("a", 1.0), row("b", 1.0, threshold=0.0)]]
    assert score_map(tables, [0, 1]) is None
    drawn = score_map([[row("b", 1.0)], [row("b", 8.0)]], [None])
    assert drawn is not None
    ((kind, x, y),) = drawn.dots
    assert kind == "unlabelled"
    assert x < drawn.at < 200 - y
    assert drawn.low < 0.5 < 4 < drawn.high


def test_hostile_names_are_text(tmp_path: Path) -> None:
    runs = [
        write_run(
            tmp_path / letter,
            [part(name, 3.0 if i % 2 == turn else 1.0, 1, name) for i, name in enumerate(HOSTILE)],
            detector={"name": HOSTILE[0], "extractor": HOSTILE[turn], HOSTILE[1]: letter},
            threshold=2.0,
        )
        for turn, letter in enumerate("ab")
    ]
    page = compared(tmp_path, *runs)
    assert page.tags.count("script") == 1
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    sources = [value for _, name, value in page.attributes if name in {"src", "href"}]
    assert all(source.startswith("data:") for source in sources)


def test_what_cannot_be_compared_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="2 to 26 runs, got 1"):
        write_comparison([tmp_path], tmp_path)
    with pytest.raises(InputError, match="holds no run"):
        write_comparison([tmp_path, tmp_path], tmp_path)


def test_report_compares_real_runs(tmp_path: Path) -> None:
    root = write_parts(tmp_path / "data").parent
    runs = [tmp_path / name for name in ("knn", "gauss")]
    for run, detector in zip(runs, ("vision_patchcore", "vision_padim"), strict=True):
        given = ("--root", root, "--category", "flange", "--detector", detector, "--out", run)
        assert call("evaluate", *given, *SMALL, "-q").code == 0
    out = tmp_path / "both"
    ended = call("report", *runs, "--out", out, "--json")
    assert json.loads(ended.out) == {
        "reports": [str(run / "report.html") for run in runs],
        "comparison": str(out / "comparison.html"),
    }
    page = Page((out / "comparison.html").read_text("utf-8"))
    assert "9 images in common" in page.text("")
    noted = [json.loads((run / "run.json").read_bytes())["metrics"] for run in runs]
    for metrics in noted:
        assert f"{metrics['auroc']:.3f}" in page.text("Scores")
        assert f"{metrics['aupro_0.3']:.3f}" in page.text("Scores")
    hint = call("report", *runs).out
    assert "side by side: pyimgano report" in hint
    alone = call("report", runs[0], "--out", out)
    assert alone.code == 2
    assert "two or more runs" in alone.err

"""The leaderboard: published ranks come out, means and intervals are right, nothing is hidden."""

from __future__ import annotations

import json
import math
import re
import shlex
import statistics
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import friedmanchisquare

from boards import FACTS, job, write_board
from browser.judged import HOSTILE
from cli_calls import call
from pyimgano.errors import InputError
from pyimgano.runs.leaderboard import write_leaderboard
from pyimgano.runs.leaderboard_charts import differences, scatter
from pyimgano.runs.leaderboard_methods import methods_of, read_rows
from pyimgano.runs.leaderboard_ranks import Ranking, rank_methods
from report_pages import Page

if TYPE_CHECKING:
    from pathlib import Path

# Ranks of C4.5, C4.5+m, C4.5+cf and C4.5+m+cf on 14 data sets (Demsar 2006, table 6).
DEMSAR = np.array(
    [
        [4, 3, 2, 1],
        [1, 2, 3, 4],
        [4, 1, 2, 3],
        [4, 1, 3, 2],
        [4, 2, 3, 1],
        [1, 2.5, 4, 2.5],
        [3, 2, 4, 1],
        [2.5, 2.5, 4, 1],
        [4, 3, 2, 1],
        [2.5, 2.5, 2.5, 2.5],
        [4, 2.5, 1, 2.5],
        [3, 2, 4, 1],
        [4, 1, 2, 3],
        [3, 1, 4, 2],
    ]
)


def page_of(out: Path) -> Page:
    write_leaderboard(out)
    return Page((out / "leaderboard.html").read_text("utf-8"))


def board(out: Path, categories: int = 6, **more: object) -> Path:
    """Three methods, always in one order."""
    rows = [
        job(name, f"c{i}", auroc - 0.01 * i, ms_per_image=cost, **more)
        for i in range(categories)
        for name, auroc, cost in (("best", 0.95, 80), ("fast", 0.9, 5), ("poor", 0.8, 40))
    ]
    return write_board(out, rows)


def test_the_published_example_comes_out() -> None:
    ranking = rank_methods(-DEMSAR)
    assert [round(rank, 3) for rank in ranking.ranks] == [3.143, 2.000, 2.893, 1.964]
    assert ranking.distance == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), rel=1e-3)
    assert round(ranking.distance, 2) == 1.25
    ties = sum(n**3 - n for row in DEMSAR for n in np.unique(row, return_counts=True)[1])
    published = ranking.chi2 * (1 - ties / (14 * (4**3 - 4)))  # which leaves ties uncorrected
    assert round(published, 2) == 9.28
    assert round(13 * published / (14 * 3 - published), 2) == 3.69
    assert ranking.f == pytest.approx(13 * ranking.chi2 / (14 * 3 - ranking.chi2))
    assert ranking.p < 0.05
    assert ranking.groups == [(min(ranking.ranks), max(ranking.ranks))]  # as the paper finds


@given(
    arrays(np.float64, st.tuples(st.integers(6, 9), st.integers(3, 5)), elements=st.integers(0, 9))
)
def test_ranks_are_those_of_the_definition(values: np.ndarray) -> None:
    ranking = rank_methods(values)
    for method, rank in enumerate(ranking.ranks):
        better = (values > values[:, [method]]).sum(axis=1)
        equal = (values == values[:, [method]]).sum(axis=1)
        assert rank == pytest.approx((better + (equal + 1) / 2).mean())
    assert sum(ranking.ranks) == pytest.approx(sum(range(1, values.shape[1] + 1)))
    assert 0 <= ranking.p <= 1
    if (values != values[:, :1]).any():
        assert ranking.chi2 == pytest.approx(friedmanchisquare(*values.T).statistic)
    ordered = sorted(ranking.ranks)
    for low, high in ranking.groups:
        assert high - low <= ranking.distance
    tied = {
        (a, b)
        for low, high in ranking.groups
        for a in ordered
        for b in ordered
        if low <= a < b <= high
    }
    assert tied == {(a, b) for a in ordered for b in ordered if a < b <= a + ranking.distance}


def test_total_agreement_and_no_difference() -> None:
    agreed = rank_methods([[3, 2, 1]] * 6)
    assert (agreed.f, agreed.p) == (math.inf, 0.0)
    equal = rank_methods(np.ones((6, 3)))
    assert (equal.chi2, equal.p, equal.groups) == (0.0, 1.0, [(2.0, 2.0)])


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((6, 2), "two methods"),
        ((6, 1), "one method"),
        ((5, 3), "5 categories"),
        ((1, 3), "one category"),
    ],
)
def test_without_power_there_is_no_test(shape: tuple[int, int], words: str) -> None:
    ranking = rank_methods(np.arange(math.prod(shape)).reshape(shape))
    assert words in ranking.lack
    assert math.isnan(ranking.p)
    assert differences(["x"] * shape[1], ranking) is None
    if shape[1] > 1:
        assert ranking.ranks == tuple(range(shape[1], 0, -1))


def test_the_drawing_ties_what_is_close() -> None:
    ranking = Ranking((1.0, 2.0, 3.5, 3.5), 8, distance=1.2)
    drawn = differences(["a", "b", "c", "d"], ranking)
    assert drawn is not None
    assert len(drawn.bars) == 2
    assert [(name, left) for name, *_, left in drawn.names] == [
        ("a", True),
        ("b", True),
        ("c", False),
        ("d", False),
    ]
    places = [place for _, _, place, *_ in drawn.names]
    assert places[0] == drawn.axis[0] < places[1] < places[2] == places[3] < drawn.axis[1]
    assert drawn.ruler[1] - drawn.ruler[0] == pytest.approx(1.2 * (places[1] - places[0]))


def test_means_are_over_categories_of_means_over_seeds(tmp_path: Path) -> None:
    values = {("a", 0): 0.9, ("a", 1): 0.8, ("b", 0): 0.7, ("b", 1): 0.5}
    rows = [job("one", c, value, seed=seed) for (c, seed), value in values.items()]
    rows.append(job("one", "a", 0.8, seed=2))  # in one category alone: no mean over all of them
    (method,) = methods_of(read_rows(write_board(tmp_path, rows) / "leaderboard.csv"), "auroc")
    figure = method.figure("auroc")
    assert figure is not None
    assert figure.value == pytest.approx(((0.9 + 0.8 + 0.8) / 3 + 0.6) / 2)
    assert figure.deviation == pytest.approx(statistics.stdev([0.8, 0.65]))
    # each category's mean has the half widths of its results, and two such means add in quadrature
    assert figure.low == pytest.approx(figure.value - math.hypot(0.03, 0.03) / 2)
    assert figure.high == pytest.approx(figure.value + math.hypot(0.04, 0.04) / 2)
    assert method.figure("aupimo") is method.cell("auroc", "c") is method.mean("aupimo") is None
    alone = method.cell("auroc", "parts/b")
    assert alone is not None
    assert (alone.low, alone.high) == (pytest.approx(0.57), pytest.approx(0.64))
    assert method.figure("ap").low is None
    rate = method.rate("escapes", "n_defect")
    assert (rate.k, rate.n) == (10, 50)


def test_the_page_says_who_is_best_and_how_sure(tmp_path: Path) -> None:
    page = page_of(board(tmp_path))
    assert "3 methods · 6 categories · one-class · 18 results" in page.text("")
    table = page.text("Methods")
    assert re.search(r"1 best tiny 0\.925 0\.913 to 0\.941 .* 2 fast tiny 0\.875", table)
    assert "F1 max (oracle)" in table
    assert "AUPIMO" not in table
    assert "1 best · tiny 2 fast · tiny" in page.text("Accuracy over cost")
    assert "5.0 % 6 of 120 1.9 % to 10.6 % 10.0 % 20.0 % 12 of 60" in page.text(
        "At the calibrated threshold"
    )
    assert "3 80 500 2.5 MIT" in page.text("Cost")
    text = page.text("AUROC by category")
    assert "The methods differ: Friedman χ² = 12, Iman-Davenport F = inf, p < 0.0001" in text
    assert "critical difference of 1.35" in text
    assert "pyimgano benchmark --detector best --category c0" in page.text("To repeat it")
    assert "1.2.3" in page.text("How it was made")
    assert "What failed" not in page.sections


def test_the_markdown_says_the_same(tmp_path: Path) -> None:
    write_leaderboard(board(tmp_path, seed=1))
    text = (tmp_path / "leaderboard.md").read_text("utf-8")
    assert "| 1 | best · tiny | 6 of 6 | 0.925 (0.913 to 0.941) | 0.925 | 0.925 |" in text
    assert "| 1 | best · tiny | 5.0 % (6 of 120) | 20.0 % (12 of 60) | 10.0 % |" in text
    assert "| 2 | fast · tiny | 3 | 5 | 500 | 2.5 | MIT |" in text
    assert "p = 0 over 6 categories" in text
    assert "    pyimgano benchmark --detector best --category c0\n" in text
    assert "- versions.pyimgano: 1.2.3" in text


def test_a_method_that_failed_somewhere_comes_last_and_is_not_ranked(tmp_path: Path) -> None:
    rows = [job(name, f"c{i}", 0.8 + 0.01 * i) for i in range(6) for name in ("x", "y", "z")]
    rows += [job("w", f"c{i}", 0.99) for i in range(5)] + [job("w", "c5", None)]
    page = page_of(write_board(tmp_path, rows))
    assert "1 result is missing." in page.text("")
    assert re.search(r"4 w tiny 0\.990 .* 5 of 6$", page.text("Methods"))
    assert "c5 0 MaskError: x.png: no mask" in page.text("What failed")
    text = page.text("AUROC by category")
    assert "No difference is shown" in text
    assert "Left out: 1 that lack a category" in text
    assert "MaskError" in (tmp_path / "leaderboard.md").read_text("utf-8")


def test_few_categories_are_not_tested(tmp_path: Path) -> None:
    page = page_of(board(tmp_path, 3))
    assert "Not tested: 3 categories give the test no power" in page.text("AUROC by category")
    assert "No test: 3 categories" in (tmp_path / "leaderboard.md").read_text("utf-8")


def test_shots_seeds_and_data_sets_are_named_where_they_differ(tmp_path: Path) -> None:
    rows = [
        job("x", "a", 0.9, shots=shots, seed=seed, dataset=dataset, protocol=protocol)
        for shots, protocol in (("", "one-class"), ("1", "few-shot"), ("4", "few-shot"))
        for seed in (0, 1)
        for dataset in ("mvtec", "visa")
    ]
    page = page_of(write_board(tmp_path, rows))
    assert "Leaderboard · mvtec, visa" in page.text("")
    assert "2 seeds" in page.text("")
    for words in ("tiny · all goods", "tiny · 1 shot ", "tiny · 4 shots"):
        assert words in page.text("Methods")
    assert "mvtec/a" in page.text("AUROC by category")
    assert "± 0.000" in page.text("Methods")
    assert "95 % interval" not in page.text("At the calibrated threshold")
    same = page_of(write_board(tmp_path, [job("x", "a", 0.9, shots="4")]))
    assert "one-class · shots: 4" in same.text("")
    assert "x tiny 0.900" in same.text("Methods")


def test_all_failed_and_nothing_at_all(tmp_path: Path) -> None:
    page = page_of(write_board(tmp_path, [job("x", "a", None, ms_per_image="soon")]))
    assert "1 x tiny 0 of 1" in page.text("Methods")
    page = page_of(write_board(tmp_path, [], {}))
    assert "There is no result yet." in page.text("Methods")
    rows = [job("x", "a", 0.9), job("x", "b", None)]
    page = page_of(write_board(tmp_path, rows))
    assert "No method has every category" in page.text("AUROC by category")
    assert "No method has every category" in (tmp_path / "leaderboard.md").read_text("utf-8")


@pytest.mark.parametrize("cost", [1e-9, 0.5, 1e12])
def test_the_scatter_holds_any_cost(tmp_path: Path, cost: float) -> None:
    rows = [
        job("slow", "a", 0.9, ms_per_image=2 * cost),
        job("even", "a", 0.9, ms_per_image=2 * cost),
        job("same", "a", 0.8, ms_per_image=cost, auroc_low=""),
        job("free", "a", 0.7, ms_per_image=""),
    ]
    methods = methods_of(read_rows(write_board(tmp_path, rows) / "leaderboard.csv"), "auroc")
    drawn = scatter(methods, "auroc")
    assert drawn is not None
    assert [point[1].detector for point in drawn.points if point[-1]] == ["even", "slow", "same"]
    assert drawn.y_ticks[-1][1] == pytest.approx(1.0)
    assert scatter(methods[2:], "auroc") is None


def test_hostile_names_are_text(tmp_path: Path) -> None:
    rows = [
        job(name, name, None if i % 2 else 0.9, extractor=name, licence=name, command=name)
        for i, name in enumerate(HOSTILE)
    ]
    facts = {**FACTS, "command": [HOSTILE[0], "b"], HOSTILE[1]: HOSTILE[2]}
    page = page_of(write_board(tmp_path, rows, facts))
    assert page.tags.count("script") == 1
    assert not {"img", "iframe", "object"} & {*page.tags}
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "49" not in page.text("Methods")
    text = (tmp_path / "leaderboard.md").read_text("utf-8")
    assert "<script" not in "".join(
        line for line in text.splitlines() if not line.startswith("    ")
    )


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="benchmark wrote"):
        write_leaderboard(tmp_path)
    (tmp_path / "leaderboard.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="lacks the columns category, dataset"):
        write_leaderboard(tmp_path)
    write_board(tmp_path, [], [])
    with pytest.raises(InputError, match="not that of a benchmark"):
        write_leaderboard(tmp_path)
    (tmp_path / "benchmark.json").unlink()
    with pytest.raises(InputError, match=r"benchmark\.json cannot be read"):
        write_leaderboard(tmp_path)


def test_report_writes_it_again(tmp_path: Path) -> None:
    out = write_board(tmp_path / "bench", [job("x", "a", 0.9)])
    ended = call("report", out, "-q")
    assert ended == (0, f"{out / 'leaderboard.html'}\n", "")


def test_several_benchmarks_are_joined_into_one_table(tmp_path: Path) -> None:
    old = [job("a", "ring", 0.7), job("a", "bolt", 0.8), job("b", "ring", None)]
    new = [job("b", "ring", 0.9), job("=c", "ring", 0.6, shots="4", protocol="few-shot")]
    first = write_board(tmp_path / "first", old)
    second = write_board(tmp_path / "second", new, FACTS | {"machine": {"cores": 2}})
    third = write_board(tmp_path / "third", new[:1], FACTS)
    out = tmp_path / "joined"
    given = ("report", first, second, "--out", out)
    ended = call(*given, "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["reports"] == [str(out / "leaderboard.html")]
    rows = read_rows(out / "leaderboard.csv")
    found = {(row["detector"], row["category"]): row["auroc"] for row in rows}
    assert found == {
        ("a", "ring"): "0.7",
        ("a", "bolt"): "0.8",
        ("b", "ring"): "0.9",
        ("=c", "ring"): "0.6",
    }
    facts = json.loads((out / "benchmark.json").read_text("utf-8"))
    assert facts["command"] == shlex.join(map(str, ("pyimgano", *given)))
    assert [each["machine"] for each in facts["surroundings"].values()] == [None, {"cores": 2}]
    assert call("report", out, third, "--out", tmp_path / "again").code == 0
    again = json.loads((tmp_path / "again" / "benchmark.json").read_text("utf-8"))
    assert again["surroundings"] == facts["surroundings"]
    assert call("report", first, third, "--out", tmp_path / "alike").code == 0
    alike = json.loads((tmp_path / "alike" / "benchmark.json").read_text("utf-8"))
    assert alike["versions"] == FACTS["versions"]


def test_where_benchmarks_are_not_joined(tmp_path: Path) -> None:
    boards = [write_board(tmp_path / name, [job("a", "ring", 0.7)]) for name in ("x", "y")]
    (boards[0] / "jobs").mkdir()
    before = (boards[0] / "leaderboard.csv").read_bytes()
    ended = call("report", *boards, "--out", boards[0])
    assert ended.code == 2
    assert "give another folder" in ended.err
    assert (boards[0] / "leaderboard.csv").read_bytes() == before
    ended = call("report", boards[0], tmp_path, "--out", tmp_path / "out")
    assert ended.code == 2
    assert f"got runs and the benchmark {boards[0]}" in ended.err
    assert "got 1" in call("report", boards[0], "--out", tmp_path / "out").err

"""The leaderboard and the comparison in a real browser: sorted, copied, enlarged, light, dark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boards import job, write_board
from browser.judged import HOSTILE, THRESHOLD, judge
from browser.test_report import CONTRAST, column, rgb
from pyimgano.records import DEFECT, GOOD
from pyimgano.runs.artifacts import RunWriter
from pyimgano.runs.comparison import write_comparison
from pyimgano.runs.leaderboard import write_leaderboard

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> Path:
    rows = [
        job(name, f"c{i}", 0.9 - 0.02 * place - 0.001 * i, seed=seed, ms_per_image=9.0 + 7 * place)
        for place, name in enumerate(("one", "two", "ten", *HOSTILE))
        for i in range(7)
        for seed in (0, 1)
    ]
    out = write_board(tmp_path_factory.mktemp("board"), [*rows, job("lame", "c0", None)])
    write_leaderboard(out)
    return out


@pytest.fixture(scope="module")
def comparison(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    names = [f"{kind}/{i}.png" for kind in ("good", "cut") for i in range(8)] + list(HOSTILE)
    runs = [folder / letter for letter in "ab"]
    for turn, run in enumerate(runs):
        with RunWriter(run, command="evaluate") as writer:
            writer.note(
                threshold=THRESHOLD, pixel_threshold=THRESHOLD, detector={"name": HOSTILE[0]}
            )
            for i, name in enumerate(names):
                label = GOOD if name.startswith("good") else DEFECT
                score = 1.0 + 0.1 * i + (1.3 if (i + turn) % 3 else 0.0)
                writer.add(judge(folder / "images" / name, score, label, THRESHOLD))
    write_comparison(runs, folder)
    return folder


PAGES = {"board": "leaderboard.html", "comparison": "comparison.html"}


@pytest.fixture(params=PAGES)
def either(request, visit):
    """One of the pages, opened as asked for."""
    folder = request.getfixturevalue(request.param)
    return lambda **context: visit(folder, PAGES[request.param], **context)


def test_every_table_is_sorted_by_every_head(either):
    page = either()
    tables = page.locator("table.sortable")
    assert tables.count() >= 4
    for table in tables.all():
        name = f"#{table.get_attribute('id')}"
        for head in table.locator("thead th[data-sort]").all():
            place = head.evaluate("e => e.cellIndex + 1")
            for way in ("ascending", "descending"):
                head.get_by_role("button").click()
                assert head.get_attribute("aria-sort") == way
                cells = page.locator(f"{name} tbody tr > :nth-child({place})")
                if head.get_attribute("data-sort") == "n":
                    found = cells.evaluate_all("all => all.map(e => e.dataset.value)")
                    values = [float(value or "-inf") for value in found]
                    assert values == sorted(values, reverse=way == "descending")


def test_the_number_follows_its_method(visit, board):
    page = visit(board, "leaderboard.html")
    before = dict(zip(column(page, "#cost", 2), column(page, "#cost", 1), strict=True))
    page.locator("#cost thead th").nth(3).get_by_role("button").click()
    after = dict(zip(column(page, "#cost", 2), column(page, "#cost", 1), strict=True))
    assert before == after
    assert len(before) == 4 + len(HOSTILE)


def test_commands_are_copied(visit, board):
    page = visit(board, "leaderboard.html", permissions=["clipboard-write"])
    page.locator("details.commands summary").nth(1).press("Enter")
    button = page.locator("details.commands [data-copy]").nth(1)
    button.click()
    page.wait_for_function("document.querySelectorAll('[data-copy]')[1].textContent !== 'Copy'")
    text = page.evaluate("getSelection().toString()")
    assert len(text.strip().splitlines()) == 7  # a command repeats all seeds of a category here
    assert text.startswith("pyimgano benchmark --detector one --category c0")


def test_disagreements_grow(visit, comparison):
    page = visit(comparison, "comparison.html")
    shots = page.locator("figure.shot .panels")
    total = shots.count()
    assert total > 4
    shots.nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator("#zoom img").count() == 3
    first = page.inner_text("#stage .path")
    for _ in range(total):
        page.keyboard.press("ArrowRight")
    assert page.inner_text("#stage .path") == first
    page.keyboard.press("Escape")
    assert not page.locator("#zoom").is_visible()
    assert page.locator(".dots circle.defective").count() > 8


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_themes_switch_and_text_stands_out(either, scheme):
    page = either(color_scheme=scheme)
    before = rgb(page, "body", "backgroundColor")
    for query in ("p", ".soft", "td", "th", "#theme", "thead button"):
        assert page.eval_on_selector(query, CONTRAST) >= 4.5, query
    page.click("#theme")
    assert rgb(page, "body", "backgroundColor") != before
    page.click("#theme")
    assert rgb(page, "body", "backgroundColor") == before


@pytest.mark.parametrize("width", [360, 768])
def test_a_phone_is_wide_enough(either, width):
    page = either(viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_and_on_paper_all_is_there(either):
    page = either(java_script_enabled=False, color_scheme="dark")
    assert page.locator("tbody tr").count() > 10
    assert page.locator("thead button, #theme:visible").count() == 0
    page.emulate_media(media="print")
    assert rgb(page, "body", "backgroundColor") == "rgb(255, 255, 255)"
    assert "What this does not prove" in page.inner_text("main")
    assert page.pdf().startswith(b"%PDF-")

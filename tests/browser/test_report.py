"""The report in a real browser: what moves is right, and what must not move does not."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from browser.judged import HOSTILE, THRESHOLD, Judged

pytestmark = pytest.mark.browser


def level(page) -> float:
    return float(page.get_attribute("#slider", "aria-valuenow"))


def counts(page) -> dict[str, int]:
    found = {}
    for name in ("rejects", "escapes", "ng", "ok"):
        if page.locator(f"#{name}").count():
            found[name] = int(page.inner_text(f"#{name}").split()[0])
    return found


def is_oracle(page) -> bool:
    return page.locator("#state").is_visible()


def column(page, table: str, index: int) -> list[str]:
    cells = page.locator(f"{table} tbody tr:not([hidden]) > :nth-child({index})")
    return [text.strip() for text in cells.all_inner_texts()]


def rgb(page, query: str, what: str) -> str:
    return page.eval_on_selector(query, f"e => getComputedStyle(e).{what}")


def test_keys_go_from_score_to_score_and_count_what_the_csv_says(visit, run):
    page, judged = visit(run), Judged.of(run)
    assert (level(page), counts(page), is_oracle(page)) == (THRESHOLD, judged.at(THRESHOLD), False)
    page.focus("#slider")
    for key, wanted in (
        ("ArrowRight", [score for score in judged.scores if score > THRESHOLD]),
        ("ArrowLeft", judged.scores[-2::-1]),
    ):
        for score in wanted:
            if key == "ArrowRight" and score == wanted[0]:
                assert not is_oracle(page)
            page.keyboard.press(key)
            assert level(page) == score
            assert counts(page) == judged.at(score)
            assert is_oracle(page) is (score != THRESHOLD)
            if key == "ArrowRight" and score == wanted[-1]:
                assert counts(page)["ng"] == 0
    page.keyboard.press("Home")
    assert counts(page) == judged.at(level(page)) == {**judged.at(-1.0)}
    for key in ("PageUp", "PageUp", "ArrowUp", "PageDown", "ArrowDown", "End"):
        before = level(page)
        page.keyboard.press(key)
        assert (level(page) > before) is (key in {"PageUp", "ArrowUp", "End"})
        assert counts(page) == judged.at(level(page))
    assert "0 NG" in page.get_attribute("#slider", "aria-valuetext")
    page.click("#reset")
    assert (level(page), counts(page), is_oracle(page)) == (THRESHOLD, judged.at(THRESHOLD), False)


def test_the_line_is_dragged(visit, run):
    page, judged = visit(run), Judged.of(run)
    page.locator("#plot").scroll_into_view_if_needed()
    levels = []
    for share in (0.1, 0.45, 0.9):
        plot, handle = page.locator("#plot").bounding_box(), page.locator("#slider").bounding_box()
        page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + 10)
        page.mouse.down()
        page.mouse.move(plot["x"] + share * plot["width"], plot["y"] + 40, steps=4)
        page.mouse.up()
        levels.append(level(page))
        assert counts(page) == judged.at(levels[-1])
        line = page.locator("#slider").bounding_box()
        assert line["x"] + line["width"] / 2 == pytest.approx(
            plot["x"] + share * plot["width"], abs=2
        )
    assert levels == sorted(set(levels))
    assert is_oracle(page)
    page.mouse.click(plot["x"] + 0.3 * plot["width"], plot["y"] + 60)
    assert levels[0] < level(page) < levels[1]


def test_a_threshold_is_typed(visit, run):
    page, judged = visit(run), Judged.of(run)
    for text in ("3", "2.9999", "1.75", "-50", "1e9"):
        page.fill("#level", text)
        assert counts(page) == judged.at(float(text))
    page.fill("#level", "")
    assert counts(page)["ng"] == 0


def test_the_dot_follows_on_the_curve(visit, run):
    page, judged = visit(run), Judged.of(run)
    page.fill("#level", "2.3")
    at, goods, defects = judged.at(2.3), 18, len(judged.rows) - 18
    assert float(page.get_attribute("#dot", "cx")) == pytest.approx(200 * at["rejects"] / goods)
    assert float(page.get_attribute("#dot", "cy")) == pytest.approx(200 * at["escapes"] / defects)


def test_a_logarithmic_axis_and_no_labels(visit, write_run):
    run = write_run([(f"{i}.png", 10.0 ** (i / 4), None) for i in range(16)], 30.0)
    page, judged = visit(run), Judged.of(run)
    assert "logarithmic" in page.inner_text("#plot >> xpath=..")
    assert counts(page).keys() == {"ng", "ok"}
    page.focus("#slider")
    for key in ("PageDown", "ArrowLeft", "Home", "PageUp", "ArrowRight", "End"):
        page.keyboard.press(key)
        expected = judged.at(level(page))
        assert counts(page) == {"ng": expected["ng"], "ok": expected["ok"]}


def test_without_a_threshold_every_line_is_tuned(visit, write_run):
    run = write_run([(f"{i}.png", 1.0 + i // 2, i % 2) for i in range(8)], None)
    page, judged = visit(run), Judged.of(run)
    assert is_oracle(page)
    assert counts(page) == judged.at(judged.scores[-1])
    page.focus("#slider")
    page.keyboard.press("ArrowLeft")
    assert counts(page) == judged.at(judged.scores[-2])


def test_one_score_for_all(visit, write_run):
    run = write_run([(f"{i}.png", 3.0, i % 2) for i in range(4)], 3.0)
    page, judged = visit(run), Judged.of(run)
    assert counts(page) == judged.at(3.0)
    page.focus("#slider")
    page.keyboard.press("ArrowLeft")
    assert counts(page)["ng"] == 4


def test_tables_are_sorted_by_their_heads(visit, run):
    page = visit(run)
    heads = page.locator("#all thead th")
    heads.nth(4).get_by_role("button").click()
    numbers = [float(text) for text in column(page, "#all", 5) if text != "—"]
    assert numbers == sorted(numbers)
    assert heads.nth(4).get_attribute("aria-sort") == "ascending"
    heads.nth(4).get_by_role("button").press("Enter")
    numbers = [float(text) for text in column(page, "#all", 5) if text != "—"]
    assert numbers == sorted(numbers, reverse=True)
    assert heads.nth(4).get_attribute("aria-sort") == "descending"
    heads.nth(3).get_by_role("button").click()
    assert column(page, "#all", 4) == sorted(column(page, "#all", 4))
    assert heads.nth(4).get_attribute("aria-sort") is None
    assert page.locator("#kinds button").count() == 5


def test_rows_are_filtered_by_verdict_and_name(visit, run):
    page = visit(run)
    everything = column(page, "#all", 2)
    for name, verdict in (("NG", "NG"), ("ERROR", "ERROR"), ("escape", "OK"), ("reject", "NG")):
        page.click(f"#filters [data-filter={name}]")
        shown = column(page, "#all", 4)
        assert set(shown) == {verdict}
        assert page.inner_text("#shown") == f"{len(shown)} of {len(everything)} shown"
    assert set(column(page, "#all", 3)) == {"good"}
    page.click("#filters [data-filter='']")
    page.fill("#words", "CUT/SAME")
    assert sorted(column(page, "#all", 2)) == [f"cut/same-{i}.png" for i in range(5)]
    page.fill("#words", "")
    assert column(page, "#all", 2) == everything


def test_pictures_grow_and_follow_the_arrows(visit, run):
    page = visit(run)
    shots, zoom = page.locator("figure.shot .panels"), page.locator("#zoom")
    total = shots.count()
    shots.nth(1).click()
    assert zoom.is_visible()
    assert zoom.locator("img").count() == 3
    assert page.inner_text("#where") == f"2 of {total}"
    first = page.inner_text("#stage .path")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#where") == f"3 of {total}"
    assert page.inner_text("#stage .path") != first
    page.keyboard.press("ArrowLeft")
    page.click("#previous")
    page.click("#previous")
    assert page.inner_text("#where") == f"{total} of {total}"
    page.click("#next")
    assert page.inner_text("#where") == f"1 of {total}"
    page.keyboard.press("Escape")
    assert not zoom.is_visible()
    shots.nth(2).focus()
    page.keyboard.press("Enter")
    assert page.inner_text("#where") == f"3 of {total}"
    page.click("#close")
    assert not zoom.is_visible()
    assert page.evaluate("document.activeElement.className") == "panels"
    page.keyboard.press(" ")
    page.mouse.click(3, 3)  # beside the dialog
    assert not zoom.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_follows_the_system_until_it_is_switched(visit, run, scheme):
    page = visit(run, color_scheme=scheme)
    before = rgb(page, "body", "backgroundColor")
    page.click("#theme")
    after = rgb(page, "body", "backgroundColor")
    assert before != after
    assert page.inner_text("#theme").lower() == scheme
    page.click("#theme")
    assert rgb(page, "body", "backgroundColor") == before
    page.click("#theme")
    page.reload()
    assert rgb(page, "body", "backgroundColor") == before
    assert page.evaluate("document.cookie") == ""


CONTRAST = """e => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  let under = e;
  const ground = () => parse(getComputedStyle(under).backgroundColor);
  while (under !== document.documentElement && (ground()[3] ?? 1) < 1) under = under.parentElement;
  const a = light(parse(getComputedStyle(e).color)), b = light(ground());
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(visit, run, scheme):
    page = visit(run, color_scheme=scheme)
    page.fill("#level", "1")
    for query in (
        "p",
        ".soft",
        ".pill",
        ".NG b",
        ".badge.NG",
        ".badge.OK",
        ".badge.ERROR",
        "th",
        "#theme",
        "[aria-pressed=true]",
        "figcaption .path a",
    ):
        assert page.eval_on_selector(query, CONTRAST) >= 4.5, query


def test_without_scripts_all_that_is_essential_is_there(visit, run):
    page, judged = visit(run, java_script_enabled=False), Judged.of(run)
    text = page.inner_text("main")
    at = judged.at(THRESHOLD)
    assert f"{at['ng']}\n" in page.inner_text(".tiles")
    assert counts(page) == at
    for words in (
        "1 of 44 could not be judged",
        "Escapes",
        "ROC, images",
        "PRO, pixels",
        "Worst misses",
        "What this does not prove",
        "it ends early",
    ):
        assert words in text
    assert page.locator("#all tbody tr").count() == len(judged.rows) + 1
    assert page.locator(".calibrated").is_visible()
    for query in ("#slider", "#theme", "#filters", "#level", "#zoom", "#state"):
        assert not page.locator(query).is_visible()
    assert page.locator("thead button").count() == 0


def test_print_is_light_and_whole(visit, run):
    page = visit(run, color_scheme="dark")
    page.emulate_media(media="print")
    assert rgb(page, "body", "backgroundColor") == "rgb(255, 255, 255)"
    for query in ("#slider", "#theme", "#filters"):
        assert not page.locator(query).is_visible()
    assert "What this does not prove" in page.inner_text("main")
    assert page.locator("#all tbody tr").first.is_visible()
    assert not is_oracle(page)
    page.evaluate("document.querySelector('#level').valueAsNumber = 2.5")
    page.evaluate("document.querySelector('#level').dispatchEvent(new Event('input'))")
    assert "oracle 2.5: tuned on" in page.inner_text("#state")  # on paper, too
    assert page.pdf().startswith(b"%PDF-")


@pytest.mark.parametrize("width", [360, 768])
def test_a_phone_is_wide_enough(visit, run, width):
    page = visit(run, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("figure.shot .panels").first.click()
    box = page.locator("#zoom").bounding_box()
    assert box["width"] <= width


def test_hostile_names_are_text_and_lead_to_their_files(visit, run):
    page = visit(run)
    names = column(page, "#all", 2)
    links = page.eval_on_selector_all("#all td.path a", "all => all.map(a => a.href)")
    files = {Path(unquote(urlsplit(link).path)) for link in links}
    assert all(link.startswith("file://") for link in links)
    assert all(file.is_file() for file in files)
    for name in HOSTILE:
        assert name.replace("\u2028", " ") in {shown.replace("\u2028", " ") for shown in names}
        assert run.parent / "images" / name in files
    for shot in page.locator("figure.shot .panels").all():
        shot.hover()
    page.locator("figure.shot .panels").first.click()
    for _ in range(page.locator("figure.shot").count()):
        page.keyboard.press("ArrowRight")

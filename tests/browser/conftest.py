"""A browser, runs to look at, and pages that fail their test if they ask or complain."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from browser.judged import HOSTILE, THRESHOLD, judge
from pyimgano.inspection import Inspection, Verdict
from pyimgano.records import DEFECT, GOOD, Sample
from pyimgano.runs.artifacts import RunWriter
from pyimgano.runs.report import write_report

Write = Callable[..., Path]


@pytest.fixture(scope="session")
def write_run(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Write a run of (name, score, label) and its report."""

    def write(
        items: list[tuple[str, float, int | None]],
        threshold: float | None = THRESHOLD,
        **notes: Any,
    ) -> Path:
        folder = tmp_path_factory.mktemp("browser")
        with RunWriter(folder / "run", command="evaluate") as run:
            run.note(threshold=threshold, pixel_threshold=threshold, **notes)
            for name, score, label in items:
                run.add(judge(folder / "images" / name, score, label, threshold))
            broken = Sample(folder / "images" / "broken.png", defect="good", label=GOOD)
            run.add(Inspection(source=broken, verdict=Verdict.ERROR, error="it ends early"))
        write_report(folder / "run")
        return folder / "run"

    return write


@pytest.fixture(scope="session")
def run(write_run: Write) -> Path:
    """A labelled run with scores that occur more than once, and hostile names."""
    goods = [(f"good/{i}.png", 0.5 + 0.2 * (i // 2), GOOD) for i in range(18)]
    cuts = [(f"cut/{i}.png", 1.5 + 0.25 * i, DEFECT) for i in range(14)]
    copies = [(f"cut/same-{i}.png", 3.0, DEFECT) for i in range(5)]
    hostile = [(name, 1.9 + 0.1 * i, DEFECT) for i, name in enumerate(HOSTILE)]
    curve = {"x": [0.0, 0.1, 0.3], "y": [0.0, 0.5, 1.0]}
    return write_run([*goods, *cuts, *copies, *hostile], curves={"pro": curve})


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Debian's browser, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("PYIMGANO_CHROMIUM") or shutil.which("chromium")
    assert path, "these tests need a browser: apt-get install chromium, or set PYIMGANO_CHROMIUM"
    arguments = ["--disable-dev-shm-usage", *([] if os.geteuid() else ["--no-sandbox"])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Open a page of a run; nothing may be asked for, said or thrown until the test ends."""
    seen: list[str] = []
    contexts = []

    def go(run: Path, name: str = "report.html", **context: Any) -> Any:
        contexts.append(
            chromium.new_context(**{"viewport": {"width": 1200, "height": 900}} | context)
        )
        page = contexts[-1].new_page()
        address = (run / name).as_uri()

        def request(asked: Any) -> None:
            if asked.url != address and not asked.url.startswith("data:"):
                seen.append(f"request {asked.url}")

        page.on("request", request)
        page.on("console", lambda message: seen.append(f"console {message.text}"))
        page.on("pageerror", lambda error: seen.append(f"error {error}"))
        page.on(
            "dialog", lambda dialog: (seen.append(f"dialog {dialog.message}"), dialog.dismiss())
        )
        page.goto(address)
        return page

    yield go
    for context in contexts:
        context.close()
    assert seen == []

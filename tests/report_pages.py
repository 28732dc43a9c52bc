"""Small runs, and their report as a browser would read it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from pyimgano.inspection import Inspection, Verdict
from pyimgano.records import Region, Sample
from pyimgano.runs.artifacts import RunWriter
from pyimgano.runs.report import write_report

SHAPE = (48, 64)
IMAGE = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
VOID = {"meta", "img", "link", "input"}


class Page(HTMLParser):
    """What a browser would find: tags, attributes, visible text by section heading."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.sections: dict[str, str] = {"": ""}
        self.code: list[str] = []
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
        if self._open and self._open[-1] in {"style", "script"}:
            self.code.append(data)
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


def ids(page: Page) -> set[str]:
    return {value for _, name, value in page.attributes if name == "id"}


def page_of(out: Path, items: list[Inspection], **notes: Any) -> Page:
    with RunWriter(out, command="predict") as run:
        run.note(**notes)
        for item in items:
            run.add(item, IMAGE)
    path = write_report(out)
    assert path == out / "report.html"
    return Page(path.read_text("utf-8"))

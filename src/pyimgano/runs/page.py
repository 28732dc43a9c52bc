"""The frame of every page: one HTML file that holds all it needs and runs its own script only."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import TYPE_CHECKING

from pyimgano.atomic import atomic_write
from pyimgano.runs.report_tables import flat, number, percent

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_page"]


def write_page(path: Path, template: str, **view: object) -> None:
    """Write a page from the template of this name, which extends ``page.html.j2``.

    Style and script stand in the page; it asks no server, and the hash in its policy keeps any
    other script from running. It is written while it is made, and never in memory as a whole.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, percent=percent, flat=flat)
    script = _source("report.js")
    style, dark = _source("report.css").split("/* dark */\n")
    pieces = environment.get_template(template).generate(
        style=style,
        dark=dark,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        **view,
    )
    with atomic_write(path) as file:
        for piece in pieces:
            file.write(piece.encode("utf-8", "backslashreplace"))


def _source(name: str) -> str:
    return resources.files("pyimgano.runs").joinpath(name).read_text("utf-8")

"""``pyimgano bundle-weights``: weight files in one archive, for where no network is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from pyimgano.cli._parameters import Json  # noqa: TC001 - typer reads the annotations
from pyimgano.cli._show import Show, count
from pyimgano.cli.fetch import Names  # noqa: TC001 - typer reads the annotations
from pyimgano.errors import ParameterError

__all__ = ["bundle_weights"]


def bundle_weights(
    ctx: typer.Context,
    names: Names = None,
    *,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="ZIP", help="The archive to write.")],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="DIR", help="Where they are; by default where fetch puts them."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Put fetched weights into one archive, to carry them in.

    With checksums, licences and a manifest. There it is unpacked by: pyimgano fetch NAME --from ZIP
    """
    from pyimgano.weights import bundle

    if not names:
        raise ParameterError("give the names of the weights; to see them: pyimgano fetch --list")
    show = Show(quiet=ctx.obj.quiet, as_json=as_json)
    with show.progress(f"bundling {count(len(names), 'weight file')}"):
        found = bundle(names, out, folder)
    show.result({"out": out, "weights": [asdict(one) for one in found]})
    show.answer(str(out))
    for one in found:
        show.fact("weights", f"{one.name}, SHA-256 {one.sha256}")
    show.fact("written", f"{out}, {out.stat().st_size / 1e6:.0f} MB")
    given = " ".join(one.name for one in found)
    show.line(f"\nthere: pyimgano fetch {given} --from {out.name}")

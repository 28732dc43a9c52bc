"""``pyimgano benchmark``: detectors by categories by shots by seeds, resumable."""

from __future__ import annotations

import shlex
from operator import attrgetter
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyimgano.cli._app import ExitCode
from pyimgano.cli._parameters import (
    DataOptions,
    DatasetName,
    FalseReject,
    Json,
    Overlays,
    Root,
    Set,
    _names,
    make_detector,
    parse_data_options,
    parse_share,
    registries,
)
from pyimgano.cli._show import Show, count, new_table
from pyimgano.cli._views import Alignment, TileSize, seen_by
from pyimgano.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyimgano.detector import Detector

__all__ = ["benchmark"]

DEFAULT = "vision_default"
GB = 10**9
METHOD = ("detector", "extractor", "settings", "protocol")
DRAWN = ("shots", "seed")
FIGURES = {"auroc": "AUROC", "aupro_0.3": "AUPRO 0.3"}
WIDEST = 36  # of the names of methods that stand in the table


def benchmark(
    ctx: typer.Context,
    root: Root,
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="DIR", help="New folder, or that of a benchmark."),
    ],
    *,
    dataset: DatasetName = "mvtec",
    category: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Category; may be repeated. Default: all."),
    ] = None,
    data_options: DataOptions = None,
    detector: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="May be repeated; all: every one that runs here. Default: vision_default.",
            autocompletion=_names("detectors", "all"),
        ),
    ] = None,
    extractor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="May be repeated; all: every one that runs here. Default: auto.",
            autocompletion=_names("extractors", "auto", "all"),
        ),
    ] = None,
    shots: Annotated[
        str,
        typer.Option(
            metavar="K,K,...", help="Good images to learn from, such as 1,4,full; full takes all."
        ),
    ] = "full",
    contaminated: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE,...",
            help="Defective images mixed into training, such as 0%,5%,10% of the good ones.",
        ),
    ] = None,
    multi_class: Annotated[
        bool, typer.Option("--multi-class", help="One model for all the categories.")
    ] = False,
    seeds: Annotated[
        str,
        typer.Option(
            metavar="N,N,...", help="Of the detectors, and of the choice of shots and defects."
        ),
    ] = "0",
    false_reject: FalseReject = "5%",
    align: Alignment = None,
    tile: TileSize = None,
    settings: Set = None,
    map_intervals: Annotated[
        bool,
        typer.Option(
            "--map-intervals", help="Interval of AUPRO too: seconds more a job, on large images."
        ),
    ] = False,
    overlays: Annotated[
        Overlays, typer.Option(help="Which pictures to keep of each job; any bring its report.")
    ] = Overlays.NONE,
    workers: Annotated[
        int, typer.Option(min=1, metavar="N", help="Jobs side by side; they share the threads.")
    ] = 1,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep features here. Default: in --out, until all jobs have ended.",
        ),
    ] = None,
    cache_limit: Annotated[
        float, typer.Option(min=0, metavar="GB", help="Size of it; 0 keeps no features.")
    ] = 8.0,
    as_json: Json = False,
) -> None:
    """Compare detectors on the categories of a data set.

    Measures each combination in a job of its own and writes leaderboard.csv, .md and .html into
    the folder --out. A job that fails becomes a row with its error. Stopped or killed, the same
    command goes on from there.
    """
    show = Show(quiet=ctx.obj.quiet, as_json=as_json)
    numbers = _counts("--shots", shots, least=1, word="full"), _counts("--seeds", seeds, least=0)
    shares = _shares(contaminated or "0")
    from pyimgano.runs.benchmark import benchmark as run
    from pyimgano.runs.executors import ProcessExecutor, SerialExecutor
    from pyimgano.runs.jobs import Work
    from pyimgano.runs.plan import find_parts, plan, union

    executor = ProcessExecutor(workers, attrgetter("group")) if workers > 1 else SerialExecutor()
    seen = seen_by(align, tile=tile)
    detectors = _detectors(detector, extractor, false_reject, settings or (), seen)
    wanted = [] if category is None or "all" in category else category
    options = parse_data_options(dataset, data_options or ())
    parts = find_parts(dataset, root, wanted, options)
    jobs = plan(
        detectors,
        [union(parts)] if multi_class else parts,
        shots=numbers[0],
        shares=shares,
        seeds=[seed or 0 for seed in numbers[1]],
        map_intervals=map_intervals,
    )
    typed = {
        "--dataset": dataset,
        "--root": root,
        "--category": category,
        "--data-option": data_options,
        "--detector": detector,
        "--extractor": extractor,
        "--shots": shots,
        "--contaminated": contaminated,
        "--seeds": seeds,
        "--false-reject": false_reject,
        "--align": align,
        "--tile": tile,
        "--set": settings,
        "--out": out,
    }
    rows = run(
        jobs,
        Work(out, cache or out / "cache", round(cache_limit * GB), overlays),
        executor=executor,
        command=_line(typed) + " --multi-class" * multi_class + " --map-intervals" * map_intervals,
        progress=_teller(sum(len(job.categories) or 1 for job in jobs), quiet=show.quiet),
    )
    failed = [row for row in rows if row["status"] == "failed"]
    _print(show, rows)
    show.line()
    show.facts("failed", [f"{_name(row)}: {row['error']}" for row in failed])
    show.fact("leaderboard", str(out / "leaderboard.html"))
    show.answer(f"{count(len(rows), 'result')}, {len(failed)} failed")
    show.result({"leaderboard": out / "leaderboard.html", "rows": rows})
    raise typer.Exit(ExitCode.SOME_ERROR if failed else ExitCode.DONE)


def _counts(option: str, text: str, *, least: int, word: str = "") -> list[int | None]:
    """Read whole numbers with commas between them; ``word`` stands for None."""
    found: list[int | None] = []
    for item in text.split(","):
        number = item.strip()
        if word and number == word:
            found.append(None)
        elif number.isdecimal() and number.isascii() and int(number) >= least:
            found.append(int(number))
        else:
            also = f", or {word}" if word else ""
            raise ParameterError(
                f"{option} takes whole numbers from {least} on, with commas between them{also}; "
                f"got {text!r}"
            )
    return list(dict.fromkeys(found))


def _shares(text: str) -> list[float]:
    items = [item.strip() for item in text.split(",")]
    found = [0.0 if item in {"0", "0%"} else parse_share(item, "--contaminated") for item in items]
    return list(dict.fromkeys(found))


def _detectors(
    names: list[str] | None,
    extractors: list[str] | None,
    false_reject: str,
    settings: Sequence[str],
    view: Mapping[str, Any],
) -> list[Detector]:
    """Make every combination; a setting goes to the detectors that have such a parameter."""
    kinds = registries()["detectors"]
    chosen = _chosen("detectors", names or [DEFAULT])
    fields = {name: kinds[name].parameter_types() for name in chosen}
    made = []
    for name in chosen:
        fitting = [
            setting
            for setting in settings
            if (key := setting.partition("=")[0].strip()) in fields[name]
            or not any(key in other for other in fields.values())  # which is refused by name
        ]
        uses = _chosen("extractors", extractors or ["auto"])
        made += [
            make_detector(name, extractor, false_reject, fitting, **view)
            for extractor in (uses if "extractor" in fields[name] else ["auto"])
        ]
    return made


def _chosen(kind: str, names: list[str]) -> list[str]:
    if "all" not in names:
        return list(dict.fromkeys(names))
    entries = [one for one in registries()[kind].entries() if not one.metadata.missing]
    return [one.name for one in entries if "file" not in dict(one.metadata.details)]


def _line(typed: Mapping[str, object]) -> str:
    """Return the command line that was typed, with its defaults."""
    words = ["pyimgano", "benchmark"]
    for option, given in typed.items():
        for value in given if isinstance(given, list) else [given]:
            words += [] if value is None else [option, str(value)]
    return shlex.join(words)


def _teller(total: int, *, quiet: bool) -> Callable[[Mapping[str, Any]], None]:
    done = 0

    def tell(row: Mapping[str, Any]) -> None:
        nonlocal done
        done += 1
        if not quiet:
            typer.echo(f"result {done} of {total}: {_name(row)}: {row['status']}", err=True)

    return tell


def _name(row: Mapping[str, Any]) -> str:
    shots = "all goods" if row["shots"] is None else count(row["shots"], "shot")
    names = (row["category"], row["detector"], row["extractor"], _unusual(row))
    return " ".join(filter(None, (*names, shots, f"seed {row['seed']}")))


def _unusual(row: Mapping[str, Any]) -> str:
    """Return the protocol where the shots do not tell it."""
    return "" if row["protocol"] in {"one-class", "few-shot"} else row["protocol"]


def _print(show: Show, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print what all results share, once, and a table of the rest that fits a narrow terminal."""
    known = [
        {
            **{name: row[name] or "" for name in (*METHOD, "category")},
            "protocol": _unusual(row),
            "shots": str(row["shots"] or "all"),
            "seed": str(row["seed"]),
        }
        for row in rows
    ]
    differ = {name for name in (*METHOD, *DRAWN) if len({row[name] for row in known}) > 1}
    shared = [known[0][name] for name in METHOD if name not in differ]
    shared += [f"{name} {known[0][name]}" for name in DRAWN if name not in differ]
    show.fact("all results", ", ".join(filter(None, shared)))
    for cells in known:
        parts = (cells[name] for name in METHOD if name in differ)
        cells["method"] = ", ".join(filter(None, parts))
    methods = list(dict.fromkeys(row["method"] for row in known))
    if max(map(len, methods)) > WIDEST:  # numbers fit the table, with a legend
        show.facts("methods", [f"{i}: {name}" for i, name in enumerate(methods, 1)], most=99)
        for cells in known:
            cells["method"] = f"{methods.index(cells['method']) + 1}"
    own = [*["method"] * (len(methods) > 1), "category", *(n for n in DRAWN if n in differ)]
    table = new_table(*own, *FIGURES.values(), numbers=(*DRAWN, *FIGURES.values()))
    for row, cells in zip(rows, known, strict=True):
        figures = [row[name] for name in FIGURES]
        told = ["-" if one is None else f"{one:.4f}" for one in figures]
        table.add_row(*(cells[name] for name in own), *told)
    show.table(table)

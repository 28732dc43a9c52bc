"""Faults on purpose: damaged images, damaged model files, and processes killed while they write.

    python benchmarks/faults/run.py [--images 2000] [--kills 100] [--seed 0] [--write]

Damaged images must become ERROR records, or be judged by exactly the pixels that were meant. A
damaged model file must be refused by name, or score as before to the last bit. A process that is
killed must leave the old result or the new one. The script ends with 1 if anything was lost or
passed wrongly. With ``--write`` the counts stand in ``results.json`` and ``results.md``. The damage
is the same for the same seed; the moments of the kills also depend on how fast the machine is.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

import pyimgano
from pyimgano.errors import ArchiveError, ImageError
from pyimgano.estimator import versions
from pyimgano.images import read_image
from pyimgano.inspection import Verdict
from pyimgano.synthesis import write_demo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

HERE = Path(__file__).parent
FORMATS = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif", "BMP": ".bmp"}
UNCHECKED = ("JPEG", "TIFF", "BMP")  # nothing in these files says that a byte was overwritten
DAMAGE = ("truncated", "flipped", "overwritten", "zeroed", "duplicated", "deleted", "text")
ALWAYS_SEEN = ("truncated", "text", "swapped")
N_MODELS = 500
SMALL = ("--extractor", "handcrafted", "--set", "size=96")


@dataclass
class Tally:
    """Counts of outcomes, and what must not happen, in words."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def fault(self, text: str) -> None:
        self.counts["fault"] += 1
        self.faults.append(text)


@dataclass(frozen=True)
class Whole:
    """An undamaged file: its bytes, what they show, and how that scores."""

    kind: str
    data: bytes
    pixels: NDArray[Any]
    score: float


def damaged(rng: np.random.Generator, data: bytes, how: str) -> bytes:
    """Return a damaged copy; one in three is damaged in its first or last 200 bytes."""
    size = len(data)
    start = int(rng.integers(size))
    if rng.random() < 1 / 3:
        start = int(rng.integers(min(200, size)))
        start = size - 1 - start if rng.random() < 1 / 2 else start
    stop = min(size, start + int(2 ** rng.uniform(0, 10)))
    head, run, tail = data[:start], data[start:stop], data[stop:]
    if how == "truncated":
        return head
    if how == "flipped":
        return head + bytes([data[start] ^ 1 << int(rng.integers(8))]) + data[start + 1 :]
    if how == "text":
        return b"404 not found\n" * int(rng.integers(0, 4))  # none at all: an empty file
    middle = {
        "overwritten": rng.bytes(len(run)),
        "zeroed": bytes(len(run)),
        "duplicated": run * 2,
        "deleted": b"",
    }
    return head + middle[how] + tail


# --- images -------------------------------------------------------------------------------------


def whole_files(detector: Any, paths: Sequence[Path], folder: Path) -> list[Whole]:
    folder.mkdir()
    files = []
    for path in paths:
        for kind, suffix in FORMATS.items():
            buffer = io.BytesIO()
            Image.fromarray(read_image(path)).save(buffer, kind)
            target = folder / f"{path.stem}{suffix}"
            target.write_bytes(buffer.getvalue())
            score = float(detector.decision_function([target])[0])
            files.append(Whole(kind, buffer.getvalue(), read_image(target), score))
    return files


def damage_images(
    detector: Any, files: list[Whole], folder: Path, total: int, rng: np.random.Generator
) -> tuple[dict[str, Tally], Counter[str]]:
    """Judge ``total`` damaged files; return the outcomes by format, and the residual risk."""
    folder.mkdir()
    tallies = {kind: Tally() for kind in FORMATS}
    residual: Counter[str] = Counter()
    for first in range(0, total, 200):
        cases: list[tuple[Path, Whole, Whole, str]] = []
        for i in range(first, min(total, first + 200)):
            file = files[i % len(files)]
            how = (*DAMAGE, "swapped")[i // len(files) % (len(DAMAGE) + 1)]
            shown = files[int(rng.integers(len(files)))] if how == "swapped" else file
            data = shown.data if how == "swapped" else damaged(rng, file.data, how)
            path = folder / f"{i}{FORMATS[file.kind]}"
            path.write_bytes(data)
            cases.append((path, file, shown, how))
        try:
            found = list(detector.inspect([path for path, *_ in cases]))
        except Exception as error:  # noqa: BLE001 - an exception of any kind is what is looked for
            tallies[cases[0][1].kind].fault(f"inspect raised {error!r}")
            continue
        if [one.path for one in found] != [str(path) for path, *_ in cases]:
            tallies[cases[0][1].kind].fault("records are missing or in another order")
            continue
        for one, (path, file, shown, how) in zip(found, cases, strict=True):
            outcome = outcome_of(one, path, file, shown, how)
            if outcome in {"error", "identical", "different"}:
                tallies[file.kind].counts[outcome] += 1
            else:
                tallies[file.kind].fault(f"{path.name} ({how}): {outcome}")
            if outcome == "different":
                residual[f"{file.kind} {how}"] += 1
            path.unlink()
    return tallies, residual


def outcome_of(one: Any, path: Path, file: Whole, shown: Whole, how: str) -> str:
    """Return error, identical or different; anything else is a fault in words."""
    if one.verdict is Verdict.ERROR:
        sound = math.isnan(one.score) and one.label == -1 and one.error and path.name in one.path
        return "error" if sound else f"an ERROR record with {one.score}, {one.label}, {one.error}"
    try:
        same = np.array_equal(read_image(path), shown.pixels)
    except ImageError as error:
        return f"judged {one.verdict}, but it cannot be read: {error}"
    if same:
        right = math.isclose(one.score, shown.score, rel_tol=1e-5)
        return "identical" if right else f"the same pixels score {one.score}, not {shown.score}"
    if file.kind in UNCHECKED and how not in ALWAYS_SEEN:
        return "different"
    return f"judged {one.verdict} on other pixels than those of the file"


# --- model files --------------------------------------------------------------------------------


def damage_models(
    data: bytes, probes: Sequence[Path], path: Path, rng: np.random.Generator
) -> Tally:
    tally = Tally()
    path.write_bytes(data)
    expected = pyimgano.load(path).decision_function(probes)
    for i in range(N_MODELS):
        how = DAMAGE[i % len(DAMAGE)]
        path.write_bytes(damaged(rng, data, how))
        try:
            scores = pyimgano.load(path).decision_function(probes)
        except ArchiveError as error:
            if path.name in str(error):
                tally.counts["refused"] += 1
            else:
                tally.fault(f"{i} ({how}): the message does not name the file: {error}")
        except Exception as error:  # noqa: BLE001 - an exception of any other kind is a fault
            tally.fault(f"{i} ({how}): {error!r}")
        else:
            if np.array_equal(scores, expected):
                tally.counts["identical"] += 1
            else:
                tally.fault(f"{i} ({how}): loaded, but it scores differently")
    return tally


# --- kills --------------------------------------------------------------------------------------


def command_line(arguments: Sequence[str]) -> None:
    """Run ``pyimgano`` silently: the body of the processes that are killed."""
    from pyimgano.cli import main

    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    main([str(argument) for argument in arguments])


class Victim:
    """A command that is run to its end, or killed at a random moment of its life.

    Every second kill is aimed: it waits until the command begins to put its result in place, and
    strikes at a random moment of what is left, the sooner the likelier: that is a small part of a
    life, and putting files in place is the first part of it.
    """

    def __init__(
        self, arguments: Sequence[object], mark: Callable[[], object], rng: np.random.Generator
    ) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.arguments = [str(argument) for argument in arguments]
        self.mark = mark
        self.rng = rng
        self.life = self.writing = 0.0

    def start(self) -> Any:
        child = self.context.Process(target=command_line, args=(self.arguments,))
        child.start()
        return child

    def run(self) -> None:
        """Run it unharmed, and learn how long it lives and writes."""
        before, start = self.mark(), time.perf_counter()
        child = self.start()
        self._await(child, before)
        written = time.perf_counter()
        child.join()
        self.writing, self.life = time.perf_counter() - written, time.perf_counter() - start
        if child.exitcode != 0:
            raise SystemExit(f"pyimgano {self.arguments[0]} ended with {child.exitcode} unharmed")

    def kill(self, *, aimed: bool) -> bool:
        """Kill it with SIGKILL; return whether that struck before its end."""
        before = self.mark()
        child = self.start()
        if aimed:
            self._await(child, before)
        time.sleep(
            self.writing * self.rng.random() ** 4 if aimed else self.life * self.rng.random()
        )
        child.kill()
        child.join()
        return bool(child.exitcode == -signal.SIGKILL)

    def _await(self, child: Any, before: object) -> None:
        while self.mark() == before and child.exitcode is None:
            time.sleep(1e-4)


def kill_fits(
    work: Path, goods: Sequence[Path], probes: Sequence[Path], kills: int, rng: np.random.Generator
) -> Tally:
    """Kill ``fit`` over an existing model; the old or the new one must load."""
    tally = Tally()
    folder = work / "models"
    folder.mkdir()
    path = folder / "model.pyimg"

    def mark() -> set[str]:
        return {path.name for path in folder.glob(".*.tmp")}

    known: dict[str, tuple[bytes, NDArray[Any]]] = {}
    for name, good in zip(("old", "new"), goods, strict=True):
        victim = Victim(("fit", good, "-o", path, *SMALL), mark, rng)
        victim.run()
        known[name] = path.read_bytes(), pyimgano.load(path).decision_function(probes)
    for i in range(kills):
        path.write_bytes(known["old"][0])
        struck = victim.kill(aimed=i % 2 == 1)
        tally.counts["killed" if struck else "ended first"] += 1
        try:
            scores = pyimgano.load(path).decision_function(probes)
        except Exception as error:  # noqa: BLE001 - whatever it is, the model is lost
            tally.fault(f"fit {i}: the model does not load: {error!r}")
            continue
        found = [name for name, (_, right) in known.items() if np.array_equal(scores, right)]
        if found and (struck or found == ["new"]):
            tally.counts[found[0]] += 1
        else:
            tally.fault(f"fit {i}: the model is neither the old nor the new one")
    tally.counts["temporary files left"] = len(mark())
    return tally


def kill_predicts(
    work: Path, model: Path, images: Sequence[Path], kills: int, rng: np.random.Generator
) -> Tally:
    """Kill ``predict`` over a complete run; its results or the new ones must stand."""
    tally = Tally()
    out = work / "run"

    def mark() -> int:
        facts = out / "run.json"
        return facts.stat().st_mtime_ns if facts.exists() else 0

    def tables() -> dict[str, bytes]:
        return {name: (out / f"results.{name}").read_bytes() for name in ("csv", "jsonl")}

    old, new = (Victim(("predict", model, path, "-o", out), mark, rng) for path in images)
    old.run()
    known = {"old": tables()}
    new.run()
    known["new"] = tables()
    old.run()
    for i in range(kills):
        struck = new.kill(aimed=i % 2 == 1)
        tally.counts["killed" if struck else "ended first"] += 1
        try:
            found, status = tables(), json.loads((out / "run.json").read_bytes())["status"]
        except (OSError, ValueError, LookupError) as error:
            tally.fault(f"predict {i}: {error!r}")
        else:
            judge_run(tally, known, found, status, f"predict {i}")
            if not struck and (found, status) != (known["new"], "complete"):
                tally.fault(f"predict {i}: ended unharmed, but its results do not stand")
            whole = status == "complete"
            tally.counts["complete without report.html"] += (
                whole and not (out / "report.html").exists()
            )
        old.run()
        if tables() != known["old"] or not (out / "report.html").exists():
            tally.fault(f"predict {i}: the next run did not write its results")
    tally.counts["temporary files left"] = len(list(out.glob(".*")))
    return tally


def judge_run(
    tally: Tally,
    known: dict[str, dict[str, bytes]],
    found: dict[str, bytes],
    status: str,
    name: str,
) -> None:
    table = [which for which, right in known.items() if right["csv"] == found["csv"]]
    if not table:
        tally.fault(f"{name}: results.csv is neither the old nor the new one")
    elif found not in known.values() and status == "complete":
        tally.fault(f"{name}: run.json says complete, but its two tables differ")
    else:
        tally.counts[table[0]] += 1
        tally.counts["run.json says running"] += status == "running"


# --- the whole ----------------------------------------------------------------------------------


def measure(work: Path, images: int, kills: int, seed: int) -> dict[str, Any]:
    parts = [
        write_demo(work / name, n_train=20, n_good=3, n_defect=3, size=(96, 96), seed=seed + i)
        / "flange"
        for i, name in enumerate(("a", "b"))
    ]
    goods = [part / "train" / "good" for part in parts]
    tests = [part / "test" for part in parts]
    probes = sorted(tests[0].rglob("*.png"))
    model = work / "model.pyimg"
    rng = np.random.default_rng(seed)
    detector = pyimgano.create_detector("vision_patchcore", extractor="handcrafted", size=96).fit(
        sorted(goods[0].iterdir())
    )
    detector.save(model)
    files = whole_files(detector, probes, work / "whole")
    by_format, residual = damage_images(detector, files, work / "damaged", images, rng)
    models = damage_models(model.read_bytes(), probes, work / "damaged.pyimg", rng)
    fits = kill_fits(work, goods, probes, kills, rng)
    predicts = kill_predicts(work, model, tests, kills, rng)
    tallies = {**by_format, "models": models, "fit": fits, "predict": predicts}
    return {
        "seed": seed,
        "images": images,
        "models": N_MODELS,
        "kills_of_each_command": kills,
        "versions": {**versions(), "Pillow": Image.__version__},
        "outcomes": {name: dict(sorted(tally.counts.items())) for name, tally in tallies.items()},
        "residual_risk": dict(sorted(residual.items())),
        "faults": [f"{name}: {text}" for name, tally in tallies.items() for text in tally.faults],
    }


def table(title: str, head: Sequence[str], counts: dict[str, dict[str, int]]) -> str:
    lines = [[title, *head], ["---"] * (len(head) + 1)]
    lines += [[name, *(str(found.get(each, 0)) for each in head)] for name, found in counts.items()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


REPORT = """# Faults on purpose

{images} damaged images, {models} damaged model files and {kills} kills of each command; seed
{seed}. **{faults} faults.** Written by `python benchmarks/faults/run.py --write`.

{image_rows}

*error*: an ERROR record with a reason. *identical*: judged by exactly the pixels of the whole file
(the damage was where no pixels are, or another whole file stood under this name). *different*:
decoded, but to other pixels: the residual risk of formats without checksums, whose overwritten
bytes nothing can tell from a picture. In a PNG, and for a file that was cut off, that is a fault:
where a damaged file must never pass, keep the images as PNG.

{residual_rows}

{model_rows}

*refused*: an `ArchiveError` that names the file. *identical*: bit-identical scores.

{kill_rows}

*old*, *new*: what stood there afterwards, complete: the model that was to be replaced or its
successor; the results of the earlier run or of the killed one. Every second kill was aimed at the
moment in which the result is put in place. {running} runs were killed while their files changed
places, and `run.json` says so; {bare} were complete but for `report.html`. A next run into the same
directory that does not write its results is a fault. Killed processes left {fit_files} (fit) and
{predict_files} (predict) hidden temporary files.
"""


def summary(found: dict[str, Any]) -> str:
    outcomes = found["outcomes"]
    residual = {name: {"files": number} for name, number in found["residual_risk"].items()}
    judged = ("error", "identical", "different", "fault")
    images = {name: outcomes[name] for name in FORMATS}
    model = {"model files": outcomes["models"]}
    killed = {name: Counter(outcomes[name]) for name in ("fit", "predict")}
    text = REPORT.format(
        images=found["images"],
        models=found["models"],
        kills=found["kills_of_each_command"],
        seed=found["seed"],
        faults=len(found["faults"]),
        image_rows=table("damaged images", judged, images),
        residual_rows=table("residual risk", ("files",), residual),
        model_rows=table("damaged", ("refused", "identical", "fault"), model),
        kill_rows=table("SIGKILL of", ("killed", "ended first", "old", "new", "fault"), killed),
        running=killed["predict"]["run.json says running"],
        bare=killed["predict"]["complete without report.html"],
        fit_files=killed["fit"]["temporary files left"],
        predict_files=killed["predict"]["temporary files left"],
    )
    return text + "".join(f"- fault: {fault}\n" for fault in found["faults"][:20])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000, metavar="N")
    parser.add_argument("--kills", type=int, default=100, metavar="K", help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="keep results.json and results.md")
    given = parser.parse_args()
    multiprocessing.set_forkserver_preload(
        ["__main__", "pyimgano.cli", "pyimgano.models.patchcore", "pyimgano.runs.evaluate"]
    )
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given.images, given.kills, given.seed)
        text = json.dumps(found, indent=1).replace(folder + os.sep, "")
    report = summary(json.loads(text))
    print(report)
    if given.write:
        (HERE / "results.json").write_text(text + "\n", encoding="utf-8")
        (HERE / "results.md").write_text(report, encoding="utf-8")
    return 1 if found["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())

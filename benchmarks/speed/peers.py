"""The pixel metrics of the peers beside ours: seconds, peak memory and values on the same arrays.

    python benchmarks/speed/peers.py --python anomalib=/path/to/venv/bin/python

Every contender runs in a process of its own, with one thread, by the interpreter that ``--python``
names for it (default: this one), since the peers do not agree on their dependencies; who is not
installed there is said so and skipped. The processes take turns. Seconds are the processor's, which
a busy machine hardly changes, and start after the import, the loading and a small warm-up; peak
memory is the resident set's highest beyond what it was then (Linux). A contender computes all the
figures that it offers, and is compared with ours computing just these.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from memory import peak_mb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Figures = dict[str, float]

RESULTS = Path(__file__).parent / "results"
PIXELS = ("pixel_auroc", "pixel_ap")
REGIONS = ("aupro_0.3",)
ALL = (*PIXELS, *REGIONS)
OURS = "pyimgano"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
SETS = {"83 x 256 x 256": ((20, 63, 256), 3), "100 x 1024 x 1024": ((24, 76, 1024), 1)}
NO_MODULE = 3
TITLES = {"pixel_auroc": "AUROC", "pixel_ap": "AP", "aupro_0.3": "AUPRO 0.3"}
HEAD = ("", "figures", "seconds", "times ours", "peak MB", *TITLES.values())
NOTES = """thread, each in its own process; seconds of the processor, peak MB beyond the arrays,
in brackets the difference from ours. adeval counts in 1,000 bins: approximate, and of least memory.
The others take every score as a threshold; anomalib in single precision, for AUROC and AP after a
sigmoid. "Times ours" is against ours with the same figures."""


def by_pyimgano(figures: Sequence[str]) -> Callable[..., Figures]:
    import cv2

    from pyimgano.metrics.ranks import rank_maps
    from pyimgano.metrics.scorecard import METRICS, Evidence

    cv2.setNumThreads(1)

    def measured(masks: np.ndarray, maps: np.ndarray) -> Figures:
        evidence = Evidence(rank_maps(masks, maps), masks, maps, (0.3,))
        found: Figures = {}
        for figure in figures:
            found.update(METRICS[figure.partition("_0.")[0]](evidence))
        return {figure: found[figure] for figure in figures}

    return measured


def by_scikit_learn(_: Sequence[str]) -> Callable[..., Figures]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    def measured(masks: np.ndarray, maps: np.ndarray) -> Figures:
        labels, scores = masks.ravel(), maps.ravel()
        values = roc_auc_score(labels, scores), average_precision_score(labels, scores)
        return dict(zip(PIXELS, map(float, values), strict=True))

    return measured


def by_adeval(_: Sequence[str]) -> Callable[..., Figures]:
    import cv2
    from adeval import auroc_aupr_aupro

    cv2.setNumThreads(1)
    return lambda masks, maps: dict(zip(ALL, auroc_aupr_aupro(maps, masks), strict=True))


def by_pyaupro(_: Sequence[str]) -> Callable[..., Figures]:
    from pyaupro import PerRegionOverlap, auc_compute

    import torch

    torch.set_num_threads(1)

    def measured(masks: np.ndarray, maps: np.ndarray) -> Figures:
        metric = PerRegionOverlap(thresholds=None)
        metric.update(torch.from_numpy(maps), torch.from_numpy(masks))
        return {"aupro_0.3": float(auc_compute(*metric.compute(), limit=0.3))}

    return measured


def by_anomalib(_: Sequence[str]) -> Callable[..., Figures]:
    from anomalib.metrics.aupr import _AUPR
    from anomalib.metrics.aupro import _AUPRO
    from anomalib.metrics.auroc import _AUROC

    import torch

    torch.set_num_threads(1)

    def measured(masks: np.ndarray, maps: np.ndarray) -> Figures:
        found: Figures = {}
        for figure, kind in zip(ALL, (_AUROC, _AUPR, _AUPRO), strict=True):
            metric = kind()
            metric.update(torch.from_numpy(maps), torch.from_numpy(masks))
            found[figure] = float(metric.compute())
        return found

    return measured


# Who: the figures it offers, its package, how to get it, and the function above.
CONTENDERS: dict[str, tuple[tuple[str, ...], str, Callable[..., Callable[..., Figures]]]] = {
    OURS: (ALL, "pip install pyimgano", by_pyimgano),
    "scikit-learn": (PIXELS, "pip install scikit-learn", by_scikit_learn),
    # adeval 1.1 calls numpy.trapz, which numpy 2.4 no longer has.
    "adeval": (ALL, 'pip install adeval "numpy<2.4"', by_adeval),
    "pyaupro": (REGIONS, "pip install pyaupro", by_pyaupro),
    "anomalib": (ALL, "pip install anomalib", by_anomalib),
}


def measure_here(who: str, figures: Sequence[str], arrays: Path, limit: int) -> None:
    """Measure one contender in this process and print what was found as JSON."""
    try:
        contender = CONTENDERS[who][2](figures)
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        sys.exit(NO_MODULE)
    masks, maps = np.load(arrays / "masks.npy"), np.load(arrays / "maps.npy")
    small = np.random.default_rng(0).random((4, 64, 64), dtype=np.float32)
    contender((small > 0.9).astype(np.uint8), small)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    before = peak_mb()
    signal.setitimer(signal.ITIMER_PROF, limit)  # its signal ends the process, native code or not
    wall, start = time.perf_counter(), time.process_time()
    found = contender(masks, maps)
    took = {"seconds": time.process_time() - start, "wall_seconds": time.perf_counter() - wall}
    about = {"version": metadata.version(who), "numpy": np.__version__}
    print(json.dumps({**about, **took, "peak_mb": peak_mb() - before, "figures": found}))


def measure(
    who: str, figures: Sequence[str], python: str, arrays: Path, limit: int
) -> dict[str, Any]:
    """Measure one contender in a process of its own: what it found, or ``lacks``, the reason."""
    command = [python, __file__, "--measure", who, "--figures", *figures]
    command += ["--arrays", str(arrays), "--limit", str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == NO_MODULE:
        return {"lacks": f"not installed: {CONTENDERS[who][1]}"}
    if done.returncode == -signal.SIGPROF:
        return {"lacks": f"over {limit} s"}
    if done.returncode:
        return {"lacks": f"failed: {(done.stderr.strip().splitlines() or ['killed'])[-1]}"}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def jobs() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the rows: contender and figures."""
    for figures in (PIXELS, REGIONS, ALL):
        yield OURS, figures
        for who, (offered, *_) in CONTENDERS.items():
            if who != OURS and offered == figures:
                yield who, figures


def measure_set(
    shape: tuple[int, int, int], rounds: int, pythons: dict[str, str], limit: int
) -> list[dict[str, Any]]:
    from metrics import inspected

    rows: list[dict[str, Any]] = [
        {"who": who, "asked": figures, "runs": []} for who, figures in jobs()
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name, array in zip(("masks", "maps"), inspected(*shape), strict=True):
            np.save(Path(folder, f"{name}.npy"), array)
        for _ in range(rounds):
            for row, (who, figures) in zip(rows, jobs(), strict=True):
                if "lacks" in row:
                    continue
                python = pythons.get(who, sys.executable)
                found = measure(who, figures, python, Path(folder), limit)
                row["runs"].append(found.get("seconds"))
                row.update(found)
                print(f"  {who:30}{len(figures)} figures  ", found, flush=True)
    for row in rows:
        runs = [round(value, 4) for value in row.pop("runs") if value is not None]
        if "lacks" not in row:
            row.update(runs=runs, seconds=statistics.median(runs), peak_mb=round(row["peak_mb"], 1))
    return compared(rows)


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to each row how it stands to ours, default settings, with the same figures."""
    ours = {row["asked"]: row for row in rows if row["who"] == OURS and "lacks" not in row}
    for row in rows:
        base = ours.get(row["asked"])
        if base and "lacks" not in row:
            row["times_ours"] = round(row["seconds"] / base["seconds"], 2)
            row["from_ours"] = {
                key: value - base["figures"][key] for key, value in row["figures"].items()
            }
    return rows


def table(results: dict[str, Any]) -> Iterator[str]:
    about = results["environment"]
    yield f"Measured on {about['cores']} cores of an {about['cpu']}, Python {about['python']}, one"
    yield NOTES
    for title, rows in results["sets"].items():
        runs = max((len(row.get("runs", ())) for row in rows), default=0)
        times = f"median of {runs} runs" if runs > 1 else "one run"
        yield from ("", f"**{title}**, float32, {times}", "")
        yield from (f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|")
        for row in rows:
            who = row["who"] if OURS in row["who"] else f"{row['who']} {row.get('version', '')}"
            names = ", ".join(TITLES[key] for key in row["asked"])
            yield f"| {' | '.join([who.strip(), names, *cells(row)])} |"


def cells(row: dict[str, Any]) -> list[str]:
    if "lacks" in row:
        return [row["lacks"], *[""] * (len(HEAD) - 3)]
    times = f"{row['times_ours']:.2f}" if "times_ours" in row else ""
    figures = [told(row, key) for key in ALL]
    return [f"{row['seconds']:.2f}", times, f"{row['peak_mb']:.0f}", *figures]


def told(row: dict[str, Any], key: str) -> str:
    """Return one figure, with its difference from ours behind it where there is any."""
    if key not in row["figures"]:
        return ""
    away = row.get("from_ours", {}).get(key, 0.0)
    return f"{row['figures'][key]:.6f}" + (f" ({away:+.0e})" if abs(away) > 1e-12 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", action="append", default=[], metavar="PEER=PATH")
    parser.add_argument("--limit", type=int, default=600, help="seconds of processor for one")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--measure", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--figures", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--arrays", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure_here(arguments.measure, arguments.figures, arguments.arrays, arguments.limit)
        return
    from metrics import environment

    os.environ.update(ONE_THREAD)
    pythons = dict(given.split("=", 1) for given in arguments.python)
    results: dict[str, Any] = {"environment": environment(), "sets": {}}
    for title in arguments.sets:
        print(title)
        results["sets"][title] = measure_set(*SETS[title], pythons, arguments.limit)
    text = "\n".join(table(results)) + "\n"
    arguments.out.mkdir(parents=True, exist_ok=True)
    written = json.dumps(results, indent=1) + "\n"
    (arguments.out / "metrics_peers.json").write_text(written, encoding="utf-8")
    (arguments.out / "metrics_peers.md").write_text(text, encoding="utf-8")
    print(f"\n{text}\nwritten to {arguments.out}")


if __name__ == "__main__":
    main()

"""Time and memory of the metrics against their peers, on the same arrays in one process.

    OPENBLAS_NUM_THREADS=1 python benchmarks/speed/metrics.py

The contenders take turns, so that a busy machine is busy for all of them. scikit-learn has no AUPRO
and is measured without it; the large set is ours alone, for it takes minutes there. The other
packages are measured by ``peers.py``. "pyimgano" is all that a run measures, AUPIMO and the figures
at a pixel threshold included, from one structure of ranks; "the common ones" leaves these two out.
Peak memory is what tracemalloc sees beyond the arrays themselves, in a run of its own. At
the end AUPIMO alone, and the bootstrap intervals (1,000 replicates).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import tracemalloc
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano import metrics
from pyimgano.metrics.ranks import rank_maps
from pyimgano.metrics.scorecard import METRICS, Evidence, fill_in
from pyimgano.metrics.segmentation import segmentation_of

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS = (0.3, 0.05, 1.0)
RESULT = Path(__file__).parent / "results" / "metrics.json"
KEYS = (
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1max",
    "aupro_0.3",
    "aupro_0.05",
    "aupro_1.0",
    "aupimo",
    "pixel_f1",
)


def inspected(n_good: int, n_defective: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return masks and maps: coarse noise, upsampled, that rises on elliptic defects."""
    import cv2

    rng = np.random.default_rng(0)
    count, cells = n_good + n_defective, 32
    masks = np.zeros((count, side, side), np.uint8)
    maps = np.empty((count, side, side), np.float32)
    for index in range(count):
        for _ in range(rng.integers(1, 5) if index >= n_good else 0):
            centre = rng.integers(0, side, 2).tolist()
            axes = (rng.choice((3, 6, 14, 28), 2) * side // 256).tolist()
            cv2.ellipse(masks[index], centre, axes, float(rng.integers(180)), 0, 360, 1, -1)
        cover = cv2.resize(
            masks[index].astype(np.float32), (cells, cells), interpolation=cv2.INTER_AREA
        )
        coarse = rng.normal(1, 0.25, (cells, cells)) + cover * rng.uniform(0.3, 2, (cells, cells))
        smooth = cv2.resize(coarse.astype(np.float32), (side, side))
        maps[index] = smooth + 0.02 * rng.random((side, side), dtype=np.float32)
    return masks, maps


def ours(masks: np.ndarray, maps: np.ndarray) -> dict[str, float]:
    ranks = rank_maps(masks, maps)
    card = fill_in(Evidence(ranks, masks, maps, LIMITS), maps=True)
    return {**card, "pixel_f1": segmentation_of(ranks, maps, 1.5)["f1"]}


def the_common_ones(masks: np.ndarray, maps: np.ndarray) -> dict[str, float]:
    evidence = Evidence(rank_maps(masks, maps), masks, maps, LIMITS)
    names = ("pixel_auroc", "pixel_ap", "pixel_f1max", "aupro")
    return {key: value for name in names for key, value in METRICS[name](evidence).items()}


def alone() -> dict[str, Callable[[], object]]:
    """Return what is measured by itself, the intervals over 10,000 scores and 83 maps."""
    rng = np.random.default_rng(0)
    labels = rng.random(10_000) < 0.3
    scores = rng.normal(size=10_000) + labels
    masks, maps = inspected(20, 63, 256)
    return {
        "AUPIMO of 83 x 256 x 256": lambda: metrics.aupimo(masks, maps),
        "intervals of AUROC and AP, 10,000 images": lambda: metrics.bootstrap_scores(
            labels, scores
        ),
        "intervals of AUPRO 0.3, 83 x 256 x 256": lambda: metrics.bootstrap_maps(
            masks, maps, (0.3,)
        ),
    }


def by_scikit_learn(masks: np.ndarray, maps: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

    labels, scores = masks.ravel(), maps.ravel()
    precision, recall, _ = precision_recall_curve(labels, scores)
    return {
        "pixel_auroc": float(roc_auc_score(labels, scores)),
        "pixel_ap": float(average_precision_score(labels, scores)),
        "pixel_f1max": float(np.max(2 * precision * recall / (precision + recall))),
    }


def measure(
    contenders: dict[str, Callable[..., dict[str, float]]],
    arrays: tuple[np.ndarray, np.ndarray],
    rounds: int,
) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            start = time.perf_counter()
            contender(*arrays)
            seconds[name].append(time.perf_counter() - start)
    rows = {}
    for name, contender in contenders.items():
        tracemalloc.start()
        figures = contender(*arrays)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        rows[name] = {
            "median_seconds": round(statistics.median(seconds[name]), 4),
            "seconds": [round(value, 4) for value in seconds[name]],
            "peak_mib": round(peak / 2**20, 1),
            "figures": {key: figures[key] for key in KEYS if key in figures},
        }
    return rows


def environment() -> dict[str, Any]:
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), cpu)
    packages = ("numpy", "opencv-python-headless", "scikit-learn")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "threads": {"OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS"), "opencv": 1},
        "NPY_DISABLE_CPU_FEATURES": os.environ.get("NPY_DISABLE_CPU_FEATURES"),
        "packages": {name: metadata.version(name) for name in packages},
    }


def main() -> None:
    import cv2

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    own = {"pyimgano": ours, "the common ones": the_common_ones}
    contenders = {**own, "scikit-learn": by_scikit_learn}
    runs = {
        "83 x 256 x 256": (contenders, (20, 63, 256)),
        "100 x 1024 x 1024": (own, (24, 76, 1024)),
    }
    results: dict[str, Any] = {"environment": environment(), "limits": LIMITS, "sets": {}}
    for title, (taking_part, shape) in runs.items():
        masks, maps = inspected(*shape)
        rows = measure(taking_part, (masks, maps), arguments.rounds)
        share = round(float(masks.mean()), 4)
        results["sets"][title] = {"dtype": "float32", "defective_share": share, "rows": rows}
        print(f"\n{title} float32, {share:.1%} defective")
        print(f"{'':16}{'seconds':>9}{'peak MiB':>10}  " + "".join(f"{k:>13}" for k in KEYS))
        for name, row in rows.items():
            values = (row["figures"].get(key) for key in KEYS)
            cells = "".join(f"{'-':>13}" if v is None else f"{v:13.6f}" for v in values)
            print(f"{name:16}{row['median_seconds']:9.3f}{row['peak_mib']:10.1f}  {cells}")
    print()
    for title, work in alone().items():
        start = time.perf_counter()
        work()
        results.setdefault("alone", {})[title] = round(time.perf_counter() - start, 4)
        print(f"{title:42}{results['alone'][title]:9.3f} s")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {arguments.out}")


if __name__ == "__main__":
    main()

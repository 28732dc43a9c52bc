"""Where the time goes: fit, and judging, by function of this package.

    python benchmarks/speed/hot_spots.py [--write]

One thread, under `cProfile`: calls of Python count for more than they take, arithmetic does not.
What a function of ours spends in numpy, OpenCV or a runtime counts as its own. With ``--write`` the
result stands in ``results/hot_spots.json``.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import tempfile
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyimgano
from pyimgano import create_detector
from pyimgano.synthesis import write_demo
from pyimgano.threads import set_budget

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyimgano.detector import Detector

RESULT = Path(__file__).parent / "results" / "hot_spots.json"
PAIRS = (
    ("vision_default", "fused_lite0"),
    ("vision_patchcore", "efficientnet_lite0"),
    ("vision_padim", "efficientnet_lite0"),
)
SHOWN = 8
_DEEP = 40  # calls of foreign functions in foreign functions
N_TRAIN = 60
OURS = str(Path(pyimgano.__file__).parent)


def hot_spots(step: Callable[[], object], images: int) -> dict[str, dict[str, Any]]:
    """Return the functions that take most of the time of a step."""
    profile = cProfile.Profile()
    profile.runcall(step)
    table: dict[Any, Any] = vars(pstats.Stats(profile))["stats"]
    spent = _at_ours({function: facts[2] for function, facts in table.items()}, table)
    whole = sum(spent.values())
    most = sorted(spent, key=lambda name: -spent[name])[:SHOWN]
    return {
        name: {
            "share": f"{100 * spent[name] / whole:.0f} %",
            "ms_per_image": round(1000 * spent[name] / images, 1),
        }
        for name in most
    }


def _at_ours(own: dict[Any, float], table: dict[Any, Any]) -> dict[str, float]:
    """Hand the time of foreign functions up to their callers until it is at functions of ours."""
    spent: dict[str, float] = defaultdict(float)
    for _ in range(_DEEP):
        above: dict[Any, float] = defaultdict(float)
        for function, seconds in own.items():
            callers = table[function][4]
            whole = sum(within for *_, within in callers.values())
            if _is_ours(function):
                spent[_name(function)] += seconds
            elif whole:
                for caller, (*_, within) in callers.items():
                    above[caller] += seconds * within / whole
        own = above
    return spent


def _judge(detector: Detector, images: list[Path]) -> None:
    for _ in detector.inspect(images):
        pass


def _is_ours(function: tuple[str, int, str]) -> bool:
    return function[0].startswith(OURS)


def _name(function: tuple[str, int, str]) -> str:
    file = Path(function[0]).relative_to(OURS).with_suffix("")
    return f"`{'.'.join(file.parts)}` `{function[2].strip('<>')}`"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    set_budget(1)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = write_demo(Path(folder) / "data", n_train=N_TRAIN, n_good=15, n_defect=15)
        good = sorted(data.glob("*/train/good/*"))
        asked = sorted(data.glob("*/test/*/*"))
        for name, extractor in PAIRS:
            detector = create_detector(name, extractor=extractor)
            detector.clone().fit(good[:3])  # imports, and builds the network
            kind = f"{name} on {extractor}"
            found[f"fit, {kind}"] = {"rows": hot_spots(partial(detector.fit, good), len(good))}
            found[f"judge, {kind}"] = {
                "rows": hot_spots(partial(_judge, detector, asked), len(asked))
            }
    told = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.split(":")[1].strip() for line in told if "model name" in line), "unknown")
    record = {"environment": {"cpu": cpu, "cores": os.cpu_count()}, "sets": found}
    print(json.dumps(record, indent=1))
    if given.write:
        RESULT.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""The results as tables for people."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from damaged_images import FORMATS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["summary"]


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
places, and `run.json` says so. That `run.json` says `complete` where `report.html` is missing, or
that a next run into the same directory does not write its results, is a fault. After that next run
{fit_files} (fit) and {predict_files} (predict) temporary files of killed processes were left.
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
        fit_files=killed["fit"]["temporary files left"],
        predict_files=killed["predict"]["temporary files left"],
    )
    return text + "".join(f"- fault: {fault}\n" for fault in found["faults"][:20])

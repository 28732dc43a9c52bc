"""How a fitted detector stands disturbed images: everything frozen, threshold included."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pyimgano.atomic import locked, output_errors, write_atomic
from pyimgano.datasets._checks import read_truth
from pyimgano.errors import ImageError, ParameterError
from pyimgano.metrics.image import auroc
from pyimgano.metrics.ranks import rank_maps
from pyimgano.metrics.rates import Rate
from pyimgano.metrics.regions import mean_pro
from pyimgano.records import DEFECT, GOOD
from pyimgano.runs.facts import read_facts, to_json
from pyimgano.runs.report import write_report
from pyimgano.synthesis.corruptions import CORRUPTIONS, choose_corruptions, corrupt

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pyimgano.datasets.base import Dataset
    from pyimgano.detector import Detector
    from pyimgano.inspection import Inspection

__all__ = ["COLUMNS", "robustness", "write_robustness"]

CLEAN = "clean"
COLUMNS = (
    *("corruption", "severity", "amount", "unit", "auroc", "aupro_0.3", "false_rejects"),
    *("false_reject_rate", "good", "escapes", "escape_rate", "defective", "errors"),
)


def robustness(
    detector: Detector,
    dataset: Dataset,
    *,
    corruptions: Sequence[str] | str = "all",
    severities: Sequence[int] = (1, 3, 5),
    progress: Callable[[Inspection], None] | None = None,
) -> dict[str, Any]:
    """Judge the test images again under each corruption, at the threshold that stands.

    Parameters
    ----------
    detector : Detector
        Fitted, and best calibrated: without a threshold there are no rates.
    dataset : Dataset
        Its test images are disturbed as the detector sees them, in 8 bits; masks move along.
    corruptions : sequence of str or str
        Names of `CORRUPTIONS`; ``"all"`` for all.
    severities : sequence of int
        1 to 5.
    progress : callable, optional
        Called with every judgement.

    Returns
    -------
    dict
        ``rows``: one mapping of `COLUMNS` for the clean images and for each corruption and
        severity, None where a figure is undefined; ``worst``: by ``auroc``, ``false_rejects``,
        ``escapes``, the row (corruption and severity) in which it is worst; ``seed``.

    Raises
    ------
    ParameterError
        If a name or a severity is unknown, or no severity is given.
    """
    chosen = sorted(set(severities))
    names = choose_corruptions(corruptions, chosen)
    if not chosen or not names:
        raise ParameterError("robustness needs at least one corruption and one severity")
    rows = [_row(detector, dataset, names[0], 0, progress)]
    for name in names:
        rows += [_row(detector, dataset, name, severity, progress) for severity in chosen]
    return {"rows": rows, "worst": _worst(rows[1:]), "seed": detector.seed}


def write_robustness(run_dir: str | Path, found: dict[str, Any]) -> None:
    """Add what `robustness` found to the directory of a complete run: table, facts and report.

    Parameters
    ----------
    run_dir : str or Path
        Where `evaluate` wrote; ``robustness.csv`` is new, ``run.json`` gets the key
        ``robustness``, ``report.html`` is written again.

    Raises
    ------
    InputError
        If the directory holds no run.
    OutputError
        If it cannot be written.
    """
    folder = Path(run_dir)
    stream = io.StringIO(newline="")
    table = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(found["rows"])
    with output_errors(folder), locked(folder):
        facts = {**read_facts(folder), "robustness": found}
        write_atomic(folder / "robustness.csv", stream.getvalue().encode())
        write_atomic(folder / "run.json", to_json(facts, indent=1) + b"\n")
        write_report(folder)


class _Disturbed(Sequence[Any]):
    """The test images as a detector sees them, disturbed when they are asked for."""

    def __init__(self, detector: Detector, dataset: Dataset, name: str, severity: int) -> None:
        self._detector, self._samples = detector, dataset.test
        self._how = name, severity

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: Any) -> Any:
        try:
            image = self._detector.intake_.see(self._samples[index])
        except ImageError:  # the detector says itself why it cannot judge this one
            return self._samples[index]
        return corrupt(image, *self._how, seed=self._detector.seed)[0]

    def masks(self, judged: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
        """Move the mask of each judged image as the image was moved; all false if it is good."""
        for place in np.flatnonzero(judged).tolist():
            sample = self._samples[place]
            image, mask = self._detector.intake_.see(sample), read_truth(sample)
            truth = np.zeros(image.shape[:2], bool) if mask is None else mask
            moved = corrupt(image, *self._how, seed=self._detector.seed, mask=truth)[1]
            yield cast("NDArray[np.bool_]", moved)


def _row(
    detector: Detector,
    dataset: Dataset,
    name: str,
    severity: int,
    progress: Callable[[Inspection], None] | None,
) -> dict[str, Any]:
    """Judge all test images under one corruption; severity 0 leaves them as they are."""
    disturbed = _Disturbed(detector, dataset, name, severity)
    scores, verdicts, maps = [], [], []
    for one in detector.inspect(disturbed):
        scores.append(one.score)
        verdicts.append(one.label)
        maps.append(one.map)
        if progress is not None:
            progress(one)
    judged = np.isfinite(scores)
    truth, labels = dataset.labels[judged], np.array(verdicts)[judged]
    both = 0 < truth.sum() < truth.size
    row = dict.fromkeys(COLUMNS)
    row |= {"corruption": name, "severity": severity, "errors": int((~judged).sum())}
    row |= {"amount": CORRUPTIONS[name].amounts[severity - 1], "unit": CORRUPTIONS[name].unit}
    if severity == 0:
        row |= {"corruption": CLEAN, "amount": None, "unit": ""}
    row["auroc"] = auroc(truth, np.array(scores)[judged]) if both else None
    drawn = [one for one in maps if one is not None]
    if both and dataset.info.has_masks and len(drawn) == truth.size:
        pro = mean_pro(rank_maps(list(disturbed.masks(judged)), drawn), 0.3)
        row["aupro_0.3"] = None if isinstance(pro, str) else pro
    return {**row, **(_rates(truth, labels) if detector.is_calibrated else {})}


def _rates(truth: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, Any]:
    rejected, escaped = labels[truth == GOOD] == 1, labels[truth == DEFECT] == 0
    return {
        "false_rejects": int(rejected.sum()),
        "false_reject_rate": Rate(int(rejected.sum()), rejected.size).value,
        "good": rejected.size,
        "escapes": int(escaped.sum()),
        "escape_rate": Rate(int(escaped.sum()), escaped.size).value,
        "defective": escaped.size,
    }


def _worst(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return by figure the first of the rows in which it is worst."""
    worst: dict[str, Any] = {}
    for name, sign in (("auroc", -1), ("false_reject_rate", 1), ("escape_rate", 1)):
        told = [row for row in rows if row[name] is not None]
        if told:
            row = max(told, key=lambda row: sign * row[name])
            worst[name] = {key: row[key] for key in ("corruption", "severity", name)}
    return worst

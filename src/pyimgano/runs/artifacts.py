"""The run directory: what was judged, with what, and how it ended.

A run streams into a folder of its own inside the directory and takes its place at the end, so the
results of two runs are never mixed: ``run.json`` says ``running`` while they change places, and how
the run ended only when everything stands.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import shutil
import time
import uuid
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pyimgano.atomic import claimed, output_errors, write_atomic
from pyimgano.errors import (
    ImageError,
    InputError,
    ParameterError,
    was_interrupted,
)
from pyimgano.images import read_image
from pyimgano.inspection import COLUMNS, Verdict, csv_cells
from pyimgano.maps.overlay import encode_png
from pyimgano.records import DEFECT
from pyimgano.runs.facts import FORMAT, plain, read_facts, surroundings, to_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from pyimgano.images import Pixels
    from pyimgano.inspection import Inspection

__all__ = ["RunWriter", "csv_line"]

OVERLAYS = ("all", "ng", "none")
PANEL = 640
RESERVE = 2**18  # bytes: a full disk still takes what run.json has to say of it
_TABLES = ("results.jsonl", "results.csv")
_FORBIDDEN = frozenset('<>:"/\\|?*')
_logger = logging.getLogger(__name__)


class RunWriter:
    """Write a run directory, one judgement after the other, in constant memory.

    Use it as a context manager. However its block ends, every row that was added stands in
    ``results.csv`` (the columns `COLUMNS`) and ``results.jsonl`` (the same row, its regions and its
    files, one JSON object a line), and ``run.json`` says how it ended: ``complete``,
    ``interrupted`` (Ctrl-C, SIGTERM) or ``failed`` with the reason. Results of a run that stood
    there before are replaced when the block ends. A directory serves one run at a time: a second
    one is refused, where the file system has locks. What a killed run left is removed.

    Parameters
    ----------
    out : str or Path
        A new or empty directory, or one that holds a run.
    command : str
        What is being done: ``"predict"``.
    overlays : str
        Which pictures to keep: ``"all"``, ``"ng"`` (judged NG, or known to be defective) or
        ``"none"``. A picture shows the image, the map, and both with the regions, side by side,
        on a colour scale fixed by the pixel threshold.
    maps : bool
        Whether to keep the anomaly maps as ``.npy``: float16, or float32 where the peak lies
        outside [0.001, 65504] and float16 would lose it.
    report : callable, optional
        Writes the report of a complete run into the directory that it is given, which holds all
        else: a run is complete when its report stands.

    Raises
    ------
    ParameterError
        If ``overlays`` is none of the three.
    OutputError
        If ``out`` is a file or holds something else than a run, serves another run, or cannot be
        written.

    Examples
    --------
    >>> import tempfile
    >>> from pyimgano.inspection import Inspection, Verdict
    >>> from pyimgano.runs.facts import read_run
    >>> out = tempfile.mkdtemp()
    >>> with RunWriter(out, command="predict", overlays="none") as run:
    ...     run.note(threshold=2.0)
    ...     run.add(Inspection(source="a.png", score=3.0, label=1, verdict=Verdict.NG))
    >>> facts, rows = read_run(out)
    >>> facts["status"], facts["counts"]["NG"], rows[0]["score"]
    ('complete', 1, 3.0)
    """

    def __init__(
        self,
        out: str | Path,
        *,
        command: str,
        overlays: str = "all",
        maps: bool = False,
        report: Callable[[Path], object] | None = None,
    ) -> None:
        if overlays not in OVERLAYS:
            raise ParameterError(f"overlays must be one of {OVERLAYS}, got {overlays!r}")
        self.out = Path(out)
        self._report = report
        self._held = ExitStack()
        self._facts: dict[str, Any] = {
            "format": FORMAT,
            "status": "running",
            "reason": None,
            "command": command,
            "overlays": overlays,
            "maps": maps,
        }
        self._notes: dict[str, Any] = {}
        self._counts: Counter[str] = Counter()
        self._files: list[io.FileIO] = []
        self._ends: list[int] = []

    def __enter__(self) -> Self:
        self._facts["started"] = datetime.now(UTC).isoformat(timespec="microseconds")
        self._clock = time.perf_counter()
        with ExitStack() as held, output_errors(self.out):
            held.enter_context(claimed(self.out, "a run", read_facts))
            if not (self.out / "run.json").exists():
                self._write_facts(self.out)  # killed, it leaves a directory that can be used again
            for stale in self.out.glob(".partial-*"):
                shutil.rmtree(stale)
            self._stage = self.out / f".partial-{uuid.uuid4().hex[:8]}"
            self._stage.mkdir()
            (self._stage / "reserve").write_bytes(bytes(RESERVE))
            self._files = [(self._stage / name).open("xb", buffering=0) for name in _TABLES]
            self._append(b"", csv_line(COLUMNS))
            self._held = held.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._held, output_errors(self.out):
            try:
                self._close_tables()
                if error is None and self._report is not None:
                    self._write_facts(self._stage, status="complete")
                    self._report(self._stage)
            except BaseException as late:
                error = late
                raise
            finally:
                self._take_place(error)

    def _close_tables(self) -> None:
        for file, end in zip(self._files, self._ends, strict=True):
            file.truncate(end)  # a row that was cut off half-way is no row
            os.fsync(file.fileno())
            file.close()

    def _take_place(self, error: BaseException | None) -> None:
        """Put the results where those of an older run stood, and then say how the run ended."""
        (self._stage / "reserve").unlink()
        self._write_facts(self.out)
        if error is not None:  # the report would say that the run is complete
            (self._stage / "report.html").unlink(missing_ok=True)
        for name in (*_TABLES, "robustness.csv", "report.html", "overlays", "maps"):
            _move(self._stage / name, self.out / name)
        shutil.rmtree(self._stage)
        if error is None:
            self._write_facts(self.out, status="complete")
        else:
            failed = isinstance(error, Exception) and not was_interrupted(error)
            status = "failed" if failed else "interrupted"
            reason = f"{type(error).__name__}: {error}".removesuffix(": ")
            self._write_facts(self.out, status=status, reason=reason)

    def note(self, **facts: object) -> None:
        """Add facts to ``run.json``: scalars, mappings, sequences, arrays or dataclasses.

        The report understands ``detector`` and ``data`` (mappings with a ``name``), ``threshold``,
        ``pixel_threshold``, ``certainty`` (text), ``suspects`` (paths), ``skipped`` (pairs of
        path and reason), ``metrics`` and ``timing`` (mappings). NaN and infinities become null.

        Raises
        ------
        ParameterError
            If a value cannot be JSON, or the name belongs to the writer.
        """
        taken = sorted(facts.keys() & {*self._facts, "seconds", "counts", "versions", "machine"})
        if taken:
            raise ParameterError(f"the run writes {', '.join(taken)} itself; use another name")
        self._notes.update({name: plain(value) for name, value in facts.items()})

    def add(self, inspection: Inspection, image: Pixels | None = None) -> None:
        """Append one judgement.

        Parameters
        ----------
        inspection : Inspection
            What was said of the image.
        image : ndarray of uint8 or uint16, shape (H, W, 3), optional
            RGB, for the picture. Read from the source again if it is not given. What cannot be
            read (an array) or drawn gets no picture, and a warning in the log.

        Raises
        ------
        OutputError
            If the disk is full or the directory is gone. What was added before stands.
        ParameterError
            If the run is not open: it writes inside its ``with`` block only.
        """
        if not self._files or self._files[0].closed:
            raise ParameterError("a RunWriter takes judgements inside its with block only")
        row = inspection.row()
        name = f"{self._counts['images']:05d}-{_safe(inspection.path)}"
        with output_errors(self.out):
            facts = {
                **row,
                "reason": inspection.reason,
                "pixel_threshold": inspection.pixel_threshold,
                "regions": inspection.regions,
                "seen": 1.0 if inspection.seen is None else float(inspection.seen.mean()),
                "overlay": self._keep_overlay(inspection, image, name),
                "panels": 1 if inspection.map is None else 3,
                "map": self._keep_map(inspection, name),
            }
            self._append(to_json(facts) + b"\n", csv_line(csv_cells(row)))
        self._counts.update(["images", str(row["verdict"]) or "undecided"])

    def _keep_overlay(self, item: Inspection, image: Pixels | None, name: str) -> str | None:
        notable = item.verdict is Verdict.NG or item.row()["label"] == DEFECT
        wanted = {"all": True, "ng": notable, "none": False}[self._facts["overlays"]]
        if not wanted or item.error is not None:
            return None
        try:
            picture = item.picture(read_image(item.source) if image is None else image, PANEL)
        except (ImageError, InputError) as error:
            _logger.warning("no picture of %s: %s", item.path, error)
            return None
        return self._keep(f"overlays/{name}.png", encode_png(picture))

    def _keep_map(self, item: Inspection, name: str) -> str | None:
        if not self._facts["maps"] or item.map is None:
            return None
        fits = 1e-3 <= np.abs(item.map).max() <= np.finfo(np.float16).max
        buffer = io.BytesIO()
        np.save(buffer, item.map.astype(np.float16 if fits else np.float32), allow_pickle=False)
        return self._keep(f"maps/{name}.npy", buffer.getvalue())

    def _keep(self, relative: str, data: bytes) -> str:
        path = self._stage / relative
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return relative

    def _append(self, *lines: bytes) -> None:
        for file, line in zip(self._files, lines, strict=True):
            rest = line
            while rest:
                rest = rest[file.write(rest) :]
        self._ends = [file.tell() for file in self._files]

    def _write_facts(self, folder: Path, **ended: str) -> None:
        verdicts = ("images", *Verdict, "undecided")
        facts = {
            **self._facts,
            **ended,
            "seconds": round(time.perf_counter() - self._clock, 3),
            "counts": {str(name): self._counts[name] for name in verdicts},
            **self._notes,
            **surroundings(),
        }
        write_atomic(folder / "run.json", to_json(facts, indent=1) + b"\n")


def _move(new: Path, old: Path) -> None:
    if old.is_dir():
        shutil.rmtree(old)
    if new.exists():
        new.replace(old)
    else:
        old.unlink(missing_ok=True)


def _safe(path: str) -> str:
    """Return folder and stem of a path as a name that every file system takes."""
    text = f"{PurePath(path).parent.name}-{PurePath(path).stem}".strip("-")
    return "".join(c if c.isprintable() and c not in _FORBIDDEN else "_" for c in text[-50:])


def csv_line(cells: list[str] | tuple[str, ...]) -> bytes:
    """Return a line of a table; what is no UTF-8 is escaped."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue().encode("utf-8", "backslashreplace")

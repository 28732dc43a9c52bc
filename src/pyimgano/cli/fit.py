"""``pyimgano fit``: good images in, one model file out."""

from __future__ import annotations

import shlex
import tempfile
import time
import zipfile
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyimgano.cli._clean import Clean, learn_clean, show_odd
from pyimgano.cli._parameters import (
    DetectorName,
    ExtractorName,
    FalseReject,
    Json,
    Set,
    describe_extractor,
    images_of,
    make_detector,
)
from pyimgano.cli._show import Show, count, in_lines, named
from pyimgano.cli._views import (
    Alignment,
    HowForeground,
    IgnoreFile,
    LeaveBackground,
    RoiFile,
    TileSize,
    print_view,
    seen_by,
)
from pyimgano.cli.pod import make_folder, study
from pyimgano.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyimgano.detector import Detector

__all__ = ["check_writable", "fit", "good_images"]

_NOT_GOOD = {
    *("bad", "ng", "nok", "ko", "reject", "rejects", "test", "ground_truth", "mask", "masks"),
    *("defect", "defects", "defective", "anomaly", "anomalies", "anomalous", "abnormal"),
}
_GOOD = ("good", "ok", "normal", "train/good", "train/ok", "good/train", "train")


def fit(
    ctx: typer.Context,
    good_dir: Annotated[
        Path, typer.Argument(metavar="GOOD_DIR", help="A folder of images of good parts.")
    ],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="FILE", help="The model file, such as model.pyimg."),
    ],
    *,
    detector: DetectorName = "vision_default",
    extractor: ExtractorName = "auto",
    false_reject: FalseReject = "5%",
    hold_out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Other good images, best from another day, to set the threshold with.",
        ),
    ] = None,
    keep_suspects: Annotated[
        bool,
        typer.Option("--keep-suspects", help="Let good images that stand out set the threshold."),
    ] = False,
    defects: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Some images of defects, perhaps with masks/: says how many are caught.",
        ),
    ] = None,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune",
            help="Let the defects choose how the map becomes the score; of vision_default, which "
            "has a score of its own, the map alone, and that with masks.",
        ),
    ] = False,
    miss_cost: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="What an escape costs, in false rejects: the defects move the threshold.",
        ),
    ] = None,
    clean: Annotated[
        Clean | None,
        typer.Option(
            help="Good images that are copies or stand out: ask (the default in a terminal), "
            "drop, or keep (elsewhere).",
            show_default=False,
        ),
    ] = None,
    pod: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Find out which planted defects are found, as pyimgano pod does, in the hold-out "
            "or in the last fifth of the images, by a model without it.",
        ),
    ] = None,
    align: Alignment = None,
    roi: RoiFile = None,
    ignore: IgnoreFile = None,
    foreground: LeaveBackground = HowForeground.OFF,
    tile: TileSize = None,
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """Learn from good images.

    Sets the threshold so that few good parts are rejected, says how sure that is, and writes one
    model file.
    """
    show = Show(quiet=ctx.obj.quiet, as_json=as_json)
    images = good_images(good_dir)
    held_out = None if hold_out is None else good_images(hold_out)
    asked = {"keep_suspects": True} if keep_suspects else {}
    asked |= seen_by(align, images, roi=roi, ignore=ignore, foreground=foreground, tile=tile)
    unfitted = make_detector(detector, extractor, false_reject, settings or (), **asked)
    check_writable(out)
    if pod is not None:
        make_folder(pod)
    given: dict[str, Any] = {"defects": _defects(defects), "tune": tune, "miss_cost": miss_cost}
    started = time.perf_counter()

    def learn(good: Sequence[Path], dropped: Sequence[tuple[str, str]]) -> Detector:
        with show.progress(f"learning from {count(len(good), 'good image')}"):
            return unfitted.clone().fit(good, calibration=held_out, dropped=dropped, **given)

    fitted = learn_clean(show, images, learn, clean)
    fitted.save(out)
    seconds = time.perf_counter() - started
    _print_learned(show, fitted, len(images) - len(fitted.dropped_), seconds)
    show_odd(show, fitted)
    print_view(show, fitted)
    show.facts("extractor", describe_extractor(fitted, extractor))
    _print_threshold(show, fitted)
    show.fact("model", f"{out} ({out.stat().st_size / 1e6:.1f} MB)")
    show.line(f"\n{in_lines(fitted.summary())}")
    gone = {name for name, _ in fitted.dropped_}
    kept = [path for path in images if str(path) not in gone]
    found = {} if pod is None else {"pod": _plant(show, fitted, kept, held_out, pod, given)}
    show.line(f"\nnext: pyimgano predict {shlex.quote(str(out))} NEW_IMAGES --out results")
    show.answer(str(out))
    show.result({**_facts(fitted, out, len(images) - len(fitted.dropped_), seconds), **found})


def _defects(folder: Path | None) -> Path | None:
    """Return the folder of defects, after a look whether it is one."""
    if folder is not None:
        images_of(folder, "images of defects")
    return folder


def good_images(folder: Path) -> list[Path]:
    """Return the images of a folder of good parts, in natural order.

    Raises
    ------
    InputError
        If it is no folder, holds no images, or holds folders named like defects or tests.
    """
    images = images_of(folder, "images of good parts")
    for image in images:
        for above in list(image.relative_to(folder).parents)[-2::-1]:
            if above.name.casefold() in _NOT_GOOD:
                raise InputError(_mixed(folder, folder / above))
    for name in ("good", "ok", "normal"):
        inside = [image.relative_to(folder).parts[0].casefold() == name for image in images]
        if any(inside) and not all(inside):
            other = images[inside.index(False)]
            raise InputError(
                f"{folder} holds {name}/ and other images beside it, such as {other}; "
                f"give {folder / name}"
            )
    return images


def check_writable(path: Path) -> None:
    """Make the folder of a model file, and make sure that the file can be written there.

    Raises
    ------
    OutputError
        If it cannot, or if something else than a model would be replaced.
    """
    from pyimgano.atomic import output_errors

    with output_errors(path):
        if path.is_dir():
            raise OutputError(f"{path} is a folder; give a file, such as {path / 'model.pyimg'}")
        if path.exists() and not (path.is_file() and zipfile.is_zipfile(path)):
            raise OutputError(f"{path} exists and is no model file; give another name")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def _mixed(folder: Path, other: Path) -> str:
    beside = [other.parent / name for name in _GOOD]
    good = next((path for path in beside if path.is_dir()), None)
    advice = f"give {good}" if good else "give a folder that holds images of good parts alone"
    return (
        f"only good images are learned from, but {folder} holds {other.relative_to(folder)}/ too; "
        f"{advice}"
    )


def _print_learned(show: Show, fitted: Detector, given: int, seconds: float) -> None:
    learned, facts = given - len(fitted.skipped_), fitted.learned()
    height, width = fitted.intake_.sizes[0]
    several = " and other sizes" if len(fitted.intake_.sizes) > 1 else ""
    show.fact(
        "learned",
        f"{count(learned, 'good image')} of {width} x {height} px{several} in {seconds:.1f} s",
    )
    for subject in ("memory", "neighbours", "map"):
        if subject in facts:
            show.fact(subject, facts[subject])
    if fitted.skipped_:
        show.fact("skipped", f"{count(len(fitted.skipped_), 'image')} of {given}:")
        show.facts("", [named(*each) for each in fitted.skipped_])


def _print_threshold(show: Show, fitted: Detector) -> None:
    if not fitted.is_calibrated:
        show.fact("threshold", "none: scores only; give more good images, or --hold-out")
        return
    show.fact("threshold", f"{fitted.threshold_:.4g}, {fitted.certainty_.rule}")
    if "drift_" in vars(fitted) and fitted.drift_.enough:
        told = fitted.drift_.describe("the hold-out images")
        show.fact(
            "session", told or "no difference of the hold-out images from the goods stands out"
        )
    facts, known = fitted.learned(), vars(fitted)
    if "sessions" in facts:
        show.fact("sessions", facts["sessions"])
    for told in (known[name] for name in ("tuned_", "parity_") if name in known):
        for subject, text in told.describe().items():
            show.fact(subject, text)
    if fitted.suspects_:
        several = len(fitted.suspects_) > 1
        show.fact(
            "suspects",
            f"{len(fitted.suspects_)} of the good images {'stand' if several else 'stands'} out "
            "and did not set the threshold; if good all the same, fit again with --keep-suspects:",
        )
        show.facts("", fitted.suspects_)


def _plant(
    show: Show,
    fitted: Detector,
    images: list[Path],
    held_out: list[Path] | None,
    out: Path,
    given: dict[str, Any],
) -> dict[str, Any]:
    """Plant defects in images that were not learned from: the hold-out, or the last fifth."""
    from pyimgano.runs.pod import without_last_block

    if held_out is not None:
        note = "the images with the defects set the threshold, too"
        return study(show, fitted, held_out, out, note=note)
    first, last = without_last_block(images)
    with show.progress(f"learning again from {len(first)} of {count(len(images), 'image')}"):
        part = fitted.clone().fit(first, **given)
    note = f"measured with a model that learned from {len(first)} of the images, without these"
    return study(show, part, last, out, note=note)


def _facts(fitted: Detector, out: Path, given: int, seconds: float) -> dict[str, object]:
    from pyimgano.runs.evaluate import describe_detector

    certainty = fitted.certainty_ if fitted.is_calibrated else None
    return {
        "model": out,
        "n_good": given - len(fitted.skipped_),
        "seconds": round(seconds, 3),
        "false_reject_bound": certainty.bound if certainty else None,
        "certified": certainty.certified if certainty else False,
        **describe_detector(fitted),
    }

"""``pyimgano train-anomalib``: a model by anomalib's own engine, then our threshold."""

from __future__ import annotations

import shlex
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyimgano.cli._parameters import (
    CategoryName,
    DataOptions,
    FalseReject,
    Json,
    Set,
    _names,
    _parse_value,
    load_category,
    parse_share,
)
from pyimgano.cli._show import Show, count
from pyimgano.cli.fit import _print_threshold, good_images
from pyimgano.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["train_anomalib"]


def train_anomalib(
    ctx: typer.Context,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Its name in anomalib, such as padim.")
    ],
    good_dir: Annotated[
        Path | None,
        typer.Argument(metavar="[GOOD_DIR]", help="Good images; or name a data set instead."),
    ] = None,
    *,
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="DIR", help="New folder, or that of an older one."),
    ],
    dataset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Its layout. See: pyimgano list datasets.",
            autocompletion=_names("datasets"),
        ),
    ] = "mvtec",
    root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of a data set: its good training images."),
    ] = None,
    category: CategoryName = None,
    data_options: DataOptions = None,
    backbone_weights: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="Weights of the backbone, a state dict; or random, to try it out."
        ),
    ] = "",
    size: Annotated[
        int | None, typer.Option(metavar="PX", help="Side of what it sees; default: its own.")
    ] = None,
    epochs: Annotated[
        int, typer.Option(metavar="N", help="Of models that learn by steps; others take one.")
    ] = 10,
    steps: Annotated[int, typer.Option(metavar="N", help="At most so many; -1: no limit.")] = -1,
    batch: Annotated[int, typer.Option(metavar="N", help="Images at once.")] = 8,
    seed: Annotated[int, typer.Option(metavar="N", help="Of all randomness.")] = 0,
    false_reject: FalseReject = "5%",
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """Train a model of anomalib on good images.

    Trains with the first seven tenths of them, one of which anomalib validates on, and sets the
    threshold with the others. Writes model.ckpt, trained_with.txt and model.pyimg into --out.
    --set gives parameters of anomalib's class. Nothing is downloaded.
    """
    show = Show(quiet=ctx.obj.quiet, as_json=as_json)
    if (good_dir is None) == (root is None):
        raise ParameterError("give a folder GOOD_DIR of good images, or a data set with --root")
    share = parse_share(false_reject)
    given = _settings(settings or ())
    from pyimgano.runs import anomalib_training as runs
    from pyimgano.runs.anomalib_engine import Training

    training = Training(
        model=model,
        parameters=given,
        backbone=backbone_weights,
        size=size,
        epochs=epochs,
        steps=steps,
        batch=batch,
        seed=seed,
    )
    goods: Sequence[Any]
    if root is not None:
        goods = load_category(dataset, root, category, data_options).train
    else:
        goods = good_images(good_dir) if good_dir else ()
    started = time.perf_counter()
    with _progress(show, model, len(goods)) as tell:
        fitted = runs.train(training, goods, out, progress=tell, contamination=share)
    seconds = time.perf_counter() - started
    learned = len(fitted.hashes_)
    show.fact(
        "trained",
        f"{model} of anomalib with {learned} of {count(len(goods), 'good image')} in "
        f"{seconds:.1f} s; the others set the threshold",
    )
    _print_threshold(show, fitted)
    written = [out / name for name in (runs.CHECKPOINT, runs.TRAINED_WITH, runs.MODEL)]
    show.fact("checkpoint", f"{written[0]} ({written[0].stat().st_size / 1e6:.1f} MB)")
    show.fact("model", str(written[2]))
    show.line(f"\nnext: pyimgano predict {shlex.quote(str(written[2]))} NEW_IMAGES --out results")
    show.answer(str(written[2]))
    from pyimgano.runs.evaluate import describe_detector

    places = dict(zip(("checkpoint", "trained_with", "model"), written, strict=True))
    facts = describe_detector(fitted)
    show.result({**places, "n_trained": learned, "seconds": round(seconds, 3), **facts})


@contextmanager
def _progress(show: Show, model: str, goods: int) -> Iterator[Callable[[int, int], None]]:
    """Show that images are read and anomalib is loaded, and then how many batches are done."""
    with ExitStack() as stack:
        reading = f"reading {count(goods, 'good image')} and loading anomalib"
        step = stack.enter_context(show.progress(reading))

        def tell(done: int, total: int) -> None:
            nonlocal step
            if done == 1:
                stack.close()
                doing = show.progress(f"training {model}", to_judge=total, did="batch {} of {}")
                step = stack.enter_context(doing)
            step(done)

        yield tell


def _settings(settings: Sequence[str]) -> dict[str, Any]:
    """Read KEY=VALUE; anomalib's classes say which keys there are, lists stay lists."""
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ParameterError(f"--set takes KEY=VALUE; got {setting!r}")
        value = _parse_value(text)
        found[key.strip()] = list(value) if isinstance(value, tuple) else value
    return found

"""Trains a model by anomalib's own Engine, and calibrates it on images that it has not seen."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.atomic import claimed, output_errors, write_atomic
from pyimgano.datasets._sources import as_sources
from pyimgano.errors import InputError
from pyimgano.groups import block_folds
from pyimgano.models import create_detector
from pyimgano.models._anomalib_torch import quiet, require_anomalib
from pyimgano.runs.anomalib_engine import PURPOSE, fit_engine
from pyimgano.views.intake import learn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pyimgano.detector import Detector
    from pyimgano.runs.anomalib_engine import Training
    from pyimgano.views.intake import Goods

__all__ = ["CHECKPOINT", "MODEL", "TRAINED_WITH", "train"]

CHECKPOINT, TRAINED_WITH, MODEL = "model.ckpt", "trained_with.txt", "model.pyimg"
LEAST = 10
_BLOCKS, _VALIDATION, _CALIBRATION = 10, 6, 7  # of ten blocks: six, one and three
_SCRATCH = ".training-"
_CACHES = ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR")  # of what anomalib loads
_VARIABLES = (*_CACHES, "PL_GLOBAL_SEED", "PL_SEED_WORKERS")  # the last two are Lightning's


def train(
    training: Training,
    goods: Any,
    out: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
    **parameters: Any,
) -> Detector:
    """Train a model on good images, and set its threshold with the last three tenths of them.

    The first six tenths, in capture order, are learned from. The next one is what anomalib
    validates on; no defect is ever shown to it. Nothing is written but into ``out``, and there
    nothing half.

    Parameters
    ----------
    training : Training
        What and how.
    goods : sequence of path, array, PIL image or Sample; or a folder
        Good images.
    out : Path
        Directory that gets the checkpoint, the list of what it was trained with, and the model
        file.
    progress : callable, optional
        Called with the number of batches that were learned from, and of all.
    **parameters
        Of the detector, such as ``contamination``.

    Raises
    ------
    InputError
        If there are too few good images.
    MissingExtra
        If anomalib is missing, or older than 2.7.
    ParameterError
        If the model has no such parameter, or needs weights that were not given.
    ArchiveError
        If the weights are not those of its backbone.
    OutputError
        If the directory holds something else or cannot be written.
    """
    with quiet(), _scratch(out) as scratch:
        require_anomalib("", PURPOSE)
        found = learn(as_sources(goods), any_size=False, bit_depth=None)
        parts = _split(found)
        sources = [found.images.sources[i] for i in (*parts[0], *parts[1])]
        seen = learn(sources, any_size=False, bit_depth=None)
        border = len(parts[0])
        learned, validated = seen.images[:border], seen.images[border:]
        written = scratch / CHECKPOINT
        fit_engine(training, learned, validated, written, progress)
        listed = [f"{digest}  {Path(str(source)).name}" for digest, source in _named(seen)]
        with output_errors(out):
            (out / MODEL).unlink(missing_ok=True)
            write_atomic(out / TRAINED_WITH, "\n".join([*listed, ""]))
            written.replace(out / CHECKPOINT)
        detector = create_detector(
            f"vision_{training.model}_anomalib",
            checkpoint=str(out / CHECKPOINT),
            trained_with=str(out / TRAINED_WITH),
            **parameters,
        )
        detector.fit(sources, calibration=[found.images.sources[i] for i in parts[2]])
        detector.save(out / MODEL)
    return detector


def _named(goods: Goods) -> list[tuple[str, Any]]:
    sources = [getattr(source, "path", source) for source in goods.images.sources]
    names = [source if isinstance(source, str | Path) else "an image" for source in sources]
    return list(zip(goods.hashes, names, strict=True))


def _split(goods: Goods) -> list[list[int]]:
    """Return what is learned from, validated on and calibrated with, as contiguous blocks."""
    blocks = block_folds(goods.groups, _BLOCKS)
    count = int(blocks.max()) + 1
    if count < LEAST:
        raise InputError(
            f"{count} different good images are too few to train with, and to set a threshold "
            f"with others: at least {LEAST} are needed"
        )
    blocks = blocks * _BLOCKS // count
    part = (blocks >= _VALIDATION).astype(int) + (blocks >= _CALIBRATION)
    return [np.flatnonzero(part == which).tolist() for which in range(3)]


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    """Yield a directory in ``out`` for all that anomalib writes, and delete it."""

    def refuse(place: Path) -> None:
        if any(path.name not in {CHECKPOINT, TRAINED_WITH, MODEL} for path in place.iterdir()):
            raise InputError("it has other files in it")

    with ExitStack() as stack:
        for rest in out.glob(f"{_SCRATCH}*") if out.is_dir() else ():
            shutil.rmtree(rest, ignore_errors=True)  # of a training that was killed
        stack.enter_context(claimed(out, "a trained model", refuse))
        with output_errors(out):
            place = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=out)).resolve()
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        stack.callback(_put_back, {name: os.environ.get(name) for name in _VARIABLES})
        os.environ |= dict.fromkeys(_CACHES, str(place))
        yield place


def _put_back(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value

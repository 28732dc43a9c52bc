"""A model of anomalib as its Engine trains it: built without a download, shown our images."""

from __future__ import annotations

import difflib
import inspect
import math
import signal
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.errors import MissingExtra, ParameterError, PyimganoError, UnknownNameError
from pyimgano.features._checkpoint import located
from pyimgano.models._anomalib_backbones import local_backbones
from pyimgano.models._anomalib_models import MODELS
from pyimgano.models._anomalib_torch import COMPONENTS, quiet, require_anomalib
from pyimgano.optional import require
from pyimgano.threads import budget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pyimgano.views.intake import Images

__all__ = ["PURPOSE", "RANDOM", "Training", "fit_engine"]

PURPOSE = "training a model of anomalib"
RANDOM = "random"
_FAILURES = (TypeError, ValueError, RuntimeError, LookupError, AttributeError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How a model is trained.

    Parameters
    ----------
    model : str
        Its short name, such as ``"padim"``.
    parameters : mapping
        Parameters of anomalib's class.
    backbone : str
        A file with the weights of its backbone; ``"random"`` for none.
    size : int, optional
        Side in pixels of the square that it sees; None for its own.
    epochs, steps, batch : int
        How long it learns, where it learns by steps: -1 for no limit but the epochs.
    seed : int
        Of all randomness.

    Raises
    ------
    UnknownNameError
        If there is no such model.
    ParameterError
        If it needs a download that nothing spares, or a number is not positive.
    """

    model: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    backbone: str = ""
    size: int | None = None
    epochs: int = 10
    steps: int = -1
    batch: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        known = MODELS.get(self.model)
        if known is None:
            near = difflib.get_close_matches(self.model.casefold(), MODELS, n=3, cutoff=0.6)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(MODELS)}"
            raise UnknownNameError(f"anomalib has no model {self.model!r} here; {hint}")
        if known.needs and not (known.takes and known.takes in self.parameters):
            way = f": give them, --set {known.takes}=DIR" if known.takes else ""
            raise ParameterError(
                f"{self.model} needs a download of {known.needs}, and nothing is downloaded here"
                f"{way or ': train it with anomalib, and give its checkpoint to pyimgano fit'}"
            )
        numbers = (self.size or 1, self.epochs, self.batch, self.steps if self.steps != -1 else 1)
        if min(numbers) < 1 or self.size == 0 or self.seed < 0:
            raise ParameterError("size, epochs, steps and batch must be positive; seed from 0 on")


def fit_engine(
    training: Training,
    learned: Images,
    validated: Images,
    checkpoint: Path,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Train, and write the checkpoint; all else that anomalib writes lies beside it."""
    torch = require("torch", extra="anomalib", purpose=PURPOSE)
    lightning = require("lightning", extra="anomalib", purpose=PURPOSE)
    from lightning.pytorch.callbacks import LambdaCallback
    from lightning.pytorch.utilities.seed import isolate_rng

    engines, _, _ = (require_anomalib(one, PURPOSE) for one in ("engine", "models.image", "data"))
    torch.set_num_threads(budget())
    with quiet(), isolate_rng(), _interruptible():  # quiet again: Lightning has been loaded
        lightning.seed_everything(training.seed)
        module = _built(training)
        epochs = module.trainer_arguments.get("max_epochs", training.epochs)
        total = epochs * math.ceil(len(learned) / training.batch)
        total = total if training.steps < 0 else min(total, training.steps)
        done = 0

        def tell(*_: Any) -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(done, total)

        engine = engines.Engine(
            default_root_dir=checkpoint.parent,
            max_epochs=epochs,
            max_steps=training.steps,
            devices=1,
            logger=False,
            callbacks=[LambdaCallback(on_train_batch_end=tell)],
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        engine.fit(module, datamodule=_data(training, module, learned, validated))
        engine.trainer.save_checkpoint(checkpoint)


def _built(training: Training) -> Any:
    """Build a model as anomalib has it; its backbone filled from the file."""
    known = MODELS[training.model]
    models = require_anomalib("models.image", PURPOSE)
    if known.kind not in models.__all__:
        raise MissingExtra(f"the anomalib that is installed has no {known.kind}")
    kind = getattr(models, known.kind)
    names = inspect.signature(kind.__init__).parameters.keys() - COMPONENTS
    unknown = sorted(training.parameters.keys() - names)
    if unknown:
        raise ParameterError(
            f"{known.kind} of anomalib has no parameter {unknown[0]!r}; it has: "
            f"{', '.join(sorted(names)) or 'none'}"
        )
    given = {"batch_size": training.batch} if "batch_size" in names else {}
    side = training.size
    with local_backbones(_backbone(training.backbone)) as asked:
        try:
            module = kind(
                pre_processor=kind.configure_pre_processor(None if side is None else (side, side)),
                evaluator=False,
                visualizer=False,
                **{**given, **training.parameters},
            )
        except _FAILURES as error:
            if isinstance(error, PyimganoError):
                raise
            first = str(error).strip().partition("\n")[0]
            raise ParameterError(f"anomalib cannot build this {known.kind}: {first}") from error
    _check_backbone(training, asked)
    if "pre_trained" in names:
        module.hparams["pre_trained"] = False  # whoever loads it finds its weights in it
    return module


def _backbone(given: str) -> Path | None:
    file = None if given in {"", RANDOM} else located(given)
    if file is None and given not in {"", RANDOM}:
        raise ParameterError(f"there is no file of weights {given}")
    return file


def _check_backbone(training: Training, asked: Sequence[str]) -> None:
    if training.backbone and not asked:
        raise ParameterError(f"{training.model} sees through no backbone: give no weights of one")
    if asked and not training.backbone:
        raise ParameterError(
            f"{training.model} needs a download of the weights of {asked[0]}, and nothing is "
            "downloaded here: give them as a file, --backbone-weights FILE, or try it with "
            f"random ones, --backbone-weights {RANDOM}"
        )


def _data(training: Training, module: Any, learned: Images, validated: Images) -> Any:
    """Return the images as anomalib takes them: as the wrapper will show them to the network."""
    lightning = require("lightning", extra="anomalib", purpose=PURPOSE)
    data = require_anomalib("data", PURPOSE)
    from anomalib.data.transforms.utils import extract_transforms_by_type
    from torch.utils.data import DataLoader
    from torchvision.transforms.v2 import Resize

    import torch

    resizes = extract_transforms_by_type(module.pre_processor.transform, Resize)

    class Seen:
        def __init__(self, images: Images) -> None:
            self.images = images

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> Any:
            pixels: NDArray[np.uint8] = np.array(self.images[index])
            tensor = torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float() / 255
            image = resizes[0](tensor) if resizes else tensor
            return data.ImageItem(image=image, gt_label=torch.tensor(0))

    def loader(images: Images, *, shuffle: bool) -> Any:
        return DataLoader(
            Seen(images),
            batch_size=training.batch,
            shuffle=shuffle,
            drop_last=shuffle and len(images) > training.batch and training.model == "ganomaly",
            collate_fn=data.ImageBatch.collate,
        )

    module_of = lightning.LightningDataModule()
    module_of.name, module_of.category = "pyimgano", ""
    module_of.train_batch_size = module_of.eval_batch_size = training.batch
    module_of.train_dataloader = lambda: loader(learned, shuffle=True)
    module_of.val_dataloader = lambda: loader(validated, shuffle=False)
    return module_of


@contextmanager
def _interruptible() -> Iterator[None]:
    """Pass an interrupt on: Lightning ends the process instead, and ignores every further one."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt("nothing was written") from error

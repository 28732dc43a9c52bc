"""Models of anomalib on torch: a checkpoint without unpickling code, an export that is trusted."""

from __future__ import annotations

import inspect
import logging
import os
import re
import threading
import warnings
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.errors import ArchiveError, MissingExtra, ParameterError
from pyimgano.features._weights import DAMAGE
from pyimgano.models._anomalib_backbones import local_backbones
from pyimgano.models._anomalib_formats import TORCH
from pyimgano.models._anomalib_outputs import WHOLE, Answer, read_answers
from pyimgano.optional import require
from pyimgano.threads import budget

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from pyimgano.models._anomalib_formats import Artefact
    from pyimgano.models._anomalib_outputs import Extent

__all__ = ["COMPONENTS", "Module", "open_module", "quiet", "require_anomalib"]

_OLDEST = (2, 7)
_SWITCH = "TRUST_REMOTE_CODE"
_PURPOSE = "a checkpoint or torch export of anomalib"
COMPONENTS = {"self", "pre_processor", "post_processor", "evaluator", "visualizer"}
_FAILURES: tuple[type[Exception], ...] = (ImportError, OSError, RuntimeError, *DAMAGE)
_LOUD = ("lightning.pytorch", "lightning.fabric", "lightning_fabric")
_alone = threading.Lock()


class Module:
    """A Lightning module of anomalib that runs.

    Its own transform is applied, with the antialiasing that training had, and its network is asked
    for raw scores; with ``raw=False`` its post-processor normalises them.
    """

    clamped = crops = False

    def __init__(self, module: Any, *, raw: bool) -> None:
        self._torch = require("torch", extra="anomalib", purpose=_PURPOSE)
        self._torch.set_num_threads(budget())
        self._module = module.eval()
        pre = getattr(module, "pre_processor", None)
        self._transform = getattr(pre, "transform", pre)
        self._finish = None if raw else getattr(module, "post_processor", None)
        self._device = next((one.device for one in module.parameters()), self._torch.device("cpu"))
        self._extents: dict[tuple[int, ...], Extent] = {}

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[Answer]:
        """Return what the model says of RGB images (H, W, 3)."""
        with self._torch.inference_mode():
            given = [self._seen(self._pixels(image)) for image in images]
            extents = [self._extent(image.shape[:2]) for image in images]
            if len({one.shape for one in given}) > 1:
                return [self._ask(one, at)[0] for one, at in zip(given, extents, strict=True)]
            found = self._ask(self._torch.cat(given), WHOLE)
        return [one._replace(extent=at) for one, at in zip(found, extents, strict=True)]

    def _ask(self, batch: Any, extent: Extent) -> list[Answer]:
        found = self._module.model(batch)
        return read_answers(self._finish(found) if self._finish else found, len(batch), extent)

    def _pixels(self, image: NDArray[np.uint8]) -> Any:
        tensor = self._torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].contiguous()
        return tensor.to(self._device, self._torch.float32) / 255

    def _seen(self, tensor: Any) -> Any:
        return self._transform(tensor) if self._transform is not None else tensor

    def _extent(self, size: tuple[int, ...]) -> Extent:
        """Return what share of the image the model sees, if its transform crops."""
        if "Crop" not in repr(self._transform):
            return WHOLE
        if size not in self._extents:
            self._extents[size] = self._cropped(size)
        return self._extents[size]

    def _cropped(self, size: tuple[int, ...]) -> Extent:
        """Send ramps of the two coordinates through the transform, and read off where they end.

        What black and white become tells the normalisation of each channel, which is undone.
        """
        torch = self._torch
        y, x = ((torch.arange(side) + 0.5) / side for side in size)
        ramps = torch.stack(
            [y[:, None].expand(*size), x[None].expand(*size), x[None].expand(*size)]
        )[None].to(self._device)
        black, white = self._seen(torch.zeros_like(ramps)), self._seen(torch.ones_like(ramps))
        seen = ((self._seen(ramps) - black) / (white - black))[0].cpu().double().numpy()
        top, bottom = _ends(seen[0].mean(axis=1))
        left, right = _ends(seen[1].mean(axis=0))
        return top, left, bottom, right


def _ends(ramp: NDArray[np.float64]) -> tuple[float, float]:
    """Return where a ramp that was cut began and ended; its borders may be blurred."""
    count = len(ramp)
    first, second = count // 4, count - 1 - count // 4
    step = (ramp[second] - ramp[first]) / (second - first)
    start = float(ramp[first] - (first + 0.5) * step)
    return start, start + count * float(step)


def open_module(
    artefact: Artefact, device: str, *, trusted: bool, classes: Sequence[str], raw: bool
) -> Module:
    """Open a ``.ckpt`` or an exported ``.pt``.

    Parameters
    ----------
    artefact : Artefact
        What the file is.
    device : str
        ``"auto"``, or a device of torch.
    trusted : bool
        Whether a pickle may run.
    classes : sequence of str
        Names of the classes that it may be, in ``anomalib.models``.
    raw : bool
        Whether scores stay as the network gives them.

    Raises
    ------
    ArchiveError
        If it needs trust that was not given, or does not load.
    MissingExtra
        If anomalib is not installed.
    ParameterError
        If there is no such device.
    """
    if artefact.kind == TORCH and not trusted:
        raise ArchiveError(
            f"{artefact.path} is a pickle that runs code when it is loaded: if you trust where it "
            "comes from, say trust_checkpoint=True; a .ckpt, ONNX or OpenVINO file needs no trust"
        )
    with _alone, quiet():
        require_anomalib("models", _PURPOSE)
        torch = require("torch", extra="anomalib", purpose=_PURPOSE)
        where = _device(device)
        with torch.random.fork_rng(devices=[]):  # networks are built at random, then filled
            if artefact.kind == TORCH:
                module = _unpickled(artefact, where, classes)
            else:
                module = _restored(artefact, where, classes, trusted=trusted)
    return Module(module, raw=raw)


def require_anomalib(module: str, purpose: str) -> Any:
    """Import a module of anomalib, or the package alone, if its version is known here.

    Raises
    ------
    MissingExtra
        If it is not installed, or too old.
    """
    require("anomalib", extra="anomalib", purpose=purpose)
    version = metadata.version("anomalib")
    numbers = re.findall(r"\d+", version)
    if tuple(map(int, numbers[:2])) < _OLDEST:
        raise MissingExtra(
            f"{purpose} needs anomalib 2.7 or newer, and {version} is installed. "
            'Install it with: pip install --upgrade "pyimgano[anomalib]"'
        )
    return require(f"anomalib.{module}".rstrip("."), extra="anomalib", purpose=purpose)


def _unpickled(artefact: Artefact, device: str, classes: Sequence[str]) -> Any:
    deploy = require_anomalib("deploy", _PURPOSE)
    kind = device.partition(":")[0]
    try:
        with _environment(_SWITCH, "1"):
            module = deploy.TorchInferencer(path=artefact.path, device=kind).model
    except _FAILURES as error:
        raise _unloadable(artefact, error) from error
    name = type(module).__name__
    if name not in classes:
        raise ArchiveError(f"{artefact.path} holds a {name}; expected: {', '.join(classes)}")
    return module


def _restored(artefact: Artefact, device: str, classes: Sequence[str], *, trusted: bool) -> Any:
    """Build the network anew and fill it: unless trusted, no code comes out of the file."""
    import torch

    models = require_anomalib("models.image", _PURPOSE)
    safe = require_anomalib("utils.serialization", _PURPOSE)
    given: dict[str, Any] = {"map_location": device, "weights_only": not trusted}
    kinds = (getattr(models, name) for name in classes if name in models.__all__)
    enumerations = [one for kind in kinds for one in kind.checkpoint_safe_globals()]
    try:
        with safe.anomalib_safe_globals(enumerations):
            saved = torch.load(artefact.path, map_location="cpu", weights_only=not trusted)
        kind = _class_of(artefact, models, set(saved.get("hyper_parameters", ())), classes)
        given |= {"evaluator": False, "visualizer": False}
        named = inspect.signature(kind.__init__).parameters
        given |= {"pre_trained": False} if "pre_trained" in named else {}
        given |= {"dtd_dir": artefact.path.parent} if "dtd_dir" in named else {}  # or it downloads
        transform = saved.get("anomalib_pre_processor_config", {}).get("transform")
        if transform is not None:  # the size of some networks follows from that of their input
            pre = require_anomalib("pre_processing", _PURPOSE)
            spec = require_anomalib("pre_processing.utils.spec", _PURPOSE)
            given["pre_processor"] = pre.PreProcessor(spec.spec_to_transform(transform))
        with local_backbones():
            return kind.load_from_checkpoint(artefact.path, **given)
    except _FAILURES as error:
        if isinstance(error, ArchiveError):
            raise
        raise _unloadable(artefact, error) from error


def _class_of(artefact: Artefact, models: Any, given: set[str], classes: Sequence[str]) -> Any:
    """Return the class of a checkpoint, which tells it by the names of its parameters alone."""
    known = {name: getattr(models, name) for name in models.__all__}
    parameters = {
        name: set(inspect.signature(kind.__init__).parameters) - COMPONENTS
        for name, kind in known.items()
    }
    exact = [name for name, names in parameters.items() if names == given - COMPONENTS]
    if len(classes) == 1 and classes[0] not in known:
        raise ArchiveError(
            f"the anomalib that is installed has no {classes[0]}: install one that has"
        )
    if len(classes) == 1 and exact in ([], [classes[0]]):
        return known[classes[0]]
    if len(exact) == 1 and exact[0] in classes:
        return known[exact[0]]
    if exact:
        raise ArchiveError(f"{artefact.path} is a checkpoint of {exact[0]}, not of {classes[0]}")
    raise ArchiveError(
        f"{artefact.path} does not name its model, and no model has just the parameters "
        f"{', '.join(sorted(given))}: use vision_<model>_anomalib"
    )


def _unloadable(artefact: Artefact, error: BaseException) -> ArchiveError:
    first = str(error).strip().partition("\n")[0]
    message = (
        f"{artefact.path}, a {artefact.describe()}, does not load ({type(error).__name__}: {first})"
    )
    if artefact.kind != TORCH and "weights" in first.lower():
        message += (
            ": it holds objects, not only numbers, and nothing was run; load and save it with "
            "anomalib 2.7, or say trust_checkpoint=True if you trust where it comes from"
        )
    return ArchiveError(message)


def _device(device: str) -> str:
    torch = require("torch", extra="anomalib", purpose=_PURPOSE)
    there = {
        name: name == "cpu" or getattr(torch, name).is_available()
        for name in ("cuda", "xpu", "cpu")
        if hasattr(torch, name)
    }
    offered = [name for name, here in there.items() if here]
    if device == "auto":
        return offered[0]
    if device.partition(":")[0] not in offered:
        raise ParameterError(f"there is no device {device!r} here; there are {', '.join(offered)}")
    return device


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set a variable for the block, and put back what was there."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what foreign packages say while they are imported away from the user."""
    loggers = [logging.getLogger(name) for name in ("anomalib", *_LOUD)]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)

"""Models that anomalib has trained, behind our threshold, our maps and our reports."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast, final

import numpy as np

from pyimgano.errors import ArchiveError, CalibrationError, ParameterError
from pyimgano.estimator import DETECTORS
from pyimgano.features._checkpoint import located, sha256_of
from pyimgano.map_detector import MapDetector
from pyimgano.models._anomalib_exports import open_export
from pyimgano.models._anomalib_formats import CHECKPOINT, TORCH, recognise
from pyimgano.models._anomalib_models import MODELS
from pyimgano.models._anomalib_outputs import Answer, Readings, read_answers
from pyimgano.models._anomalib_torch import Module, open_module
from pyimgano.registry import Metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from pyimgano.few_shot import FewShot
    from pyimgano.judging import Reading
    from pyimgano.models._anomalib_formats import Artefact
    from pyimgano.views.intake import Goods, Images

__all__ = ["FAMILY", "MODELS", "AnomalibCheckpoint", "Inferencer"]

FAMILY = "vision_anomalib_checkpoint"
_BATCH = 8
_HASH = re.compile(r"[0-9a-f]{32}\b")
_log = logging.getLogger(__name__)


class Inferencer(Protocol):
    """Whatever judges an image: of anomalib, or of your own."""

    def predict(self, image: NDArray[np.uint8], /) -> Mapping[str, Any] | object:
        """Return ``pred_score`` and, if it draws, ``anomaly_map`` of an RGB image (H, W, 3)."""


class _Learned:
    files_: Mapping[str, str]
    artefact_: str
    draws_: bool
    clamped_: bool
    left_out_: int
    runtime_: Callable[[Sequence[NDArray[np.uint8]]], list[Answer]]


@dataclass(kw_only=True, eq=False)
class AnomalibCheckpoint(_Learned, MapDetector):
    """A model that anomalib has trained; ``fit`` sets its threshold and nothing else.

    **The images given to fit must not be those that it was trained with.** Of those it knows the
    answer: their scores are too low, and tomorrow's good parts would be rejected. Every image is
    taken as out of sample; with a list of what it was trained with this is checked.

    Parameters
    ----------
    checkpoint : str
        A ``.ckpt`` or an exported ``.pt`` of anomalib 2.x, an ``.onnx`` or OpenVINO ``.xml`` of 1.x
        or 2.x. A file that is not there is looked for in the folder ``PYIMGANO_WEIGHTS``.
    trust_checkpoint : bool
        Let a pickle run. A ``.pt`` is one and needs it. It is never saved: say it again to `load`.
    device : str
        ``"auto"``: a GPU if torch has one, else, and for exported files, the processor. Or
        ``"cpu"``, ``"cuda"``, and whatever the runtime calls its devices.
    raw : bool
        Scores as the network gives them. Otherwise ``pred_score`` as it comes, which anomalib
        normalises and cuts to 0..1: what is cut can no longer be told apart.
    trained_with : str
        A text file of the hashes of the training images, each at the start of a line: those
        images are refused.
    leave_out : bool
        Leave them out instead, and set the threshold with the others.
    inferencer : Inferencer or None
        An object of your own instead of a checkpoint. To be saved it needs a ``fingerprint``.

    Notes
    -----
    A model file holds where the checkpoint lies and its SHA-256, never its bytes:
    ``load(path, checkpoint=...)`` says where it lies now, and another file is refused.
    """

    model: ClassVar[str] = ""
    renewable = frozenset({"checkpoint", "device", "trust_checkpoint", "trained_with"})
    unsaved = frozenset({"trust_checkpoint"})

    checkpoint: str = ""
    trust_checkpoint: bool = False
    device: str = "auto"
    raw: bool = True
    trained_with: str = ""
    leave_out: bool = False
    inferencer: Inferencer | None = None

    @property
    def draws(self) -> bool:
        """Whether the model draws; some look at whole images only."""
        return bool(vars(self).get("draws_", True))

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if bool(self.checkpoint) == (self.inferencer is not None):
            raise ParameterError(
                "give a checkpoint or an inferencer, one of them: checkpoint='model.ckpt', or "
                "--set checkpoint=model.ckpt"
            )

    @final
    def content(self) -> dict[str, str]:
        """Return a checksum of all files of the checkpoint, and of the list of images."""
        return {name: _digest(getattr(self, name)) for name in ("checkpoint", "trained_with")}

    @final
    def learned(self) -> dict[str, str]:
        """Return in words what was learned, which model it is, and how many scores were cut."""
        facts = super().learned()
        if not facts:
            return facts
        told = [f"{name} sha256:{digest[:12]}" for name, digest in self.files_.items()]
        facts["learned"] = f"{facts['learned']}, for the threshold only"
        if self.is_calibrated and self.left_out_:
            facts["learned"] += f"; {self.left_out_} that it was trained with were left out"
        facts["model"] = ", ".join([self.artefact_, *told])
        if self.clamped_ and self.is_calibrated:
            cut = np.isin(self.decision_scores_, (0.0, 1.0))
            facts["saturated"] = f"{int(cut.sum())} of {len(cut)} scores are exactly 0 or 1"
        return facts

    @final
    def _fit(self, images: Images) -> None:  # noqa: ARG002 - nothing is learned from them
        self._open({})
        if not self.trained_with:
            _log.warning(
                "only the threshold is set, and only images that %s was not trained with can do "
                "that; trained_with= checks it",
                Path(self.checkpoint).name or "the inferencer",
            )

    @final
    def _learn(self, images: Images, blocks: NDArray[np.int64]) -> Sequence[Reading]:  # noqa: ARG002
        self._fit(images)
        return self._read(images)

    @final
    def _read(self, images: Images) -> Sequence[Reading]:
        answers: list[Answer] = []
        sizes: list[tuple[int, int]] = []
        batch: list[NDArray[np.uint8]] = []
        for i, image in enumerate(images, start=1):
            batch.append(image)
            if len(batch) == _BATCH or i == len(images):
                answers += self.runtime_(batch)
                sizes += [(one.shape[0], one.shape[1]) for one in batch]
                batch = []
        return Readings(answers, sizes)

    @final
    def _infer(self, images: Sequence[NDArray[np.uint8]]) -> list[Reading]:
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        return list(Readings(self.runtime_(images), sizes))

    def _decide(
        self, readings: Sequence[Reading], goods: Goods, method: str, few: FewShot | None
    ) -> None:
        known = _hashes(self.trained_with) if self.trained_with else set[str]()
        kept = [i for i, digest in enumerate(goods.hashes) if digest not in known]
        self.left_out_ = len(goods.hashes) - len(kept)
        if self.left_out_ and not (self.leave_out and kept):
            raise CalibrationError(
                f"{self.left_out_} of {len(goods.hashes)} images are among those that the model "
                f"was trained with ({self.trained_with}): give images of their own"
            )
        if self.left_out_:
            goods = goods.take(kept)
            readings = cast(Readings, readings).take(kept)
        super()._decide(readings, goods, method, few)

    def _set_threshold(self, readings: Sequence[Reading], goods: Goods, method: str) -> None:  # noqa: ARG002
        super()._set_threshold(readings, goods, "separate images")
        if self.clamped_ and self.threshold_ >= 1:
            del self.threshold_, self.pixel_threshold_, self.certainty_
            raise CalibrationError(
                f"scores of good images reach 1, where {self.checkpoint} cuts them: no defect "
                "could exceed them; export it with PostProcessor(enable_normalization=False)"
            )

    def _calibrate_maps(self, readings: Sequence[Reading], kept: Sequence[int]) -> float | None:
        self.draws_ = readings[0].map is not None
        return super()._calibrate_maps(readings, kept)

    def _open(self, expected: Mapping[str, str]) -> None:
        """Open the checkpoint; its checksums must be the expected ones, if there are any."""
        if self.inferencer is not None:
            self.runtime_, self.files_ = _injected(self.inferencer, raw=self.raw), {}
            self.artefact_, self.clamped_ = type(self.inferencer).__name__, False
            return
        path = located(self.checkpoint)
        if path is None:
            raise ArchiveError(
                f"there is no checkpoint {self.checkpoint}; say where it lies: checkpoint=..."
            )
        artefact = recognise(path)
        self._require_model(artefact)
        found = {file.name: sha256_of(file) for file in artefact.files}
        for old, new in zip(expected.items(), found.items(), strict=False):
            if old[1] != new[1]:
                raise ArchiveError(
                    f"{path.with_name(new[0])} is not the {old[0]} of this model file"
                )
        opened: Any = self._opened(artefact)
        if opened.clamped:
            _log.warning("%s: %s", path, _CLAMPED)
        if opened.crops:
            _log.warning("%s cuts images before it looks: its maps are stretched over them", path)
        self.runtime_, self.files_, self.clamped_ = opened, found, opened.clamped
        self.artefact_ = artefact.describe()

    def _opened(self, artefact: Artefact) -> Any:
        if artefact.kind not in {CHECKPOINT, TORCH}:
            return open_export(artefact, self.device)
        known = [MODELS[self.model]] if self.model else MODELS.values()
        return open_module(
            artefact,
            self.device,
            trusted=self.trust_checkpoint,
            classes=[one.kind for one in known],
            raw=self.raw,
        )

    def _require_model(self, artefact: Artefact) -> None:
        if self.model and artefact.model and artefact.model != MODELS[self.model].module:
            names = [name for name, one in MODELS.items() if one.module == artefact.model]
            hint = f"use vision_{names[0]}_anomalib" if names else f"use {FAMILY}"
            raise ArchiveError(f"{artefact.path} is a {artefact.describe()}: {hint}")

    def _state(self) -> dict[str, Any]:
        state = super()._state()
        del state["runtime_"]
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        super()._restore(state)
        self._open(state["files_"])


_CLAMPED = (
    "its scores were normalised and cut to 0..1 when it was exported, and those that were cut can "
    "no longer be told apart; export it with PostProcessor(enable_normalization=False)"
)


def _digest(given: str) -> str:
    path = located(given)
    try:
        files = recognise(path).files if path else ()
    except ArchiveError:  # no artefact: the list, or what fit will refuse
        files = (path,) if path else ()
    return "-".join(sha256_of(file)[:32] for file in files)


def _hashes(path: str) -> set[str]:
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(
            f"the list of training images {path} cannot be read: {error}"
        ) from error
    found = {line[:32] for line in lines if _HASH.match(line)}
    if not found:
        raise ParameterError(
            f"{path} lists no hashes: 32 hexadecimal digits at the start of a line"
        )
    return found


def _injected(
    inferencer: Any, *, raw: bool
) -> Callable[[Sequence[NDArray[np.uint8]]], list[Answer]]:
    """Return an inferencer as a runtime; anomalib's own is asked for its raw scores."""
    module = getattr(inferencer, "model", None)
    if raw and hasattr(module, "post_processor") and hasattr(module, "pre_processor"):
        return Module(module, raw=True)

    def judge(images: Sequence[NDArray[np.uint8]]) -> list[Answer]:
        return [read_answers(inferencer.predict(np.array(image)), 1)[0] for image in images]

    return judge


def _register() -> None:
    """Enter the detector, and its aliases: subclasses that know their model and nothing else."""
    facts: dict[str, Any] = {
        "paper": "Akcay et al., Anomalib, ICIP 2022, arXiv 2202.08341",
        "licence": "Apache-2.0 (anomalib); weights: that of the checkpoint",
        "extra": "anomalib",
        "uses": ("anomalib", "openvino", "onnxruntime"),
        "details": (("file", "checkpoint=: a .ckpt, .pt, .onnx or .xml of anomalib"),),
    }
    summary = "A model that anomalib has trained, behind our threshold, maps and reports."
    DETECTORS.register(FAMILY, Metadata(summary=summary, **facts))(AnomalibCheckpoint)
    for name, one in MODELS.items():
        parts = {"model": name, "__doc__": f"{one.kind} of anomalib.", "__module__": __name__}
        kind = type(f"Anomalib{one.kind}", (AnomalibCheckpoint,), parts)
        summary = f"{one.kind} as anomalib has trained it."
        entry = Metadata(summary=summary, maps=one.maps, family=FAMILY, **facts)
        DETECTORS.register(f"vision_{name}_anomalib", entry)(kind)


_register()

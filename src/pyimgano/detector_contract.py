"""The contract of a detector, check by check."""

from __future__ import annotations

import contextlib
import copy
import io
import socket
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimgano.calibration import false_reject_bound
from pyimgano.errors import InputError, NotFittedError, UnjudgedError
from pyimgano.estimator import DETECTORS
from pyimgano.inspection import Verdict
from pyimgano.map_detector import MapDetector
from pyimgano.metrics import auroc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from pyimgano.detector import Detector

__all__ = [
    "DETECTOR_CHECKS",
    "Bench",
    "check_detector",
    "require",
    "texture",
]

SIDE = 96
N_GOOD = 24
PLANTED = (16, 32, 56, 76)  # off the centre, so that a mirrored or transposed map is caught
DETECTOR_CHECKS: dict[str, Callable[[Bench], None]] = {}


@dataclass(frozen=True, eq=False)
class Bench:
    """A detector factory with generated images: good ones, fresh good ones, and defective ones."""

    factory: Callable[[], Detector]

    @cached_property
    def good(self) -> list[NDArray[np.uint8]]:
        """Training images."""
        return [texture(seed) for seed in range(N_GOOD)]

    @cached_property
    def fresh(self) -> list[NDArray[np.uint8]]:
        """Good images that nobody learned from."""
        return [texture(1000 + seed) for seed in range(12)]

    @cached_property
    def bad(self) -> list[NDArray[np.uint8]]:
        """Images with a planted defect at `PLANTED`."""
        return [_plant(texture(2000 + seed)) for seed in range(8)]

    @cached_property
    def fitted(self) -> Detector:
        """A detector fitted on `good`; checks leave it as it is."""
        return self.factory().fit(self.good)

    def batches(self, images: Sequence[Any]) -> list[list[Any]]:
        """Return each image in a batch: alone or, if they judge each other, before good ones."""
        company = self.fresh[:8] if self.fitted.is_transductive else []
        return [[image, *company] for image in images]

    def scores(self, images: Sequence[Any]) -> NDArray[np.float64]:
        """Return the score of each image in its batch."""
        found = [self.fitted.decision_function(batch)[0] for batch in self.batches(images)]
        return np.array(found)


def check_detector(factory: Callable[[], Detector]) -> None:
    """Run the whole contract suite on detectors made by ``factory``.

    Parameters
    ----------
    factory : callable
        Returns a new unfitted detector each time.

    Raises
    ------
    AssertionError
        With one sentence, where the contract is broken.
    """
    bench = Bench(factory)
    for check in DETECTOR_CHECKS.values():
        check(bench)


def _check(function: Callable[[Bench], None]) -> Callable[[Bench], None]:
    DETECTOR_CHECKS[function.__name__.removeprefix("_")] = function
    return function


@_check
def _parameters(bench: Bench) -> None:
    made = bench.factory()
    require(not [name for name in vars(made) if name.endswith("_")], "__init__ must not learn")
    require(repr(made.clone()) == repr(made), "a clone must have the same parameters")
    require(made.clone() is not made, "a clone must be another object")
    require(type(made).__name__ in repr(made), "repr must name the class")


@_check
def _unfitted(bench: Bench) -> None:
    made = bench.factory()
    for use in (made.decision_function, made.predict, lambda x: list(made.inspect(x))):
        _require_error(NotFittedError, use, bench.fresh[:1])
    _require_error(NotFittedError, lambda _: made.threshold_, None)


@_check
def _shapes(bench: Bench) -> None:
    scores = bench.fitted.decision_function(bench.fresh)
    labels = bench.fitted.predict(bench.fresh)
    learned = bench.fitted.decision_scores_
    require(scores.shape == (len(bench.fresh),), "scores must have the shape (n,)")
    require(scores.dtype == np.float64 and labels.dtype == np.int64, "float64 scores, int64 labels")
    require(learned.shape == (N_GOOD,) and bool(np.isfinite(learned).all()), "decision_scores_")
    require(
        np.array_equal(labels, scores > bench.fitted.threshold_), "predict is score > threshold"
    )


@_check
def _decides(bench: Bench) -> None:
    good = bench.fitted.decision_function(bench.fresh)
    bad = bench.scores(bench.bad)
    labels = [0] * len(good) + [1] * len(bad)
    require(auroc(labels, np.concatenate([good, bad])) >= 0.9, "planted defects must score higher")
    certainty = bench.fitted.certainty_
    rejected = int((good > bench.fitted.threshold_).sum())
    least = false_reject_bound(len(good), rejected, 0.01) if rejected else 0.0
    bound = 1.0 if certainty.bound is None else certainty.bound
    require((least or 0.0) <= bound, f"{rejected} of {len(good)} fresh good images are rejected")


@_check
def _refit(bench: Bench) -> None:
    state = np.random.get_state()  # noqa: NPY002 - it must not change
    again = bench.factory().fit(bench.bad).fit(bench.good)
    scores, expected = again.decision_function(bench.bad), bench.fitted.decision_function(bench.bad)
    require(np.array_equal(scores, expected), "a refit must forget, and a repeat be bit-equal")
    require(again.threshold_ == bench.fitted.threshold_, "a repeat must give the same threshold")
    now = np.random.get_state()  # noqa: NPY002
    require(str(state) == str(now), "the global random state must not be touched")


@_check
def _independence(bench: Bench) -> None:
    batch = bench.fresh + bench.bad
    scores = bench.fitted.decision_function(batch)
    order = np.random.default_rng(0).permutation(len(batch))
    shuffled = bench.fitted.decision_function([batch[i] for i in order])
    alone = scores[:3] if bench.fitted.is_transductive else bench.scores(batch[:3])
    small = [one.score for one in bench.fitted.inspect(batch, batch_size=3)]
    least = 1e-6 * float(np.abs(scores).max())  # a share of a score near 0 says nothing
    for name, found, expected in (
        ("order", shuffled, scores[order]),
        ("a subset", alone, scores[:3]),
        ("the batch size", small, scores),
    ):
        same = np.allclose(found, expected, rtol=1e-5, atol=least)
        require(same, f"{name} must not change a score")
    one = next(iter(bench.fitted.inspect(batch[:1])))
    judged = one.verdict is not Verdict.ERROR
    require(judged is not bench.fitted.is_transductive, "a batch of one: see is_transductive")


@_check
def _forms(bench: Bench) -> None:
    from PIL import Image

    image = bench.bad[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ünïcode.png"
        Image.fromarray(image).save(path)
        deep = image.astype(np.uint16) * 257
        forms = [image, path, str(path), Image.fromarray(image), deep]
        forms.append(np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]))
        before = copy.deepcopy(image)
        scores = bench.scores(forms)
    agree = bool(np.ptp(scores) <= 1e-6 * abs(scores[0]))
    require(agree, f"forms of one image must agree: {scores}")
    require(np.array_equal(before, image), "an input must not be changed")
    grey = bench.scores([image[..., 0], image[..., :1]])
    require(grey[0] == grey[1], "a grey image is (H, W) or (H, W, 1)")


@_check
def _sizes(bench: Bench) -> None:
    odd = bench.bad[0][:80, :88]
    verdict = next(iter(bench.fitted.inspect([odd]))).verdict
    require(verdict is Verdict.ERROR, "another size than that of all good images is an ERROR")
    mixed = bench.factory().fit([*bench.good[:-1], bench.good[-1][:80, :88]])
    scores = mixed.decision_function([odd, bench.bad[1]])
    require(bool(np.isfinite(scores).all()), "mixed sizes work")
    if isinstance(mixed, MapDetector) and mixed.draws:
        maps = mixed.predict_anomaly_map([odd, bench.bad[1]])
        require([m.shape for m in maps] == [odd.shape[:2], (SIDE, SIDE)], "maps in original pixels")


@_check
def _maps(bench: Bench) -> None:
    detector = bench.fitted
    if not isinstance(detector, MapDetector) or not detector.draws:
        return
    maps = np.asarray(detector.predict_anomaly_map(bench.bad))
    expected = (len(bench.bad), SIDE, SIDE)
    require(maps.shape == expected and maps.dtype == np.float32, "maps: float32 (n, H, W)")
    require(bool(np.isfinite(maps).all()), "maps must be finite")
    if detector.is_transductive:
        maps = np.stack(
            [detector.predict_anomaly_map(each)[0] for each in bench.batches(bench.bad)]
        )
    else:
        alone = detector.get_anomaly_map(bench.bad[0])
        same = np.allclose(alone, maps[0], rtol=1e-5, atol=1e-6)
        require(same, "a map alone equals that of a batch")
    top, bottom, left, right = PLANTED
    for drawn in maps:
        y, x = np.unravel_index(int(drawn.argmax()), drawn.shape)
        near = top - 12 <= y < bottom + 12 and left - 12 <= x < right + 12
        require(bool(near), f"the peak ({y}, {x}) must lie on the planted defect")


@_check
def _explains(bench: Bench) -> None:
    detector = bench.fitted
    if isinstance(detector, MapDetector):
        said = detector._explain(bench.bad[0], [(0.25, 0.5), (1.0, 0.0)])
        require(len(said) in {0, 2}, "each place has its evidence, or none has")
        for left, top, right, bottom in [one.good_box or one.box for one in said]:
            require(0 <= left < right <= 1, "boxes are shares of the width")
            require(0 <= top < bottom <= 1, "boxes are shares of the height")
        known = all(one.good is None or one.good < len(detector.hashes_) for one in said)
        require(known, "a nearest good patch lies in an image that was learned from")


@_check
def _bad_input(bench: Bench) -> None:
    _require_error(InputError, bench.factory().fit, [])
    _require_error(InputError, bench.fitted.decision_function, [])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "broken.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
        blank = np.full((SIDE, SIDE, 3), 7, np.uint8)
        floats = np.full((SIDE, SIDE, 3), np.nan)
        mixed = [bench.bad[0], path, blank, floats, Path(folder) / "none.png", bench.bad[1]]
        found = list(bench.fitted.inspect(mixed))
        error = _require_error(UnjudgedError, bench.fitted.predict, mixed)
    verdicts = [one.verdict is Verdict.ERROR for one in found]
    require(verdicts == [False, True, True, True, True, False], f"ERROR records: {verdicts}")
    require(all(one.error for one in found[1:5]), "an ERROR gives its reason")
    expected = bench.fitted.decision_function([bench.bad[0], bench.bad[1]])[1]
    require(bool(np.isclose(found[5].score, expected, rtol=1e-5)), "others go on")
    require(len(getattr(error, "inspections", ())) == len(mixed), "partial results are kept")


@_check
def _saves(bench: Bench) -> None:
    name = DETECTORS.name_of(type(bench.fitted))
    require(name is not None, "the detector must be registered")
    code = (
        "import sys, importlib, numpy as np, pyimgano; importlib.import_module(sys.argv[1]);"
        "d = pyimgano.load(sys.argv[2]);"
        "np.save(sys.argv[4], d.decision_function(list(np.load(sys.argv[3]))))"
    )
    with tempfile.TemporaryDirectory() as folder:
        model, images, out = (Path(folder) / n for n in ("model.pyimg", "images.npy", "out.npy"))
        bench.fitted.save(model)
        np.save(images, np.stack(bench.bad))
        members = zipfile.ZipFile(model).namelist()
        plain = all(m.endswith((".npy", ".json", ".sha256")) for m in members)
        require(plain, f"a model file holds arrays and JSON only: {members}")
        command = [sys.executable, "-c", code, type(bench.fitted).__module__]
        done = subprocess.run(  # noqa: S603 - our own interpreter on our own file
            [*command, *map(str, (model, images, out))], capture_output=True, check=False, text=True
        )
        require(done.returncode == 0, f"a fresh process must load the model: {done.stderr}")
        loaded = np.load(out)
    expected = bench.fitted.decision_function(bench.bad)
    require(np.array_equal(loaded, expected), "a loaded model must be bit-equal")


@_check
def _quiet(bench: Bench) -> None:
    output = io.StringIO()
    with _no_network(), contextlib.redirect_stdout(output):
        bench.factory().fit(bench.good[:3]).decision_function(bench.bad[:2])
    require(not output.getvalue(), "a detector must not print")


def texture(seed: int) -> NDArray[np.uint8]:
    """Render a part with a fixed pattern, and light, noise and shift of its own."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] + generator.normal(0, 0.4, 2)[:, None, None]
    wave = 24 * np.sin(x / 5) + 18 * np.cos(y / 7) + 20 * ((x // 24 + y // 24) % 2)
    image = 110 + wave[..., None] * (1.0, 0.8, 0.6) + generator.normal(0, 3, (SIDE, SIDE, 3))
    lit = np.clip(image * generator.uniform(0.97, 1.03), 0, 255)
    return np.asarray(lit, dtype=np.uint8)


def _plant(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    top, bottom, left, right = PLANTED
    image[top:bottom, left:right] = (225, 60, 40)
    image[top + 4 : bottom : 5, left:right] = 20
    return image


@contextlib.contextmanager
def _no_network() -> Iterator[None]:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a detector must not use the network")

    opened = socket.socket.connect
    socket.socket.connect = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        socket.socket.connect = opened  # type: ignore[method-assign]


def require(condition: bool, message: str) -> None:
    """Raise ``AssertionError`` with the message unless the condition holds."""
    if not condition:
        raise AssertionError(message)


def _require_error(kind: type[Exception], function: Callable[[Any], Any], given: Any) -> Exception:
    try:
        function(given)
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected")

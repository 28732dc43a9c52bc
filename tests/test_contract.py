"""The contract suite over the whole registry; and broken objects that its checks must catch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import fakes
import miniatures
from pyimgano import testing
from pyimgano.datasets.base import load_dataset
from pyimgano.embedding_detector import EmbeddingDetector
from pyimgano.estimator import DETECTORS
from pyimgano.features.base import EXTRACTORS
from pyimgano.models import create_detector
from pyimgano.models.knn_index import INDEXES, create_index
from pyimgano.records import Sample
from pyimgano.testing import DETECTOR_CHECKS, Bench

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Those that want a file of the user's are tested where such a file is made.
_EXTRACTORS = (
    "tiny",
    *(e.name for e in EXTRACTORS.entries() if "file" not in dict(e.metadata.details)),
)


def _cases() -> list[Any]:
    """Every detector of the registry, on every extractor if it works on features."""
    cases = []
    for entry in DETECTORS.entries():
        if "extractor" in dict(entry.metadata.details):
            continue  # it wants one of a kind, and is tested where such a one is made
        if "file" in dict(entry.metadata.details):
            continue
        names = _EXTRACTORS if issubclass(entry.value, EmbeddingDetector) else ("",)
        for name in names:
            missing = list(entry.metadata.missing)
            if name in EXTRACTORS:
                missing += EXTRACTORS.entry(name).metadata.missing
            marks = [pytest.mark.skip(reason=f"needs {', '.join(missing)}")] if missing else []
            label = f"{entry.name}-{name}".strip("-")
            cases.append(pytest.param((entry.name, name), id=label, marks=marks))
    return cases


@pytest.fixture(scope="module", params=_cases())
def bench(request: pytest.FixtureRequest, named_fakes: Path) -> Iterator[Bench]:
    name, extractor = request.param
    parameters = {"extractor": extractor, "size": 96} if extractor else {}
    return Bench(lambda: create_detector(name, **parameters))


@pytest.mark.parametrize("check", DETECTOR_CHECKS)
def test_detectors_keep_the_contract(bench: Bench, check: str) -> None:
    DETECTOR_CHECKS[check](bench)


@pytest.fixture(scope="module", params=[fakes.CellDetector, fakes.MutualDetector])
def small(request: pytest.FixtureRequest, named_fakes: Path) -> Bench:
    return Bench(request.param)


@pytest.mark.parametrize("check", DETECTOR_CHECKS)
def test_a_small_detector_keeps_the_contract(small: Bench, check: str) -> None:
    DETECTOR_CHECKS[check](small)


@pytest.mark.parametrize(
    ("check", "broken"), fakes.BROKEN, ids=[f"{c}-{b.__name__}" for c, b in fakes.BROKEN]
)
def test_broken_detectors_are_caught(
    named_fakes: Path, monkeypatch: pytest.MonkeyPatch, check: str, broken: type[Any]
) -> None:
    """A child process takes the name for the sound detector, which knows nothing of the fault."""
    monkeypatch.delitem(DETECTORS._entries, "cells")
    with fakes.entered(DETECTORS, "cells", broken), pytest.raises(AssertionError):
        DETECTOR_CHECKS[check](Bench(broken))


def test_every_check_is_proven_able_to_fail() -> None:
    assert {check for check, _ in fakes.BROKEN} == set(DETECTOR_CHECKS)


def test_unregistered_detectors_are_caught() -> None:
    with pytest.raises(AssertionError, match="must be registered"):
        DETECTOR_CHECKS["saves"](Bench(fakes.KeepsSilent))


def test_check_detector_runs_all_checks(named_fakes: Path) -> None:
    testing.check_detector(fakes.CellDetector)
    broken = fakes.entered(DETECTORS, "prints", fakes.Prints)
    with broken, pytest.raises(AssertionError, match="print"):
        testing.check_detector(fakes.Prints)


def test_a_detector_without_maps_passes_the_map_check(named_fakes: Path) -> None:
    DETECTOR_CHECKS["maps"](Bench(fakes.LevelDetector))


@pytest.mark.parametrize("name", _EXTRACTORS)
def test_extractors_keep_the_protocol(named_fakes: Path, name: str) -> None:
    missing = EXTRACTORS.entry(name).metadata.missing
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    testing.check_extractor(EXTRACTORS[name]())


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("broken", fakes.BROKEN_EXTRACTORS)
def test_broken_extractors_are_caught(broken: type[Any]) -> None:
    with pytest.raises(AssertionError):
        testing.check_extractor(broken())


@pytest.mark.parametrize("name", sorted(INDEXES))
def test_indexes_keep_the_protocol(name: str) -> None:
    facts = INDEXES.entry(name).metadata
    if facts.missing:
        pytest.skip(f"needs {', '.join(facts.missing)}")
    testing.check_index(lambda: create_index(name), exact=facts.exact)


@pytest.mark.parametrize("broken", fakes.BROKEN_INDEXES)
def test_broken_indexes_are_caught(broken: type[Any]) -> None:
    with pytest.raises(AssertionError):
        testing.check_index(broken)


def test_data_sets_keep_the_contract(tmp_path: Path) -> None:
    miniatures.mvtec(tmp_path / "mvtec" / "screw")
    miniatures.btad(tmp_path / "btad")
    (tmp_path / "visa").mkdir()
    miniatures.visa(tmp_path / "visa")
    testing.check_dataset(load_dataset("mvtec", tmp_path / "mvtec", category="screw"))
    testing.check_dataset(load_dataset("btad", tmp_path / "btad", category="02"))
    testing.check_dataset(load_dataset("visa", tmp_path / "visa", category="candle"))


def test_a_data_set_without_masks_keeps_the_contract(tmp_path: Path) -> None:
    for i in range(3):
        miniatures.draw(tmp_path / "good" / f"{i}.png", value=90 + i)
        miniatures.draw(tmp_path / "bad" / f"{i}.png", value=150 + i)
    data = load_dataset("custom", tmp_path)
    assert not data.info.has_masks
    testing.check_dataset(data)


def test_broken_data_sets_are_caught(tmp_path: Path) -> None:
    root = miniatures.mvtec(tmp_path / "screw")
    data = load_dataset("mvtec", root)
    good, bad = data.train, [s for s in data.test if s.label == 1]
    faults = {
        "train is good": {"train": (*good, bad[0])},
        "have a label": {"test": (*data.test, Sample(good[0].path, split="test"))},
        "once": {"test": (*data.test, data.test[0])},
        "info": {"train": good[:2]},
        "is not empty": {
            "test": (Sample(bad[0].path, split="test", label=0, mask_path=bad[0].mask_path),)
        },
    }
    for message, changed in faults.items():
        broken = load_dataset("mvtec", root)
        for name, value in changed.items():
            object.__setattr__(broken, name, value)
        with pytest.raises(AssertionError, match=message):
            testing.check_dataset(broken)
    miniatures.draw_mask(bad[0].mask_path, value=0)
    with pytest.raises(AssertionError, match="problems"):
        testing.check_dataset(load_dataset("mvtec", root))

"""Fixtures of the whole suite: deterministic properties, and the fakes known by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

import fakes
from cli_calls import SMALL, call, write_parts
from pyimgano.estimator import DETECTORS
from pyimgano.features.base import EXTRACTORS

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile(
    "deterministic",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("deterministic")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what the tests keep out of the user's cache folder."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small generated parts, to be read only."""
    return write_parts(tmp_path_factory.mktemp("shared") / "data")


@pytest.fixture(scope="session")
def shared_model(shared_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of them that takes any size, to be read only."""
    path = tmp_path_factory.mktemp("shared") / "model.pyimg"
    given = ("fit", shared_parts / "train" / "good", "-o", path, "--set", "any_size=true")
    assert call(*given, *SMALL).code == 0
    return path


@pytest.fixture(scope="module")
def named_fakes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Enter the fakes in the registries, here by hand, in child processes as a plugin would."""
    folder = tmp_path_factory.mktemp("plugins")
    fakes.distribution(
        folder,
        "pyimgano-fakes",
        {
            "pyimgano.extractors": {"tiny": "fakes:TinyExtractor"},
            "pyimgano.detectors": {
                "cells": "fakes:CellDetector",
                "level": "fakes:LevelDetector",
                "mutual": "fakes:MutualDetector",
            },
        },
    )
    before = filter(None, [os.environ.get("PYTHONPATH")])
    path = os.pathsep.join([str(folder), str(Path(__file__).parent), *before])
    with (
        pytest.MonkeyPatch.context() as patch,
        fakes.entered(EXTRACTORS, "tiny", fakes.TinyExtractor),
        fakes.entered(DETECTORS, "cells", fakes.CellDetector),
        fakes.entered(DETECTORS, "level", fakes.LevelDetector),
        fakes.entered(DETECTORS, "mutual", fakes.MutualDetector),
    ):
        patch.setenv("PYTHONPATH", path)
        yield folder

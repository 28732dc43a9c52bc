"""Models are trained once for all tests; without anomalib nothing here is collected."""

from __future__ import annotations

import sys

import pytest

from pyimgano.optional import is_available

# OpenVINO's converter reports each export to its makers from a forked process, and a fork while
# BLAS works can hang; it goes without where this package is not there.
sys.modules.setdefault("openvino_telemetry", None)

collect_ignore_glob = [] if is_available("anomalib") else ["*.py"]


class Zoo(dict):
    """Models by name, trained when they are first asked for."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def __missing__(self, name):
        from anomalib_models.trained import trained

        return self.setdefault(name, trained(name, self.folder / name))


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    return Zoo(tmp_path_factory.mktemp("zoo"))

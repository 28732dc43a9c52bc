"""Models are trained once for all tests; without anomalib nothing here is collected."""

from __future__ import annotations

import pytest

from pyimgano.optional import is_available

collect_ignore_glob = [] if is_available("anomalib") else ["*.py"]


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    from anomalib_models.trained import MODELS, trained

    folder = tmp_path_factory.mktemp("zoo")
    return {name: trained(name, folder / name) for name in MODELS}

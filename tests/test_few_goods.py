"""From 4 to 8 good images: the bound that is stated holds for good parts that come later."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.stats import binom

import fakes
from pyimgano import create_detector
from pyimgano.calibration import CONFIDENCE
from pyimgano.optional import is_available
from pyimgano.synthesis import render_part

if TYPE_CHECKING:
    from numpy.typing import NDArray

FITS, FRESH = 30, 30
needs_pyod = pytest.mark.skipif(not is_available("pyod"), reason="needs pyod")


@cache
def parts() -> list[NDArray[np.uint8]]:
    return [render_part(np.random.default_rng(i), (96, 96)).image for i in range(150)]


@pytest.mark.parametrize("count", [4, 8])
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        pytest.param("vision_patchcore", {}, id="patchcore"),
        *(
            pytest.param("vision_pyod", {"method": method}, marks=needs_pyod, id=method)
            for method in ("ECOD", "PCA")
        ),
    ],
)
def test_false_rejects_of_fresh_goods_keep_to_the_bound(
    name: str, parameters: dict[str, Any], count: int
) -> None:
    rng, broken, rejected = np.random.default_rng(count), 0, 0
    for _ in range(FITS):
        chosen = [parts()[i] for i in rng.permutation(len(parts()))[: count + FRESH]]
        detector = create_detector(
            name, extractor=fakes.TinyExtractor(), size=96, pad=0, **parameters
        ).fit(chosen[:count])
        bad = int(detector.predict(chosen[count:]).sum())
        rejected += bad
        broken += bad > binom.ppf(CONFIDENCE, FRESH, detector.certainty_.bound)
    assert broken <= binom.ppf(0.99, FITS, 1 - CONFIDENCE)
    assert rejected <= 1.5 * FITS * FRESH / (count + 1)  # as many as exchangeable scores promise

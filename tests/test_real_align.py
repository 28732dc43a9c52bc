"""Real screws: a few good images suffice to turn them, whichever they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyimgano.datasets import load_dataset
from pyimgano.views.align import Align
from pyimgano.views.aligned import Aligned
from pyimgano.views.intake import Images, Intake

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        "PYIMGANO_REAL_DATA" not in os.environ,
        reason="PYIMGANO_REAL_DATA does not name a folder of real images",
    ),
]


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_twenty_screws_are_turned_whichever_they_are(first: int) -> None:
    """In the first mean of every fourth screw, two lie upside down."""
    screws = load_dataset(
        "mvtec", Path(os.environ["PYIMGANO_REAL_DATA"]) / "mvtec", category="screw"
    )
    goods = Images(screws.train[first::4], Intake(((1024, 1024),)))
    learned = Align().learn(goods)
    assert isinstance(learned, Aligned)
    assert learned.usual < 0.4

"""Records are frozen and validated; the certainty speaks in full sentences."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pyimgano.errors import ParameterError
from pyimgano.records import Certainty, Region, Sample, images_needed

CERTAINTY = {
    "rule": "the largest of 20 good images",
    "method": "leave one out",
    "n": 20,
    "dropped": 0,
    "rank": 1,
    "target": 0.05,
    "confidence": 0.95,
    "bound": 0.139,
    "bound_without_suspects": 0.139,
    "certified": True,
}
REGION = {
    "bbox": (0, 0, 4, 3),
    "area": 12.0,
    "area_fraction": 0.1,
    "centroid": (1.5, 1.0),
    "peak": 2.0,
}


def test_sample_turns_texts_into_paths() -> None:
    sample = Sample("a/b.png", mask_path="m.png")
    assert sample.path == Path("a/b.png")
    assert sample.mask_path == Path("m.png")
    assert (sample.label, sample.group, sample.defect) == (None, None, "good")
    assert Sample(Path("x")).mask_path is None


@pytest.mark.parametrize("label", [2, -1, "good"])
def test_sample_refuses_other_labels(label: Any) -> None:
    with pytest.raises(ParameterError, match="label must be 0, 1 or None"):
        Sample("a.png", label=label)


@pytest.mark.parametrize(
    "changed",
    [
        {"bbox": (4, 0, 4, 3)},
        {"bbox": (0, 3, 4, 3)},
        {"bbox": (-1, 0, 4, 3)},
        {"bbox": (0, -1, 4, 3)},
        {"area_fraction": 0.0},
        {"area_fraction": 1.01},
    ],
)
def test_region_refuses_the_impossible(changed: dict[str, Any]) -> None:
    Region(**REGION)
    with pytest.raises(ParameterError):
        Region(**{**REGION, **changed})


@pytest.mark.parametrize("changed", [{"n": -1}, {"dropped": -1}, {"dropped": 21}])
def test_certainty_refuses_impossible_counts(changed: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="impossible counts"):
        Certainty(**{**CERTAINTY, **changed})


@pytest.mark.parametrize(
    "record",
    [Sample("a"), Region(**REGION), Certainty(**CERTAINTY)],
    ids=lambda r: type(r).__name__,
)
def test_records_are_frozen_and_slotted(record: Any) -> None:
    first = dataclasses.fields(record)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, first, 1)
    assert not hasattr(record, "__dict__")
    assert record != dataclasses.replace(record)


def test_certainty_says_what_more_images_would_certify() -> None:
    text = Certainty(**CERTAINTY).describe()
    assert text.startswith("threshold: the largest of 20 good images; at most 13.9 % of good parts")
    assert "certifying 5 % needs 59 images, 1 % needs 299" in text
    assert "suspect" not in text
    assert "not certified" not in text
    assert text.endswith("same camera, light and process.")


def test_certainty_names_suspects_and_targets_that_are_out_of_reach() -> None:
    base = {**CERTAINTY, "dropped": 2, "certified": False, "bound_without_suspects": 0.08}
    text = Certainty(**base).describe()
    assert "(2 suspects were kept out; 8 % if really defective)" in text
    assert "the target of 5 % is not certified" in text
    text = Certainty(**{**base, "dropped": 1, "bound_without_suspects": None}).describe()
    assert "(1 suspect was kept out)" in text


def test_certainty_of_many_images_wants_no_more() -> None:
    text = Certainty(**{**CERTAINTY, "n": 299, "bound": 0.04}).describe()
    assert "certifying" not in text
    assert "certifying 1 % needs 299" in Certainty(**{**CERTAINTY, "n": 298}).describe()


def test_certainty_without_a_bound_promises_nothing() -> None:
    text = Certainty(**{**CERTAINTY, "bound": None}).describe()
    assert text.endswith("nothing can be certified from 20 good images")


@pytest.mark.parametrize(
    ("rate", "n"), [(0.10, 29), (0.05, 59), (0.02, 149), (0.01, 299), (0.005, 598)]
)
def test_images_needed_are_the_published_ones(rate: float, n: int) -> None:
    assert images_needed(rate) == n


def test_images_needed_at_another_confidence() -> None:
    assert images_needed(0.5, 0.5) == 1
    assert images_needed(0.5, 0.75) == 2
    assert images_needed(0.5, 0.76) == 3

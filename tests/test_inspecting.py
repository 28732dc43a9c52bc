"""The stream of judgements: an iterator that a notebook can show, and no image judged twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from fakes import CellDetector, LevelDetector, grey
from pyimgano.detector_contract import texture
from pyimgano.errors import InputError, NotFittedError, ParameterError
from pyimgano.inspecting import SHOWN
from pyimgano.inspection import Inspections, Verdict
from pyimgano.maps.overlay import encode_png

GOODS = [grey(100 + i, i) for i in range(24)]


class Counting(LevelDetector):
    """Counts how often each image is judged."""

    def _infer(self, images: Any) -> Any:
        vars(self).setdefault("seen", Counter()).update(image.tobytes() for image in images)
        return super()._infer(images)


@pytest.fixture
def fitted() -> Counting:
    found = Counting().fit(GOODS)
    found.seen = Counter()
    return found


def test_it_is_an_iterator_and_one_pass(fitted: Counting) -> None:
    stream = fitted.inspect(GOODS[:4])
    assert iter(stream) is stream
    assert next(stream).verdict is not Verdict.ERROR
    assert len(list(stream)) == 3
    assert list(stream) == []
    assert set(fitted.seen.values()) == {1}


def test_what_is_wrong_is_said_at_once() -> None:
    with pytest.raises(NotFittedError):
        LevelDetector().inspect(GOODS)
    fitted = LevelDetector().fit(GOODS)
    with pytest.raises(ParameterError):
        fitted.inspect(GOODS, batch_size=0)
    with pytest.raises(InputError):
        fitted.inspect([])


def test_repr_judges_nothing(fitted: Counting) -> None:
    stream = fitted.inspect(GOODS[:5])
    assert repr(stream) == "<Inspecting: 0 of 5 taken; a loop takes the next>"
    assert not fitted.seen
    next(stream)
    assert "1 of 5 taken" in repr(stream)


@pytest.mark.parametrize("taken", [0, 2, 8])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_showing_it_judges_no_image_twice_and_loses_none(
    fitted: Counting, taken: int, batch_size: int
) -> None:
    stream = fitted.inspect(GOODS[:10], batch_size=batch_size)
    first = [next(stream) for _ in range(taken)]
    shown = stream._repr_html_()
    assert stream._repr_html_() == shown
    assert shown.count("<b>") == min(SHOWN, 10 - taken)
    assert ("more: a loop takes them" in shown) == (10 - taken > SHOWN)
    scores = Inspections([*first, *stream]).scores
    np.testing.assert_array_equal(scores, fitted.decision_function(GOODS[:10]))
    assert fitted.seen.total() == 20
    assert "All judgements were taken" in stream._repr_html_()


def test_showing_it_judges_no_more_than_the_first_batches(fitted: Counting) -> None:
    fitted.inspect(GOODS, batch_size=2)._repr_html_()
    assert fitted.seen.total() == 4


def test_a_single_image_is_shown_again_and_again(fitted: Counting) -> None:
    stream = fitted.inspect(GOODS[3])
    shown = stream._repr_html_()
    assert "array (" in shown
    assert "score" in shown
    one = next(stream)
    assert stream._repr_html_() == shown
    assert one.reason in shown
    assert fitted.seen.total() == 1


def test_pictures_of_files_and_of_arrays(tmp_path: Any) -> None:
    textures = [texture(seed) for seed in range(21)]
    fitted = CellDetector().fit(textures[:20])
    path = tmp_path / "new.png"
    path.write_bytes(encode_png(textures[20]))
    for image in (path, str(path), textures[20]):
        assert 'src="data:image/png;base64,iVBOR' in fitted.inspect(image)._repr_html_()
    unreadable = tmp_path / "torn.png"
    unreadable.write_bytes(b"x")
    shown = fitted.inspect([textures[20], unreadable])._repr_html_()
    assert shown.count("<img") == 1
    assert "<b>ERROR</b>" in shown


def test_a_stream_can_be_closed(fitted: Counting) -> None:
    stream = fitted.inspect(GOODS)
    stream._repr_html_()
    stream.close()
    assert list(stream) == []

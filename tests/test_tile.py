"""Tiles: maps reassembled exactly, folds kept, and small defects of large images found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyimgano
from cli_calls import call
from fakes import TinyExtractor
from pyimgano.errors import ParameterError
from pyimgano.inspection import Verdict
from pyimgano.maps.overlay import encode_png
from pyimgano.maps.tiling import Mosaic, starts
from pyimgano.models import create_detector
from pyimgano.models.patchcore import PatchCore
from pyimgano.views.align import Align
from pyimgano.views.base import Views
from pyimgano.views.roi import Roi
from pyimgano.views.tile import Tiles

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIZE = (230, 310)
DEFECT = (slice(150, 160), slice(200, 210))
TILES = Tiles(96, 16)


@st.composite
def _cuts(draw: Any) -> tuple[tuple[int, int], tuple[int, int], int]:
    tile = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    size = tuple(side + draw(st.integers(0, 90)) for side in tile)
    return size, tile, draw(st.integers(0, min(tile) - 1))


@given(_cuts())
def test_a_map_is_put_together_as_it_was(cut: Any) -> None:
    size, tile, overlap = cut
    drawn = np.random.default_rng(0).normal(size=size).astype(np.float32)
    mosaic = Mosaic(size, tile, overlap)
    for number, place in enumerate(mosaic.places()):
        assert drawn[place].shape == tile
        mosaic.add(number, drawn[place])
    np.testing.assert_allclose(mosaic.drawn, drawn, rtol=1e-5, atol=1e-6)


@given(_cuts())
def test_a_value_that_one_tile_alone_sees_stays_bit_for_bit(cut: Any) -> None:
    size, tile, overlap = cut
    mosaic, times = Mosaic(size, tile, overlap), np.zeros(size, int)
    drawn = np.random.default_rng(1).normal(size=size).astype(np.float32)
    for number, place in enumerate(mosaic.places()):
        times[place] += 1
        mosaic.add(number, drawn[place])
    assert times.min() == 1 or overlap or (times >= 1).all()
    np.testing.assert_array_equal(mosaic.drawn[times == 1], drawn[times == 1])


@given(st.integers(1, 50), st.integers(0, 200), st.data())
def test_tiles_cover_a_side_and_overlap(tile: int, more: int, data: Any) -> None:
    overlap, length = data.draw(st.integers(0, tile - 1)), tile + more
    found = starts(length, tile, overlap)
    assert (found[0], found[-1]) == (0, length - tile)
    steps = np.diff(found)
    assert (steps > 0).all()
    assert (steps <= tile - overlap).all()


@pytest.mark.parametrize(("length", "tile", "overlap"), [(5, 6, 0), (9, 3, 3), (9, 3, -1)])
def test_tiles_that_do_not_fit_are_refused(length: int, tile: int, overlap: int) -> None:
    with pytest.raises(ParameterError, match="no tiles"):
        starts(length, tile, overlap)


def board(seed: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """A texture without places, fine against the image."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    phase = generator.uniform(0, 6, 2)
    wave = 25 * np.sin(x / 3 + phase[0]) + 25 * np.cos(y / 4 + phase[1])
    image = 120 + wave[..., None] * (1, 0.8, 0.6) + generator.normal(0, 4, (*size, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def spoilt(seed: int) -> NDArray[np.uint8]:
    """A grain that is finer than what remains of it where the image is reduced."""
    image = board(seed)
    part = image[DEFECT]
    grain = 70 * (-1) ** np.indices(part.shape[:2]).sum(axis=0)
    image[DEFECT] = np.clip(part + grain[..., None], 0, 255).astype(np.uint8)
    return image


def core(**changed: Any) -> PatchCore:
    made = {"extractor": TinyExtractor(), "size": 96, "pad": 16, "coreset": 0.05, "sigma": 2.0}
    return PatchCore(**{**made, **changed})


GOODS = [board(seed) for seed in range(22)]
FRESH = [board(100 + seed) for seed in range(3)]
BAD = [spoilt(200 + seed) for seed in range(3)]


@pytest.fixture(scope="module")
def fitted() -> PatchCore:
    return core(view=TILES).fit(GOODS)


def test_a_small_defect_is_found_that_the_reduced_image_hides(fitted: PatchCore) -> None:
    whole = core().fit(GOODS)
    assert not whole.predict(BAD).any()
    assert fitted.predict(BAD).all()
    rejected = fitted.predict([board(1000 + seed) for seed in range(20)]).mean()
    assert rejected <= fitted.certainty_.bound < 0.15
    for one in fitted.inspect(BAD):
        y, x = np.unravel_index(int(one.map.argmax()), one.map.shape)
        assert abs(y - 155) < 10
        assert abs(x - 205) < 10
        assert len(one.regions) == 1


def test_score_and_map_are_those_of_the_tiles(fitted: PatchCore) -> None:
    mosaic = Mosaic(SIZE, (96, 96), 16)
    readings = [fitted._infer([BAD[0][place]])[0] for place in mosaic.places()]
    for number, one in enumerate(readings):
        mosaic.add(number, one.map)
    judged = next(iter(fitted.inspect(BAD[:1])))
    assert judged.score == pytest.approx(max(one.score for one in readings), rel=1e-6)
    np.testing.assert_allclose(judged.map, mosaic.drawn, rtol=1e-5, atol=1e-6)


def test_the_tiles_of_an_image_are_held_out_together(fitted: PatchCore) -> None:
    """A defect in one good image is not excused by another tile that shows it, too."""
    assert fitted.decision_scores_.shape == (22,)
    goods = list(GOODS)
    goods[3] = goods[3].copy()
    goods[3][DEFECT] = goods[3][40:50, 40:50] = spoilt(3)[DEFECT]
    found = core(view=TILES).fit(goods)
    assert len(found.suspects_) == 1
    assert found.decision_scores_[3] > 2 * np.delete(found.decision_scores_, 3).max()
    places = list(Mosaic(SIZE, (96, 96), 16).places())
    blocks = np.arange(22) * 5 // 22
    assert set(fitted.bank_blocks_.tolist()) == set(range(5))
    owners = fitted.bank_origins_[:, 0] // len(places)
    np.testing.assert_array_equal(fitted.bank_blocks_, blocks[owners])


def test_the_threshold_is_set_by_whole_images(fitted: PatchCore) -> None:
    separate = core(view=TILES).fit(GOODS[:6], calibration=GOODS[6:])
    np.testing.assert_allclose(
        separate.decision_scores_, separate.decision_function(GOODS[6:]), rtol=1e-5
    )
    assert separate.certainty_.n == 16
    assert fitted.certainty_.n == 22


def test_a_batch_equals_single_images_and_a_file(fitted: PatchCore, tmp_path: Path) -> None:
    images = [*FRESH, *BAD]
    scores = fitted.decision_function(images)
    alone = [fitted.decision_function([image])[0] for image in images]
    np.testing.assert_allclose(scores, alone, rtol=1e-5)
    fitted.save(tmp_path / "model.pyimg")
    loaded = pyimgano.load(tmp_path / "model.pyimg", extractor=TinyExtractor())
    np.testing.assert_array_equal(loaded.decision_function(images), scores)
    assert loaded.view_ == fitted.view_


def test_a_tile_larger_than_the_image_is_the_image() -> None:
    tiled = core(view=Tiles(1000)).fit(GOODS[:5])
    whole = core().fit(GOODS[:5])
    np.testing.assert_array_equal(tiled.decision_function(BAD), whole.decision_function(BAD))
    np.testing.assert_array_equal(tiled.predict_anomaly_map(BAD), whole.predict_anomaly_map(BAD))


def test_several_sizes_share_a_tile_and_what_is_smaller_is_an_error() -> None:
    goods = [*GOODS[:4], board(50, (120, 310)), board(51, (230, 200))]
    fitted = core(view=TILES).fit(goods)
    assert fitted.view_.tile == (96, 96)
    found = list(fitted.inspect([BAD[0], board(52, (97, 500)), board(53, (90, 310))]))
    assert [one.verdict is Verdict.ERROR for one in found] == [False, False, True]
    assert found[1].map.shape == (97, 500)
    assert "less than a tile of 96 x 96 px" in found[2].error


def test_tiles_come_after_a_region() -> None:
    mask = np.zeros(SIZE, np.bool_)
    mask[20:200, 100:300] = True
    fitted = core(view=Views((Roi.of(mask), TILES))).fit(GOODS[:8])
    bad = BAD[0].copy()
    bad[205:215, 10:30] = 255
    one = next(iter(fitted.inspect([bad])))
    y, x = np.unravel_index(int(one.map.argmax()), one.map.shape)
    assert abs(y - 155) < 10
    assert abs(x - 205) < 10
    assert not one.map[~mask].any()
    assert "3 x 3 of 96 x 96 px" in fitted.learned()["tiles"]


@pytest.mark.parametrize(
    "name",
    ["vision_padim", "vision_default", "vision_template", "vision_softpatch", "vision_anomalydino"],
)
def test_what_knows_places_refuses_tiles(name: str) -> None:
    with pytest.raises(ParameterError, match="cannot judge tiles"):
        create_detector(name, view=TILES).fit(GOODS[:3])


def test_tiles_are_cut_last() -> None:
    with pytest.raises(ParameterError, match="tiles are cut last"):
        core(view=Views((TILES, Align("shift")))).fit(GOODS[:3])


def test_defects_are_refused_with_tiles() -> None:
    with pytest.raises(ParameterError, match="in tiles"):
        core(view=TILES).fit(GOODS[:4], defects=BAD)


@pytest.mark.parametrize(("size", "overlap"), [(16, 0), (96, 49), (96, -1)])
def test_tiles_that_make_no_sense_are_refused(size: int, overlap: int) -> None:
    with pytest.raises(ParameterError, match="a tile has"):
        Tiles(size, overlap)


def test_the_command_line_fits_and_judges_tiles(tmp_path: Path) -> None:
    for folder, images in (("good", GOODS[:4]), ("new", BAD[:1])):
        (tmp_path / folder).mkdir()
        for i, image in enumerate(images):
            (tmp_path / folder / f"{i}.png").write_bytes(encode_png(image))
    model, made = tmp_path / "model.pyimg", ("--extractor", "handcrafted", "--set", "size=96")
    made = (*made, "--detector", "vision_patchcore")
    ended = call("fit", tmp_path / "good", "-o", model, "--tile", "96:16", *made)
    assert ended.code == 0, ended.err
    assert "4 x 3 of 96 x 96 px, which overlap by 16 px" in " ".join(ended.out.split())
    assert call("predict", model, tmp_path / "new", "--out", tmp_path / "out").code == 0
    assert ",NG," in (tmp_path / "out" / "results.csv").read_text(encoding="utf-8")
    assert pyimgano.load(model).view == Tiles(96, 16)
    told = call("explain", model, tmp_path / "new" / "0.png", "--goods", tmp_path / "good")
    assert told.code == 0, told.err
    assert told.out.startswith("verdict     NG")
    assert "nearest good patch" not in told.out  # a patch of a tile is none of an image


@pytest.mark.parametrize(
    ("given", "reason"),
    [("x", "SIZE or SIZE:OVERLAP"), ("96:y", "SIZE or SIZE:OVERLAP"), ("96:90", "half of it")],
)
def test_the_command_line_refuses_other_tiles(tmp_path: Path, given: str, reason: str) -> None:
    (tmp_path / "0.png").write_bytes(encode_png(GOODS[0]))
    ended = call("fit", tmp_path, "-o", tmp_path / "model.pyimg", "--tile", given)
    assert ended.code == 2
    assert reason in " ".join(ended.err.split())

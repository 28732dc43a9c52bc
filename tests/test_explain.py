"""Why a verdict: what detectors say of it, what is told of it, and the page."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cli_calls import SMALL, call, write_defect, write_parts
from pyimgano.calibration import robust_z
from pyimgano.cli.explain import _why
from pyimgano.errors import ParameterError
from pyimgano.features.base import NamedChannels
from pyimgano.features.handcrafted import CHANNELS, Handcrafted
from pyimgano.images import read_image
from pyimgano.inspection import Inspection, Verdict
from pyimgano.models.padim import PaDiM
from pyimgano.models.patchcore import PatchCore
from pyimgano.records import Evidence
from pyimgano.runs.explain import Explanation, explain, pixels
from pyimgano.runs.explain_page import good_patches, write_explanation
from pyimgano.runs.facts import plain
from pyimgano.views.align import Align
from test_align import wedge

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("explain") / "data")


@pytest.fixture(scope="module")
def goods(parts: Path) -> list[Path]:
    return sorted((parts / "train" / "good").iterdir())


@pytest.fixture(scope="module")
def defect(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_defect(
        parts / "test" / "good" / "000.png", tmp_path_factory.mktemp("ng") / "ng.png"
    )


@pytest.fixture(scope="module")
def patchcore(goods: list[Path]) -> PatchCore:
    return PatchCore(extractor="handcrafted", size=96, pad=32, index="numpy").fit(goods)


@pytest.fixture(scope="module")
def padim(goods: list[Path]) -> PaDiM:
    return PaDiM(extractor="handcrafted", size=96, pad=32).fit(goods)


@pytest.fixture(scope="module")
def model(patchcore: PatchCore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.pyimg"
    patchcore.save(path)
    return path


@pytest.mark.parametrize("name", ["patchcore", "padim"])
def test_a_defect_is_explained_by_its_region(name, request, goods, defect):
    detector = request.getfixturevalue(name)
    told = explain(detector, defect)
    one = told.inspection
    assert one.verdict == "NG"
    assert (told.n_goods, told.n_below) == (20, 20)
    logs = np.log(detector.decision_scores_)
    middle = np.median(logs)
    expected = (np.log(one.score) - middle) / (1.482602218505602 * np.median(abs(logs - middle)))
    assert told.sigmas == pytest.approx(expected)
    assert told.sigmas > 4
    place = told.places[0]
    assert place.region is one.regions[0]
    assert 28 <= place.x < 68
    assert 28 <= place.y < 68, "the planted checkerboard lies in 32 to 64"
    assert one.map[place.y, place.x] == place.peak == one.regions[0].peak
    assert place.ratio == pytest.approx(place.peak / one.pixel_threshold)
    assert f"{100 * place.region.area_fraction:.2g} % of the image" in told.where(place)
    json.dumps(plain(told.facts()), allow_nan=False)


def test_padim_has_no_nearest_patch(padim, defect):
    told = explain(padim, defect)
    assert told.places[0].evidence is None
    assert good_patches(padim, told.places) == {}


def test_the_nearest_patch_is_where_the_model_says(patchcore, goods):
    """A good image with all its patches in memory finds each of them in itself, where it is."""
    full = PatchCore(extractor="handcrafted", size=96, pad=32, coreset=1.0, index="numpy").fit(
        goods[:4]
    )
    assert full.bank_origins_.dtype == np.int32
    for number in (0, 3):
        places = [(0.1, 0.2), (0.5, 0.5), (0.97, 0.6)]
        for said, (x, y) in zip(
            full._explain(read_image(goods[number]), places), places, strict=True
        ):
            assert said.good == number
            assert said.distance == pytest.approx(0, abs=1e-3)
            assert said.good_box == said.box
            left, top, right, bottom = said.box
            assert left <= x <= right
            assert top <= y <= bottom


def test_sampled_patches_keep_their_origin(goods):
    few = PatchCore(
        extractor="handcrafted", size=96, pad=32, coreset=0.5, max_rows=100, index="numpy"
    ).fit(goods[:5])
    assert len(few.bank_origins_) == len(few.bank_) == 5 * 10
    whole = PatchCore(extractor="handcrafted", size=96, pad=32, coreset=1.0, index="numpy").fit(
        goods[:5]
    )
    rows = {
        tuple(origin): row
        for origin, row in zip(whole.bank_origins_.tolist(), whole.bank_, strict=True)
    }
    for origin, row in zip(few.bank_origins_.tolist(), few.bank_, strict=True):
        np.testing.assert_array_equal(row, rows[tuple(origin)])
    assert set(few.bank_origins_[:, 0]) == set(range(5))


def test_shares_are_those_of_the_channels(patchcore, defect):
    said = explain(patchcore, defect).places[0].evidence
    assert sum(said.shares.values()) == pytest.approx(1)
    assert set(said.shares) <= set(Handcrafted().families)
    assert isinstance(Handcrafted(), NamedChannels)
    assert len(Handcrafted().families) == len(CHANNELS)


def test_a_reddened_patch_differs_in_colour(patchcore, parts):
    image = read_image(parts / "test" / "good" / "001.png").copy()
    image[40:56, 40:56] = image[40:56, 40:56] * np.array([1.0, 0.3, 0.3])
    said = explain(patchcore, image).places[0].evidence
    assert next(iter(said.shares)) == "colour"


def test_goods_are_found_by_their_pixels(patchcore, goods, defect, tmp_path):
    told = explain(patchcore, defect)
    number = told.places[0].evidence.good
    unknown = good_patches(patchcore, told.places)[0]
    assert unknown.image is None
    assert unknown.words.startswith(f"good image {number + 1} of 20, row ")
    renamed = tmp_path / "renamed.png"
    shutil.copy(goods[number], renamed)
    (tmp_path / "torn.png").write_bytes(b"nothing")
    found = good_patches(patchcore, told.places, [tmp_path / "torn.png", defect, renamed])[0]
    assert found.name == str(renamed)
    np.testing.assert_array_equal(found.image, read_image(renamed))


def test_an_ok_image_is_explained_by_its_most_unusual_place(patchcore, goods):
    told = explain(patchcore, goods[7])
    assert told.inspection.verdict == "OK"
    assert told.places[0].region is None
    assert told.places[0].ratio <= 1
    assert "none above the pixel threshold" in told.extent


def test_an_error_has_its_reason_alone(patchcore, tmp_path):
    torn = tmp_path / "torn.png"
    torn.write_bytes(b"nothing")
    told = explain(patchcore, torn)
    assert told.verdict.startswith(f"ERROR: {torn}")
    assert (told.standing, told.places) == ("", ())
    page = write_explanation(tmp_path / "out", patchcore, torn, told, {}).read_text()
    assert "could not be judged" in page


def test_without_a_threshold_there_is_a_score(goods, defect, tmp_path):
    one = PatchCore(extractor="handcrafted", size=96, pad=32).fit(goods[:1])
    told = explain(one, defect)
    assert "no threshold was calibrated" in told.verdict
    assert (told.n_goods, told.sigmas, told.standing) == (0, None, "")
    assert told.places[0].ratio is None
    page = write_explanation(tmp_path, one, defect, told, {}).read_text()
    assert "no threshold was calibrated" in page


def test_sigmas_need_ten_goods_that_differ():
    assert robust_z(np.array([2.0]), np.arange(1.0, 10.0)) is None
    assert robust_z(np.array([2.0]), np.ones(20)) is None
    goods = np.arange(-10.0, 11.0)
    assert robust_z(np.array([0.0, 5.0]), goods).tolist() == pytest.approx([0, 1 / 1.4826022185])


def test_places_and_boxes():
    assert pixels((0.0, 0.5, 0.25, 1.0), (40, 80)) == (0, 20, 20, 40)
    with pytest.raises(ParameterError, match="an image and a place"):
        Evidence(box=(0, 0, 1, 1), good=3)
    failed = Inspection(source="a.png", verdict=Verdict.ERROR, error="torn")
    assert Explanation(failed).facts()["verdict"] == "ERROR"


@dataclass(kw_only=True, eq=False)
class Parted(PaDiM):
    """A detector that knows how far each of its parts finds a place."""

    def _explain(self, image, places):
        said = Evidence(box=(0.1, 0.1, 0.2, 0.2), parts={"shape": 2.5, "colour": 7.25})
        return [said for _ in places]


def test_parts_of_a_detector_are_shown(goods, defect, tmp_path):
    parted = Parted(extractor="handcrafted", size=96, pad=32).fit(goods[:6])
    told = explain(parted, defect)
    page = write_explanation(tmp_path, parted, defect, told, {}).read_text()
    assert "7.25" in page
    assert (
        _why(told.places[0].evidence, None)
        == "unusual to colour by 7.2 sigmas, shape by 2.5 sigmas"
    )


def test_the_verb_says_why(model, parts, defect, tmp_path):
    folder = parts / "train" / "good"
    ended = call("explain", model, defect, "--goods", folder, "--out", tmp_path / "why")
    assert ended.code == 0, ended.err
    told = " ".join(ended.out.split())
    assert "verdict NG: the score" in told
    assert "above all 20 good images" in told
    assert "nearest good patch:" in told
    assert str(folder) in told.replace(" ", "")
    page = (tmp_path / "why" / "explanation.html").read_text()
    assert page.count('alt="nearest good patch"') == page.count('alt="its map"') >= 1
    facts = json.loads((tmp_path / "why" / "explanation.json").read_text())
    assert facts["places"][0]["nearest_good_name"].startswith(str(folder))


def test_the_verb_in_json_and_quiet(model, defect):
    ended = call("explain", model, defect, "--json")
    facts = json.loads(ended.out)
    assert facts["verdict"] == "NG"
    assert facts["places"][0]["nearest_good"] >= 0
    assert facts["nearest_good"]["0"].startswith("good image ")
    assert call("explain", model, defect, "-q").out.startswith("NG: the score")


def test_goods_that_are_others_are_said_to_be(model, parts, defect):
    ended = call("explain", model, defect, "--goods", parts / "test" / "good")
    assert ended.code == 0
    assert "does not hold good image" in " ".join(ended.out.split())


def test_what_cannot_be_judged_or_is_none(model, parts, tmp_path):
    torn = tmp_path / "torn.png"
    torn.write_bytes(b"nothing")
    ended = call("explain", model, torn)
    assert ended.code == 1
    assert ended.out.startswith("verdict     ERROR:")
    assert "not an image file" in ended.out
    for given, words in (
        (tmp_path / "nowhere.png", "does not exist; give one image"),
        (parts, "is a folder; give one image"),
    ):
        ended = call("explain", model, given)
        assert (ended.code, ended.out) == (2, "")
        assert words in ended.err


def test_a_model_from_the_command_line_explains(parts, defect, tmp_path):
    path = tmp_path / "m.pyimg"
    given = ("fit", parts / "train" / "good", "-o", path, *SMALL, "--detector", "vision_padim")
    assert call(*given).code == 0
    ended = call("explain", path, defect)
    assert ended.code == 0
    assert "times the pixel threshold" in " ".join(ended.out.split())
    assert "nearest good patch" not in ended.out


def test_through_a_view_the_evidence_lies_in_what_is_seen(tmp_path):
    wedges = [wedge(i)[0] for i in range(16)]
    fitted = PatchCore(extractor="handcrafted", size=96, view=Align("rotate")).fit(wedges)
    image, where = wedge(40, mark=True)
    explained = explain(fitted, image)
    place = explained.places[0]
    assert where[place.y - 3 : place.y + 4, place.x - 3 : place.x + 4].any()
    seen = fitted.view_.see(image)
    assert explained.seen == seen.image.shape[:2] != explained.size
    left, top, right, bottom = pixels(place.evidence.box, explained.seen)
    mark = np.zeros(image.shape[:2], np.bool_)
    mark[place.y - 2 : place.y + 3, place.x - 2 : place.x + 3] = True
    rows, columns = np.nonzero(seen.back.carry(mark))
    assert left <= columns.mean() <= right
    assert top <= rows.mean() <= bottom
    patches = good_patches(fitted, explained.places, wedges)
    assert patches[0].image.shape[:2] == explained.seen
    page = write_explanation(tmp_path, fitted, image, explained, patches)
    assert "As the detector sees it" in page.read_text()

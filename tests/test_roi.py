"""Regions: what lies outside has no say, whatever it shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from cli_calls import SMALL, call
from pyimgano.detector_contract import SIDE, Bench, _plant, texture
from pyimgano.errors import InputError, ParameterError, UnjudgedError
from pyimgano.images import read_image
from pyimgano.models import create_detector
from pyimgano.runs.artifacts import RunWriter
from pyimgano.runs.facts import read_run
from pyimgano.runs.report import write_report
from pyimgano.views.align import Align
from pyimgano.views.base import Views, Whole
from pyimgano.views.intake import Images, Intake
from pyimgano.views.regions_file import read_region
from pyimgano.views.roi import Roi, Segment

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

GOODS = [texture(i) for i in range(24)]


def right(start: int = 40) -> NDArray[np.bool_]:
    """The planted defect's side of the image, with a hole at the lower edge of it."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:, start:] = True
    mask[70:80, 50:60] = False
    return mask


def disc(seed: int, *, mark: bool = False, empty: bool = False) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    image = np.full((SIDE, SIDE, 3), 40, np.uint8)
    centre = tuple(int(x) for x in rng.integers(40, 56, 2))
    if not empty:
        cv2.circle(image, centre, 20, (150, 140, 120), -1)
        if mark:
            cv2.circle(image, (centre[0] + 8, centre[1]), 5, (250, 40, 40), -1)
    noise = rng.normal(0, 3, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def patchcore(**given: Any) -> Any:
    return create_detector("vision_patchcore", extractor="tiny", size=96, **given)


@pytest.fixture(scope="module")
def fitted(named_fakes: Path) -> Any:
    return patchcore(view=Roi.of(right())).fit(GOODS)


def test_masks_survive_their_runs() -> None:
    for seed in range(8):
        mask = np.random.default_rng(seed).random((7, 9)) < 0.5
        assert np.array_equal(Roi.of(mask).mask(), mask)
    assert np.array_equal(Roi.of(np.ones((3, 4), bool)).mask(), np.ones((3, 4), bool))
    with pytest.raises(InputError, match="empty"):
        Roi.of(np.zeros((3, 4), bool))
    with pytest.raises(ParameterError, match="do not fill"):
        Roi((3, 4), (5, 5)).mask()


def test_pixels_outside_have_no_say_at_all(fitted: Any) -> None:
    outside = ~right()
    image = GOODS[3].copy()
    wild = image.copy()
    wild[outside] = np.random.default_rng(0).integers(0, 256, (int(outside.sum()), 3))
    scores, maps = (
        fitted.decision_function([image, wild]),
        fitted.predict_anomaly_map([image, wild]),
    )
    assert scores[0] == scores[1]
    assert np.array_equal(maps[0], maps[1])
    assert (maps[0][outside] == 0).all()
    assert maps[0].shape == (SIDE, SIDE)


def test_pictures_show_what_was_judged(fitted: Any, tmp_path: Path) -> None:
    (one,) = fitted.inspect(GOODS[:1])
    np.testing.assert_array_equal(one.seen, right())
    with RunWriter(tmp_path / "run", command="predict", report=write_report) as run:
        run.add(one, GOODS[0])
    ((row,), page) = read_run(tmp_path / "run")[1], (tmp_path / "run/report.html").read_text()
    assert row["seen"] == right().mean()
    assert "Outside the dashed line, and in a hole that it rings: not judged." in page
    picture = read_image(tmp_path / "run" / row["overlay"])
    magenta = (picture == (235, 40, 200)).all(axis=2)
    assert magenta.sum() > SIDE / 3
    assert not magenta[:, : 2 * (SIDE + 4)].any(), "image and map are left as they are"
    assert one.picture(GOODS[0], SIDE).shape == picture.shape


def test_where_everything_is_judged_nothing_is_said(named_fakes: Path, tmp_path: Path) -> None:
    found = patchcore().fit(GOODS)
    (one,) = found.inspect(GOODS[:1])
    assert one.seen is None
    with RunWriter(tmp_path / "run", command="predict", report=write_report) as run:
        run.add(one, GOODS[0])
    assert read_run(tmp_path / "run")[1][0]["seen"] == 1
    assert "not judged." not in (tmp_path / "run/report.html").read_text()


def test_without_a_map_the_image_itself_shows_what_was_judged(named_fakes: Path) -> None:
    pytest.importorskip("pyod")
    found = create_detector("vision_pyod", extractor="tiny", view=Roi.of(right()))
    (one,) = found.fit(GOODS).inspect(GOODS[:1])
    assert one.map is None
    np.testing.assert_array_equal(one.seen, right())
    assert (one.picture(GOODS[0], SIDE) == (235, 40, 200)).all(axis=2).sum() > SIDE / 3


def test_the_threshold_depends_on_the_inside_alone(named_fakes: Path) -> None:
    wild = []
    for i, image in enumerate(GOODS):
        other = image.copy()
        other[~right()] = np.random.default_rng(i).integers(0, 256, 3)
        wild.append(other)
    found = [
        patchcore(view=Roi.of(right())).fit(given[:12], calibration=given[12:])
        for given in (GOODS, wild)
    ]
    assert found[0].threshold_ == found[1].threshold_
    assert found[0].pixel_threshold_ == found[1].pixel_threshold_


def test_defects_inside_are_found_and_outside_are_not(named_fakes: Path, fitted: Any) -> None:
    bad = [_plant(texture(2000 + i)) for i in range(4)]
    assert fitted.predict(bad).tolist() == [1] * 4
    elsewhere = patchcore(view=Roi.of(~right(56))).fit(GOODS)
    assert (
        elsewhere.predict([_plant(texture(5))]).tolist() == elsewhere.predict([GOODS[5]]).tolist()
    )


def test_a_region_for_another_size_is_refused(named_fakes: Path) -> None:
    with pytest.raises(InputError, match="96 x 96 px, the region is for 50 x 40 px"):
        patchcore(view=Roi.of(np.ones((40, 50), bool))).fit(GOODS[:3])
    any_size = patchcore(view=Roi.of(right()), any_size=True).fit(GOODS[:3])
    with pytest.raises(UnjudgedError, match="the region is for 96 x 96 px"):
        any_size.decision_function([GOODS[0][:80, :88]])


def test_a_model_file_keeps_its_region(named_fakes: Path, fitted: Any, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model.pyimg")
    loaded = type(fitted).load(tmp_path / "model.pyimg")
    assert (
        loaded.decision_function(GOODS[:2]).tolist() == fitted.decision_function(GOODS[:2]).tolist()
    )
    assert "of the image is judged" in loaded.learned()["region"]


def test_only_the_part_in_front_of_a_background_is_judged(named_fakes: Path) -> None:
    goods = [disc(i) for i in range(20)]
    found = patchcore(view=Segment()).fit(goods)
    assert "only the part is judged" in found.learned()["foreground"]
    good = disc(100)
    crumb = good.copy()
    crumb[3:7, 3:7] = 230
    scores = found.decision_function([good, crumb, disc(100, mark=True)])
    assert scores[0] == scores[1]
    assert scores[2] > 2 * scores[0]
    drawn = found.get_anomaly_map(disc(100, mark=True))
    assert drawn[5, 5] == 0
    (one,) = found.inspect([disc(100, mark=True)])
    assert 0.1 < one.seen.mean() < 0.4
    assert not drawn[~one.seen].any()
    with pytest.raises(UnjudgedError, match="no part is found"):
        found.decision_function([disc(1, empty=True)])


def test_a_texture_has_no_foreground() -> None:
    learned = Segment().learn(Images(GOODS, Intake(((SIDE, SIDE),))))
    assert isinstance(learned, Whole)
    assert "no part stands out" in learned.describe()["foreground"]


def test_views_follow_each_other_and_back(named_fakes: Path) -> None:
    views = Views((Roi.of(right(20)), Align("shift")))
    found = patchcore(view=views).fit(GOODS)
    told = found.learned()
    assert {"region", "alignment"} <= told.keys()
    bad = Bench(patchcore).bad[0]
    (one,) = found.inspect([bad])
    drawn = found.get_anomaly_map(bad)
    assert drawn.shape == (SIDE, SIDE)
    assert one.seen is not None
    assert not one.seen[~right(20)].any()
    assert one.seen.mean() > 0.9 * right(20).mean()
    y, x = np.unravel_index(int(drawn.argmax()), drawn.shape)
    assert 4 <= y < 44
    assert 44 <= x < 88


def test_few_defects_are_measured_where_they_are_judged(named_fakes: Path, tmp_path: Path) -> None:
    for i in range(4):
        fakes_dir = tmp_path / "bad"
        (fakes_dir / "masks").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(fakes_dir / f"{i}.png"), _plant(texture(2000 + i))[..., ::-1])
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[16:32, 56:76] = 255
        cv2.imwrite(str(fakes_dir / "masks" / f"{i}.png"), mask)
    found = patchcore(view=Roi.of(right())).fit(GOODS, defects=tmp_path / "bad")
    assert found.tuned_.caught == 4


SQUARE = [[10, 5], [29, 5], [29, 24], [10, 24]]
FILES = {
    "one.json": SQUARE,
    "list.json": [SQUARE],
    "named.json": {"polygons": [SQUARE]},
    "labelme.json": {
        "imageHeight": 40,
        "imageWidth": 50,
        "shapes": [{"shape_type": "rectangle", "points": [[10, 5], [29, 24]], "label": "x"}],
    },
    "coco.json": {
        "images": [{"id": 1, "height": 40, "width": 50}],
        "annotations": [{"segmentation": [[10, 5, 29, 5, 29, 24, 10, 24]]}],
    },
}


@pytest.mark.parametrize("name", FILES)
def test_polygons_are_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(json.dumps(FILES[name]))
    expected = np.zeros((40, 50), bool)
    expected[5:25, 10:30] = True
    assert np.array_equal(read_region(path, (40, 50)), expected)


def test_a_mask_image_is_read(tmp_path: Path) -> None:
    drawn = np.zeros((40, 50), np.uint8)
    drawn[3:9, 4:7] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), drawn)
    assert np.array_equal(read_region(tmp_path / "mask.png", (40, 50)), drawn > 0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"{", "cannot be read"),
        ("a.json", b"\xff\xfe", "cannot be read"),
        ("a.json", b"[]", "draws no region"),
        ("a.json", b"3", "draws no region"),
        ("a.json", b'{"shapes": [{"shape_type": "circle", "points": []}]}', "draws no region"),
        ("a.json", b"[[1, 2], [3, 4]]", "three points"),
        ("a.json", b"[[1, 2], [3, NaN], [4, 5]]", "no numbers"),
        ("a.json", b"[[90, 90], [95, 90], [95, 95]]", "is empty"),
        ("a.json", b'{"shapes": [], "imageHeight": 4, "imageWidth": 5}', "5 x 4 px, the images"),
        ("a.json", b'{"annotations": [], "images": [{}, {}]}', "on 2 images"),
        ("a.json", b'{"annotations": [{"segmentation": {"counts": "a"}}], "images": []}', "on 0"),
        ("a.png", b"no image", "cannot be read"),
    ],
)
def test_files_that_draw_no_region_are_named(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_region(path, (40, 50))


def test_regions_on_the_command_line(shared_parts: Path, tmp_path: Path) -> None:
    good = shared_parts / "train" / "good"
    height, width = cv2.imread(str(next(good.iterdir()))).shape[:2]
    drawn = np.zeros((height, width), np.uint8)
    drawn[:, : width // 2] = 255
    cv2.imwrite(str(tmp_path / "roi.png"), drawn)
    corner = [[0, 0], [8, 0], [8, 8]]
    (tmp_path / "ignore.json").write_text(json.dumps(corner))
    model, where = tmp_path / "model.pyimg", ("--roi", tmp_path / "roi.png")
    done = call("fit", good, "-o", model, *where, "--ignore", tmp_path / "ignore.json", *SMALL)
    assert done.code == 0
    assert "% of the image is judged (roi.png, without ignore.json)" in " ".join(done.out.split())
    wrong = call("fit", good, "-o", model, "--roi", tmp_path / "missing.json", *SMALL)
    assert wrong.code == 2
    assert "missing.json cannot be read" in " ".join(wrong.err.split())
    for name in ("foreground", "align"):
        done = call("fit", good, "-o", model, f"--{name}", "auto", *SMALL)
        assert done.code == 0
        assert name[:5] in done.out

"""The readers of further published sets and of tables, each on a miniature of its layout."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import suppress
from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import miniatures
from cli_calls import SMALL, call
from miniatures import SIZE, draw, draw_mask
from pyimgano.datasets import DATASETS, Dataset, list_categories, load_dataset
from pyimgano.errors import (
    DatasetError,
    DatasetNotFoundError,
    MaskError,
    ParameterError,
    PyimganoError,
)
from pyimgano.metrics import aspro
from pyimgano.testing import check_dataset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyimgano.records import Sample

# What each miniature holds: categories, then good training, defective training, good and
# defective test images.
CASES = {
    "mvtec_loco": (("breakfast_box",), (3, 0, 3, 4)),
    "mvtec_ad2": (("vial",), (2, 0, 2, 2)),
    "mpdd": (("tubes",), (3, 0, 2, 3)),
    "realiad": (("usb",), (4, 0, 3, 1)),
    "ksdd": ((), (6, 2, 3, 1)),
    "ksdd2": ((), (2, 1, 2, 1)),
    "mtd": ((), (8, 0, 2, 3)),
    "dagm": (("Class1",), (3, 1, 3, 1)),
    "manifest": ((), (2, 0, 1, 1)),
}
FOLDERS = [name for name in CASES if name != "manifest"]


def build(name: str, root: Path) -> Path:
    made: Path = getattr(miniatures, name)(root)
    return made


def load(name: str, root: Path, **options: object) -> Dataset:
    categories = CASES[name][0]
    return load_dataset(name, root, category=categories[0] if categories else None, **options)


@pytest.fixture(params=list(CASES))
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    return load(request.param, build(request.param, tmp_path))


def stems(samples: tuple[Sample, ...]) -> list[str]:
    return [sample.path.stem for sample in samples]


def test_each_miniature_is_read_whole(dataset: Dataset) -> None:
    info = dataset.info
    categories, counts = CASES[info.name]
    assert list_categories(info.name, dataset.root) == categories
    assert (info.n_train, info.n_train_defect, info.n_test_good, info.n_test_defect) == counts
    assert info.has_masks
    assert info.saturates == (info.name == "mvtec_loco")
    assert {s.category for s in (*dataset.train, *dataset.test)} == {info.category}
    check_dataset(dataset)
    assert dataset.audit() == []


def test_masks_stand_where_they_were_drawn(dataset: Dataset) -> None:
    for sample, mask in zip(dataset.test, dataset.masks(), strict=True):
        assert (sample.label == 1) == (sample.defect != "good") == (mask is not None)
        if mask is not None:
            assert mask.shape == SIZE[::-1]
            assert mask[2, 3]
            assert mask[2, 4]
            assert mask.all() or mask.sum() == 2
    for sample in dataset.train_defects:
        assert sample.mask_path is not None


def test_nothing_can_be_changed_and_a_second_reading_is_equal(dataset: Dataset) -> None:
    with pytest.raises(FrozenInstanceError):
        dataset.test = ()  # type: ignore[misc]
    again = type(dataset)(dataset.root, category=dataset.category)
    assert again.info == dataset.info
    for split in ("train", "train_defects", "test", *dataset.SPLITS):
        assert [s.path for s in again.part(split)] == [s.path for s in dataset.part(split)]


@pytest.mark.parametrize("name", CASES)
def test_the_lists_say_what_is_known(name: str) -> None:
    told = dict(DATASETS.entry(name).metadata.details)
    assert {"layout", "verified", "source"} == set(told)
    assert "<root>" in told["layout"]
    assert not told["verified"].startswith("real data")


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_root_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    for root in (tmp_path, tmp_path / "missing"):
        for ask in (list_categories, load):
            with pytest.raises(DatasetNotFoundError, match=r"Expected:\n  <root>") as caught:
                ask(name, root)
            assert str(root) in str(caught.value)


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_category_is_named_with_what_there_is(name: str, tmp_path: Path) -> None:
    root = build(name, tmp_path)
    asked = (CASES[name][0] or ("nut",))[0] + "s"
    with pytest.raises(DatasetNotFoundError, match=repr(asked)) as caught:
        load_dataset(name, root, category=asked)
    if CASES[name][0] or name == "manifest":
        assert f"did you mean {asked[:-1]!r}?" in str(caught.value)


@pytest.mark.parametrize("name", [name for name in FOLDERS if not CASES[name][0]])
def test_a_set_of_one_category_may_lie_one_folder_deeper(name: str, tmp_path: Path) -> None:
    build(name, tmp_path / "unpacked")
    assert list_categories(name, tmp_path) == ("unpacked",)
    assert load_dataset(name, tmp_path, category="unpacked").info.category == "unpacked"


@pytest.mark.parametrize(
    ("name", "mask", "message"),
    [
        ("mvtec_loco", "*/ground_truth/logical_anomalies/001/000.png", r"001\.png has no mask: "),
        ("mvtec_ad2", "*/*/test_public/ground_truth/bad/001_*.png", "expected 001_regular_mask"),
        ("mpdd", "tubes/ground_truth/dent/000_mask.png", "1 of 1 .* expected 000_mask"),
        ("realiad", "*/usb/NG/BX/*/*.png", r"the mask .*_C1_2023\.png of .* does not exist"),
        ("ksdd", "kos02/Part1_label.bmp", r"first Part1\.jpg: expected Part1_label\.png"),
        ("ksdd2", "train/10001_GT.png", r"first 10001\.png: expected 10001_GT\.png"),
        ("mtd", "MT_Fray/Imgs/*.png", r"first exp1_num_0\.jpg"),
        ("dagm", "Class1/Test/Label/0002_label.PNG", r"first 0002\.PNG: expected 0002_label"),
        ("manifest", "masks/t1.png", r"line 6: the mask 'masks\\\\t1\.png' does not exist"),
    ],
)
def test_a_missing_mask_is_named(name: str, mask: str, message: str, tmp_path: Path) -> None:
    root = build(name, tmp_path)
    (found,) = tmp_path.glob(mask)
    found.unlink()
    with pytest.raises(MaskError, match=message):
        load(name, root)


@pytest.mark.parametrize(
    ("name", "folder", "message"),
    [
        ("mvtec_loco", "breakfast_box/test/good", "test/good holds no images"),
        ("mvtec_loco", "breakfast_box/test/structural_anomalies", "anomalies holds no images"),
        ("mvtec_ad2", "vial/vial/test_public/bad", "test_public/bad holds no images"),
        ("mpdd", "tubes/train/good", "train/good holds no images"),
        ("ksdd", "kos03", "kos03 holds no images"),
        ("ksdd2", "test", "test holds no images"),
        ("mtd", "MT_Crack/Imgs", "no .*jpg in .*MT_Crack"),
        ("dagm", "Class1/Test", "Test holds no images; found: Label/"),
    ],
)
def test_an_empty_class_is_named(name: str, folder: str, message: str, tmp_path: Path) -> None:
    root = build(name, tmp_path)
    for path in (tmp_path / folder).iterdir():
        if path.is_file():
            path.unlink()
    with pytest.raises(DatasetError, match=message):
        load(name, root)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("mvtec_loco", "breakfast_box/validation/good"),
        ("mvtec_ad2", "vial/vial/test_public/good"),
        ("ksdd2", "test"),
        ("dagm", "Class1/Test"),
        ("dagm", "Class1/Train/Label"),
    ],
)
def test_a_missing_folder_is_named(name: str, folder: str, tmp_path: Path) -> None:
    root = build(name, tmp_path)
    shutil.rmtree(tmp_path / folder)
    with pytest.raises(DatasetError, match=rf"the folder .*{folder} is missing\. Found in"):
        load(name, root)


def test_loco_gives_the_union_and_each_channel_with_its_saturation(tmp_path: Path) -> None:
    boxes = load("mvtec_loco", build("mvtec_loco", tmp_path))
    assert {s.split for s in boxes.part("validation")} == {"validation"}
    assert len(list(boxes.images("validation"))) == 3
    assert boxes.info.defects == ("logical_anomalies", "structural_anomalies")
    channels = list(boxes.channels())
    areas = [None if each is None else [area for _, area in each] for each in channels]
    pixels = SIZE[0] * SIZE[1]
    assert areas == [None] * 3 + [[1, pixels // 4], [1], [2], [2]]
    for each, mask in zip(channels, boxes.masks(), strict=True):
        if each is not None:
            assert mask is not None
            assert np.array_equal(np.any([one for one, _ in each], axis=0), mask)
    maps = [np.zeros(SIZE[::-1]) if each is None else each[-1][0] + 0.0 for each in channels]
    # The one image whose map is everywhere high has no normal pixel: all channels are found.
    assert aspro(channels, maps) == 1.0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "FileNotFoundError"),
        ("[{", "JSONDecodeError"),
        ('[{"pixel_value": 255}]', "KeyError: 'saturation_threshold'"),
        ("[1]", "TypeError"),
        ('[{"pixel_value": Infinity}]', "OverflowError"),
    ],
)
def test_loco_needs_its_configuration(config: str | None, message: str, tmp_path: Path) -> None:
    root = build("mvtec_loco", tmp_path)
    path = root / "breakfast_box" / "defects_config.json"
    path.unlink()
    if config is not None:
        path.write_text(config, encoding="utf-8")
    with pytest.raises(DatasetError, match=rf"defects_config\.json must list .*{message}"):
        load("mvtec_loco", root)


@pytest.mark.parametrize("value", [7, 0])
def test_loco_refuses_a_channel_of_an_undeclared_kind(value: int, tmp_path: Path) -> None:
    root = build("mvtec_loco", tmp_path)
    draw(root / "breakfast_box/ground_truth/structural_anomalies/000/000.png", value=value)
    with pytest.raises(MaskError, match=r"one of the declared values \[253, 254, 255\]"):
        list(load("mvtec_loco", root).channels())


def test_an_emptied_folder_of_channels_is_named(tmp_path: Path) -> None:
    boxes = load("mvtec_loco", build("mvtec_loco", tmp_path))
    for path in tmp_path.glob("*/ground_truth/structural_anomalies/001/*"):
        path.unlink()
    (problem,) = boxes.verify()
    assert "001 holds no mask of" in problem


def test_a_set_without_saturation_says_so(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match=r"mpdd tubes declares no saturation areas; use masks\(\)"):
        load("mpdd", build("mpdd", tmp_path)).channels()


def test_ad2_private_images_have_no_label_and_stand_apart(tmp_path: Path) -> None:
    vials = load("mvtec_ad2", build("mvtec_ad2", tmp_path))
    assert [(s.label, s.defect) for s in vials.part("test_private")] == [(None, "unknown")] * 2
    assert vials.part("test_private_mixed") == ()
    assert len(list(vials.images("test_private"))) == 2
    assert {s.split for s in vials.test} == {"test"}
    with pytest.raises(ParameterError, match="test_private_mixed, got 'private'"):
        vials.part("private")
    flat = tmp_path / "flat"
    shutil.copytree(tmp_path / "vial" / "vial", flat / "vial")
    assert stems(load("mvtec_ad2", flat).test) == stems(vials.test)


def test_realiad_keeps_the_views_of_a_part_together(tmp_path: Path) -> None:
    root = build("realiad", tmp_path)
    plugs = load("realiad", root)
    assert [s.group for s in plugs.train] == [f"usb_000{part}_OK" for part in (0, 0, 1, 1)]
    assert [(s.group, s.label, s.defect) for s in plugs.test] == [
        ("usb_0003_NG_BX", 1, "BX"),
        ("usb_0003_NG_BX", 0, "good"),
        ("usb_0002_OK", 0, "good"),
        ("usb_0002_OK", 0, "good"),
    ]
    (root / "realiad_jsons").rename(tmp_path / "inner")
    (tmp_path / "inner").rename(tmp_path / "moved")
    (root / "realiad_jsons").mkdir()
    (tmp_path / "moved").rename(root / "realiad_jsons" / "realiad_jsons")
    assert stems(load("realiad", root).test) == stems(plugs.test)


def test_realiad_takes_the_resolution_that_is_there(tmp_path: Path) -> None:
    root = build("realiad", tmp_path)
    with pytest.raises(DatasetNotFoundError, match=r"no images realiad_512 .* realiad_256/"):
        load("realiad", root, resolution="512")
    shutil.copytree(root / "realiad_256", root / "realiad_1024")
    assert "realiad_1024" in load("realiad", root).train[0].path.parts
    assert "realiad_256" in load("realiad", root, resolution="256").train[0].path.parts


def test_realiad_other_protocols_and_noise(tmp_path: Path) -> None:
    root = build("realiad", tmp_path)
    content = json.loads((root / "realiad_jsons" / "usb.json").read_text(encoding="utf-8"))
    content["train"].append(content["test"].pop(2))
    noisy = root / "realiad_jsons_fuiad_0.1" / "usb.json"
    noisy.parent.mkdir()
    noisy.write_text(json.dumps(content), encoding="utf-8")
    plugs = load("realiad", root, protocol="realiad_jsons_fuiad_0.1")
    assert (plugs.info.n_train, plugs.info.n_train_defect) == (4, 1)
    assert plugs.audit() == [
        "the group 'usb_0003_NG_BX' stands in train and in test; keep it in one"
    ]
    with pytest.raises(DatasetNotFoundError, match=r"no realiad_jsons_sv/<category>\.json"):
        load("realiad", root, protocol="realiad_jsons_sv")
    with pytest.raises(DatasetError, match=r"choose one with category=\.\.\.: usb"):
        load_dataset("realiad", root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("test"), r"usb\.json must hold .*KeyError: 'test'"),
        (lambda c: c["train"][0].pop("mask_path"), "KeyError: 'mask_path'"),
        (lambda c: c.update(train=[1]), "TypeError"),
        (lambda c: c.update(meta=1), "AttributeError"),
        (lambda c: c["train"][0].update(image_path="../x.jpg"), r"a path below .*'\.\./x\.jpg'"),
        (lambda c: c["train"][0].update(image_path="C:\\x.jpg"), "a path below"),
        (lambda c: c["meta"].update(prefix="/etc"), "a path below .*realiad_256, got '/etc'"),
        (lambda c: c["train"][0].update(image_path="OK/x.jpg"), r"x\.jpg does not exist"),
    ],
)
def test_realiad_names_what_is_wrong_in_a_table(
    change: Callable[[dict], object], message: str, tmp_path: Path
) -> None:
    root = build("realiad", tmp_path)
    table = root / "realiad_jsons" / "usb.json"
    content = json.loads(table.read_text(encoding="utf-8"))
    change(content)
    table.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        load("realiad", root)


def test_ksdd_folds_cover_every_part_once_and_never_split_one(tmp_path: Path) -> None:
    root = build("ksdd", tmp_path)
    folds = [load("ksdd", root, fold=number) for number in range(3)]
    tested = [{s.group for s in fold.test} for fold in folds]
    assert tested == [{"kos01", "kos02"}, {"kos03", "kos04"}, {"kos05", "kos06"}]
    for fold, parts in zip(folds, tested, strict=True):
        assert not parts & {s.group for s in (*fold.train, *fold.train_defects)}
    for wrong in (3, -1):
        with pytest.raises(ParameterError, match="fold must be 0, 1 or 2"):
            load("ksdd", root, fold=wrong)
    for number in range(3, 7):
        shutil.rmtree(root / f"kos0{number}")
    with pytest.raises(DatasetError, match="holds 2 parts; 3 folds need 3"):
        load("ksdd", root)


def test_ksdd_decides_by_masks_and_names_a_damaged_one(tmp_path: Path) -> None:
    root = build("ksdd", tmp_path)
    (root / "kos02" / "Part0_label.bmp").write_bytes(b"BM")
    with pytest.raises(MaskError, match=r"Part0_label\.bmp"):
        load("ksdd", root)


def test_mtd_holds_out_the_end_of_each_series(tmp_path: Path) -> None:
    root = build("mtd", tmp_path)
    tiles = load("mtd", root)
    good = tuple(s for s in tiles.test if s.label == 0)
    assert stems(good) == ["exp1_num_12", "exp2_num_12"]
    assert tiles.info.defects == ("Crack", "Fray")
    assert load("mtd", root, test_fraction=0.4).info.n_train == 6
    for wrong in (0, 1.0):
        with pytest.raises(ParameterError, match="must lie in"):
            load("mtd", root, test_fraction=wrong)
    for path in sorted((root / "MT_Free" / "Imgs").iterdir()):
        path.rename(path.with_name(path.name.replace("_num_", "-")))
    assert load("mtd", root).info.n_train == 8
    shutil.rmtree(root / "MT_Crack" / "Imgs")
    with pytest.raises(DatasetError, match="MT_Crack: nothing"):
        load("mtd", root)


def test_dagm_without_its_table_goes_by_the_masks(tmp_path: Path) -> None:
    root = build("dagm", tmp_path)
    listed = load("dagm", root)
    for table in root.glob("*/*/Label/Labels.txt"):
        table.unlink()
    bare = load("dagm", root)
    assert bare.labels.tolist() == listed.labels.tolist()
    draw_mask(root / "Class1" / "Test" / "Label" / "0099_label.PNG")
    with pytest.raises(DatasetError, match="calls 0099 defective, which is not in"):
        load("dagm", root)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"1\n2\tx\t0002.PNG\n", r"Labels\.txt, line 2: expected number, 0 or 1, name"),
        (b"1\n2\t1\n", "line 2"),
        (b"\xff\xff", "cannot be read"),
    ],
)
def test_dagm_names_a_line_it_cannot_read(table: bytes, message: str, tmp_path: Path) -> None:
    root = build("dagm", tmp_path)
    (root / "Class1" / "Test" / "Label" / "Labels.txt").write_bytes(table)
    with pytest.raises(DatasetError, match=message):
        load("dagm", root)


def test_a_manifest_tells_what_its_columns_say(tmp_path: Path) -> None:
    parts = load("manifest", build("manifest", tmp_path))
    assert parts.info.category == "nut"
    assert [s.group for s in parts.train] == ["burst", None]
    assert stems(parts.part("validation")) == ["ok2"]
    assert [(s.path.stem, s.defect) for s in parts.test] == [("t0", "good"), ("t1", "dent")]


def table(root: Path, *lines: str, name: str = "parts.csv") -> Path:
    build("manifest", root)
    path = root / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_manifest_of_json_lines_with_absolute_paths(tmp_path: Path) -> None:
    rows = [
        {"path": str(tmp_path / "images" / "ok0.png"), "label": 0, "split": "train", "mask": None},
        {"path": "images/t1.png", "label": "ng", "split": "Test", "category": "nut"},
        {"path": "images/t0.png", "label": 0, "split": "train", "category": "nut"},
    ]
    lines = [json.dumps(row) for row in rows]
    path = table(tmp_path, lines[0], "", *lines[1:], name="line_3.jsonl")
    assert list_categories("manifest", path) == ("line_3", "nut")
    assert stems(load_dataset("manifest", path, category="nut").test) == ["t1"]
    with pytest.raises(DatasetError, match=r"choose one with category=\.\.\.: line_3, nut"):
        load_dataset("manifest", path)


HEAD = "path,label,split"


@pytest.mark.parametrize(
    ("lines", "error", "message"),
    [
        (("path,label,split,maks", "images/ok0.png,0,train,"), DatasetError, "'maks'.*'mask'"),
        (("path,split", "images/ok0.png,train"), DatasetError, "column label is missing"),
        ((HEAD, "images/ok0.png,0"), DatasetError, "line 2 .* has 2 cells, its heading 3"),
        ((HEAD, "images/ok0.png,fine,train"), DatasetError, "line 2: label must be .*'fine'"),
        ((HEAD, "images/ok0.png,0,val"), DatasetError, "split one of train, test, .*'val'"),
        ((HEAD, "images/no.png,0,train"), DatasetError, "the path 'images/no.png' does not"),
        ((HEAD, ",0,train"), DatasetError, "the path '' does not exist"),
        ((HEAD, '"images/ok0.png,0,train'), DatasetError, "cannot be read"),
        ((HEAD, "images/t1.png,1,train"), DatasetError, "no good training image"),
        (("",), DatasetError, "no good training image"),
        (
            (f"{HEAD},group", "images/ok0.png,0,train,a7", "images/t0.png,0,test,a7"),
            DatasetError,
            r"parts\.csv: the group 'a7' stands in train and in test",
        ),
        (
            (
                f"{HEAD},mask",
                *("images/ok0.png,0,train,", "images/t0.png,1,test,"),
                "images/t1.png,1,test,masks/t1.png",
            ),
            MaskError,
            r"t0\.png is defective and has no mask, others have one",
        ),
    ],
)
def test_a_manifest_names_its_mistakes(
    lines: tuple[str, ...], error: type[PyimganoError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        load_dataset("manifest", table(tmp_path, *lines))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1]", "line 1 .* must be a JSON object"),
        ("{", "cannot be read"),
        (f'{{"path": {"1" * 5000}}}', "cannot be read"),
    ],
)
def test_a_manifest_of_json_lines_names_its_mistakes(
    line: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=message):
        load_dataset("manifest", table(tmp_path, line, name="x.jsonl"))


def test_audit_names_leaks_and_marked_good_images(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        f"{HEAD},mask",
        *("images/ok0.png,0,train,", "images/ok1.png,0,train,"),
        *("images/t0.png,0,test,masks/t1.png", "images/t1.png,1,test,masks/t9.png"),
    )
    draw_mask(tmp_path / "masks" / "t9.png")
    train, test = tmp_path / "images" / "ok0.png", tmp_path / "images" / "t1.png"
    test.write_bytes(train.read_bytes())
    good, marks = tmp_path / "images" / "t0.png", tmp_path / "masks" / "t1.png"
    assert load_dataset("manifest", path).audit() == [
        f"{good} is not defective, but its mask {marks} is not empty; the mask is left out",
        f"the test image {test} equals the training image {train}",
    ]


@pytest.mark.parametrize("name", ["ksdd2", "manifest"])
def test_the_command_line_evaluates_them(name: str, tmp_path: Path) -> None:
    root = build(name, tmp_path / "data")
    big(tmp_path / "data")
    ended = call("evaluate", "--dataset", name, "--root", root, "--out", tmp_path / "run", *SMALL)
    assert ended.code == 0, ended.err
    assert f"{name} " in ended.out


def big(root: Path) -> None:
    """Give the images of a miniature texture and a size that a detector can work with."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for path in sorted(root.rglob("*.png")):
        with Image.open(path) as image:
            values = np.kron(np.asarray(image), np.ones((8, 8), np.uint8))
        if not path.stem.endswith("_GT") and "masks" not in path.parts:
            values = values + generator.integers(0, 30, values.shape, np.uint8)
        Image.fromarray(values).save(path)


def test_list_tells_layout_licence_and_what_was_verified() -> None:
    told = call("list", "datasets").out
    for name in CASES:
        assert re.search(rf"\n\n{name}\n  licence ", told)
    assert "<root>/<category>/defects_config.json" in told
    assert "verified  real data: MVTec AD screw" in told
    assert "<root>" not in call("list").out
    facts = json.loads(call("list", "datasets", "--json").out)["datasets"]
    assert all(one["layout"] and one["verified"] and one["source"] for one in facts)


KEYS = st.sampled_from(
    [
        *("meta", "prefix", "normal_class", "train", "test", "image_path", "mask_path"),
        *("anomaly_class", "pixel_value", "saturation_threshold", "relative_saturation"),
        *("path", "label", "split"),
    ]
)
WORDS = st.sampled_from(["OK", "../x", "\0", "\ud800", "", "images/t0.png", "train", "0"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)
TABLES = {
    "mvtec_loco": "breakfast_box/defects_config.json",
    "realiad": "realiad_jsons/usb.json",
    "dagm": "Class1/Test/Label/Labels.txt",
    "manifest": "parts.jsonl",
}


@pytest.fixture(scope="module", params=list(TABLES))
def tables(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    folder = tmp_path_factory.mktemp(request.param)
    root = build(request.param, folder)
    path = folder / TABLES[request.param]
    return request.param, path if request.param == "manifest" else root, path


@settings(max_examples=60, derandomize=True, deadline=None)
@given(content=VALUES.map(json.dumps).map(str.encode) | st.binary(max_size=60))
def test_a_table_of_anything_is_read_or_refused(tables: tuple, content: bytes) -> None:
    name, root, path = tables
    path.write_bytes(content)
    with suppress(PyimganoError):
        found = load(name, root)
        list(found.channels() if found.info.saturates else found.masks())

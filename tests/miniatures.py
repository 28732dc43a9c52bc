"""Faithful miniatures of the published data sets: real image files of a few pixels."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SIZE = (12, 8)  # width, height


def draw(path: Path, *, value: int = 90, size: tuple[int, int] = SIZE) -> Path:
    """Write a grey image of one value; the suffix decides on the format."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)
    return path


def draw_mask(path: Path, *, value: int = 255, size: tuple[int, int] = SIZE) -> Path:
    """Write a mask with two defective pixels of the given value."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.new("L", size, 0)
    mask.putpixel((3, 2), value)
    mask.putpixel((4, 2), value)
    mask.save(path)
    return path


def mvtec(category: Path, *, suffix: str = ".png") -> Path:
    """Three train, two good and 2 + 1 defective test images with masks, as in MVTec AD."""
    for number in range(3):
        draw(category / "train" / "good" / f"{number:03d}{suffix}", value=100 + number)
    for number in range(2):
        draw(category / "test" / "good" / f"{number:03d}{suffix}", value=110 + number)
    for kind, count in (("scratch", 2), ("dent", 1)):
        for number in range(count):
            draw(category / "test" / kind / f"{number:03d}{suffix}", value=120 + number)
            draw_mask(category / "ground_truth" / kind / f"{number:03d}_mask.png")
    return category


def btad(root: Path) -> Path:
    """The three products with the formats of the archive: BMP and PNG, masks likewise."""
    for category, image, mask in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        folder = root / category
        for number in range(3):
            draw(folder / "train" / "ok" / f"{number:04d}.{image}")
            draw(folder / "test" / "ok" / f"{number:04d}.{image}")
        for number in range(2):
            draw(folder / "test" / "ko" / f"{number:04d}.{image}")
            draw_mask(folder / "ground_truth" / "ko" / f"{number:04d}.{mask}")
    return root


HEADER = "object,split,label,image,mask"


def visa(root: Path, categories: tuple[str, ...] = ("candle", "pcb1")) -> Path:
    """The archive: Data/Images, Data/Masks and split files whose lines are shuffled."""
    one = [HEADER]
    few = [HEADER]
    for category in categories:
        data = root / category / "Data"
        for number in range(12):
            draw(data / "Images" / "Normal" / f"{number}.JPG", value=80 + number)
        for number in range(3):
            draw(data / "Images" / "Anomaly" / f"{number}.JPG", value=150 + number)
            draw_mask(data / "Masks" / "Anomaly" / f"{number}.png", value=number + 1)
        normal = [f"normal,{category}/Data/Images/Normal/{number}.JPG," for number in range(12)]
        anomaly = [
            f"anomaly,{category}/Data/Images/Anomaly/{number}.JPG,"
            f"{category}/Data/Masks/Anomaly/{number}.png"
            for number in range(3)
        ]
        one += [f"{category},train,{line}" for line in reversed(normal[:-2])]
        one += [f"{category},test,{line}" for line in reversed(normal[-2:] + anomaly)]
        few += [f"{category},train,{line}" for line in normal[:3] + anomaly[:1]]
        few += [f"{category},test,{line}" for line in normal[3:] + anomaly[1:]]
    folder = root / "split_csv"
    folder.mkdir()
    (folder / "1cls.csv").write_text("\n".join(one) + "\n", encoding="utf-8")
    (folder / "2cls_fewshot.csv").write_text("\n".join(few) + "\n", encoding="utf-8")
    return root


def mvtec_loco(root: Path) -> Path:
    """One category: two channels of two kinds for the first logical defect, one for the others."""
    box = root / "breakfast_box"
    for split, value in (("train", 60), ("validation", 70), ("test", 80)):
        for number in range(3):
            draw(box / split / "good" / f"{number:03d}.png", value=value + number)
    for kind, value in (("logical_anomalies", 90), ("structural_anomalies", 100)):
        for number in range(2):
            draw(box / "test" / kind / f"{number:03d}.png", value=value + number)
            masks = box / "ground_truth" / kind / f"{number:03d}"
            draw_mask(masks / "000.png", value=255 if kind.startswith("l") else 253)
    draw(box / "ground_truth" / "logical_anomalies" / "000" / "001.png", value=254)
    config = [
        {"defect_name": name, "pixel_value": value, "saturation_threshold": enough}
        | {"relative_saturation": relative}
        for name, value, enough, relative in (
            ("missing_fruit", 255, 1, False),
            ("wrong_ratio", 254, 0.25, True),
            ("damaged", 253, 1.0, True),
        )
    ]
    (box / "defects_config.json").write_text(json.dumps(config), encoding="utf-8")
    return root


def mvtec_ad2(root: Path) -> Path:
    """One category, wrapped in a folder of its own name, with one private test set."""
    vial = root / "vial" / "vial"
    for place, value in (
        ("train/good", 60),
        ("validation/good", 70),
        ("test_public/good", 80),
        ("test_public/bad", 90),
        ("test_private", 100),
    ):
        for number in range(2):
            draw(vial / place / f"{number:03d}_regular.png", value=value + number)
    for number in range(2):
        draw_mask(vial / "test_public" / "ground_truth" / "bad" / f"{number:03d}_regular_mask.png")
    return root


def mpdd(root: Path) -> Path:
    """One category in the layout of MVTec AD."""
    mvtec(root / "tubes")
    return root


def realiad(root: Path) -> Path:
    """Two views of each of four parts; the defect of part 3 is seen by one camera only."""
    rows: dict[str, list[dict[str, str | None]]] = {"train": [], "test": []}
    for part, (split, folder, kind) in enumerate(
        (
            ("train", "OK", "OK"),
            ("train", "OK", "OK"),
            ("test", "OK", "OK"),
            ("test", "NG/BX", "BX"),
        ),
    ):
        for view in (1, 2):
            stem = f"{folder}/S{part:04d}/usb_{part:04d}_{folder.replace('/', '_')}_C{view}_2023"
            draw(root / "realiad_256" / "usb" / f"{stem}.jpg", value=40 + 20 * part + 8 * view)
            seen = kind == "BX" and view == 1
            if seen:
                draw_mask(root / "realiad_256" / "usb" / f"{stem}.png")
            row = {"category": "usb", "anomaly_class": kind, "image_path": f"{stem}.jpg"}
            rows[split].append({**row, "mask_path": f"{stem}.png" if seen else None})
    meta = {"prefix": "usb/", "normal_class": "OK"}
    table = root / "realiad_jsons" / "usb.json"
    table.parent.mkdir()
    table.write_text(json.dumps({"meta": meta, **rows}), encoding="utf-8")
    return root


def ksdd(root: Path) -> Path:
    """Six parts of two images; the second image of every other part has a crack."""
    for part in range(1, 7):
        for number in range(2):
            folder = root / f"kos{part:02d}"
            draw(folder / f"Part{number}.jpg", value=20 * part + 8 * number)
            write = draw_mask if number and part % 2 else partial(draw, value=0)
            write(folder / f"Part{number}_label.bmp")
    return root


def ksdd2(root: Path) -> Path:
    """Three training and three test images, the last of each defective."""
    for split, first in (("train", 10000), ("test", 20000)):
        for number in range(3):
            draw(root / split / f"{first + number}.png", value=first // 200 + number)
            write = draw_mask if number == 2 else partial(draw, value=0)
            write(root / split / f"{first + number}_GT.png")
    return root


def mtd(root: Path) -> Path:
    """Two series of five good tiles, whose masks are black, and three defective ones."""
    for series in (1, 2):
        for number in range(5):
            stem = f"MT_Free/Imgs/exp{series}_num_{number + 8}"
            draw(root / f"{stem}.jpg", value=50 * series + 8 * number)
            draw(root / f"{stem}.png", value=0)
    for kind, count in (("Crack", 2), ("Fray", 1)):
        for number in range(count):
            stem = f"MT_{kind}/Imgs/exp1_num_{number}"
            draw(root / f"{stem}.jpg", value=150 + 8 * number)
            draw_mask(root / f"{stem}.png")
    return root


def dagm(root: Path) -> Path:
    """Class 1: four images a split, one of them defective and listed in Labels.txt."""
    for split, first in (("Train", 576), ("Test", 1)):
        folder = root / "Class1" / split
        lines = ["1"]
        for number in range(first, first + 4):
            name, bad = f"{number:04d}.PNG", number == first + 1
            draw(folder / name, value=number % 200 + 20)
            label = f"{number:04d}_label.PNG"
            if bad:
                draw_mask(folder / "Label" / label)
            lines.append("\t".join([str(number), str(int(bad)), name, "0", label if bad else "0"]))
        (folder / "Label" / "Labels.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def manifest(root: Path) -> Path:
    """A table with separators of Windows beside its images; it is the root itself."""
    lines = ["path,label,split,mask,defect,category,group,_camera"]
    for number in range(3):
        draw(root / "images" / f"ok{number}.png", value=50 + number)
        split = ("train", "train", "validation")[number]
        lines.append(f"images\\ok{number}.png,ok,{split},,,nut,{'burst' * (number == 0)},left")
    lines.append("images/t0.png,0,test,,,nut,,right")
    lines.append(r"images/t1.png,1,test,masks\t1.png,dent,nut,,right")
    for number in range(2):
        draw(root / "images" / f"t{number}.png", value=80 + number)
    draw_mask(root / "masks" / "t1.png")
    table = root / "parts.csv"
    table.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return table

"""Faithful miniatures of the published data sets: real image files of a few pixels."""

from __future__ import annotations

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

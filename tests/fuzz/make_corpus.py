"""Write the seeds of the fuzz tests: small sound files of every kind, all of generated parts.

    python tests/fuzz/make_corpus.py

The seeds are committed, so that every machine damages the same bytes whatever its encoders write.
"""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pyimgano.archive import write_archive

CORPUS = Path(__file__).parent / "corpus"
CSV = """object,split,label,image,mask
part,train,normal,part/Data/Images/Normal/0.png,
part,test,normal,part\\Data\\Images\\Normal\\1.png,
part,test,anomaly,part/Data/Images/Anomaly/0.png,part/Data/Masks/Anomaly/0.png
"""


def pillow(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def images() -> dict[str, bytes]:
    noise = np.random.default_rng(5).integers(0, 256, (24, 30, 3), dtype=np.uint8)
    soft = cv2.GaussianBlur(noise, (0, 0), 2)
    deep = soft.astype(np.uint16) * 256 + noise
    colour = Image.fromarray(soft)
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "rgb.png": pillow(colour, "PNG"),
        "grey.png": pillow(colour.convert("L"), "PNG"),
        "palette.png": pillow(colour.convert("P"), "PNG"),
        "rgba.png": pillow(colour.convert("RGBA"), "PNG"),
        "deep.png": cv2.imencode(".png", deep)[1].tobytes(),
        "deep-grey.png": cv2.imencode(".png", deep[..., 0])[1].tobytes(),
        "rgb.jpg": pillow(colour, "JPEG", exif=exif),
        "grey.jpg": pillow(colour.convert("L"), "JPEG"),
        "cmyk.jpg": pillow(colour.convert("CMYK"), "JPEG"),
        "progressive.jpg": pillow(colour, "JPEG", progressive=True),
        "plain.tif": pillow(colour, "TIFF"),
        "lzw.tif": pillow(colour, "TIFF", compression="tiff_lzw"),
        "deflate.tif": pillow(colour, "TIFF", compression="tiff_adobe_deflate"),
        "deep.tif": cv2.imencode(".tiff", deep)[1].tobytes(),
        "rgb.bmp": pillow(colour, "BMP"),
        "palette.bmp": pillow(colour.convert("P"), "BMP"),
        "lossy.webp": pillow(colour, "WEBP"),
        "lossless.webp": pillow(colour, "WEBP", lossless=True),
    }


def main() -> None:
    CORPUS.mkdir(exist_ok=True)
    for name, data in images().items():
        (CORPUS / name).write_bytes(data)
    arrays = {"bank_": np.arange(6, dtype=np.float32).reshape(2, 3), "flags_": np.eye(2) > 0}
    write_archive(CORPUS / "model.pyimg", {"text": "Prüfling", "threshold": 0.5}, arrays)
    (CORPUS / "1cls.csv").write_text(CSV, encoding="utf-8")


if __name__ == "__main__":
    main()

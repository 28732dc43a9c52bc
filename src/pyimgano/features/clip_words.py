"""The words by which WinCLIP asks for good and bad: texts, their mean vectors, a file of these."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import numpy as np

from pyimgano.errors import ArchiveError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from pyimgano.features.text_image import TextEmbedder

__all__ = ["BAD", "GOOD", "TEMPLATES", "embed_words", "prompts", "read_words"]

GOOD = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
"""States of a good part, of the appendix of WinCLIP (2303.14814)."""

BAD = ("damaged {}", "{} with flaw", "{} with defect", "{} with damage")
"""States of a bad part, of the same."""

TEMPLATES = (
    "a cropped photo of the {}.",
    "a cropped photo of a {}.",
    "a close-up photo of a {}.",
    "a close-up photo of the {}.",
    "a bright photo of a {}.",
    "a bright photo of the {}.",
    "a dark photo of the {}.",
    "a dark photo of a {}.",
    "a jpeg corrupted photo of a {}.",
    "a jpeg corrupted photo of the {}.",
    "a blurry photo of the {}.",
    "a blurry photo of a {}.",
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of a small {}.",
    "a photo of the small {}.",
    "a photo of a large {}.",
    "a photo of the large {}.",
    "a photo of the {} for visual inspection.",
    "a photo of a {} for visual inspection.",
    "a photo of the {} for anomaly detection.",
    "a photo of a {} for anomaly detection.",
)
"""What a state is put into, of the same; anomalib's list lacks two of the 22."""


def prompts(part: str) -> tuple[list[str], list[str]]:
    """Return the texts for a good and for a bad part: every state in every template.

    Examples
    --------
    >>> good, bad = prompts("metal_nut")
    >>> len(good), len(bad), bad[0]
    (154, 88, 'a cropped photo of the damaged metal nut.')
    """
    name = " ".join(part.replace("_", " ").split())
    good, bad = (
        [template.format(state.format(name)) for state in states for template in TEMPLATES]
        for states in (GOOD, BAD)
    )
    return good, bad


def embed_words(extractor: TextEmbedder, part: str) -> NDArray[np.float32]:
    """Return the mean text of a good and of a bad ``part``, as people call it: (2, d).

    Saved with ``np.save`` it is what `read_words` reads. Texts are brought to length 1 before
    their mean is taken, as CLIP's own ensembles are, and so is the mean.
    """
    means = [_unit(extractor.embed_texts(texts)).mean(axis=0) for texts in prompts(part)]
    return _unit(np.stack(means))


def read_words(path: Path) -> NDArray[np.float32]:
    """Read the two mean texts, good and bad, each of length 1: float32 (2, d).

    The file is ``.npy`` of shape (2, d), or ``.npz`` with ``normal`` and ``anomalous`` of shape
    (d,); what cannot be read, or holds something else, is an `ArchiveError`.
    """
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.lib.npyio.NpzFile):
                found = np.stack([found["normal"], found["anomalous"]])
        words = np.asarray(found, np.float32)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ArchiveError(f"the two texts in {path} cannot be read: {error}") from error
    lengths = np.linalg.norm(words, axis=-1) if words.ndim == 2 else np.zeros(1)
    if len(words) != 2 or not (np.isfinite(lengths) & (lengths > 0)).all():
        raise ArchiveError(
            f"{path} must hold two texts, .npy (2, d) or .npz with normal and anomalous (d,); "
            f"it has the shape {words.shape}, or numbers that are no directions"
        )
    return _unit(words)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

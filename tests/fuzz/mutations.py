"""Damage as a strategy: a seed, and what happens to its bytes on the way."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

CORPUS = Path(__file__).parent / "corpus"
HOWS = ("flip", "overwrite", "delete", "insert", "repeat", "cut")
edits = st.tuples(
    st.sampled_from(HOWS),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 64),
    st.binary(min_size=1, max_size=8),
)


def mutated(data: bytes, changes: list[tuple[str, float, int, bytes]]) -> bytes:
    """Return a damaged copy; places are shares of the size, so that each fits every seed."""
    for how, share, length, new in changes:
        at = int(share * len(data))
        head, run, tail = data[:at], data[at : at + length], data[at + length :]
        flipped = bytes([run[0] ^ (1 << length % 8)]) if run else b""
        data = {
            "flip": head + flipped + run[1:] + tail,
            "overwrite": head + new + data[at + len(new) :],
            "delete": head + tail,
            "insert": head + new + run + tail,
            "repeat": head + run + run + tail,
            "cut": head,
        }[how]
    return data


def seeds(*suffixes: str) -> st.SearchStrategy[Path]:
    """Choose a committed seed."""
    return st.sampled_from(sorted(p for p in CORPUS.iterdir() if p.suffix in suffixes))


def damaged(*suffixes: str) -> st.SearchStrategy[tuple[Path, bytes]]:
    """Choose a seed and damage it."""
    return st.builds(
        lambda seed, changes: (seed, mutated(seed.read_bytes(), changes)),
        seeds(*suffixes),
        st.lists(edits, min_size=1, max_size=3),
    )


def check_words(error: Exception, name: str = "") -> None:
    """Check a refusal, one of the two right outcomes: it says why, and names the file."""
    assert str(error)
    assert name in str(error)

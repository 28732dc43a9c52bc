"""Files that are either whole or absent: written to a temporary name, then put in place.

A reader, a power cut or a second process never sees half a file: it sees the old one or the new.
"""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pyimgano.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["atomic_write", "output_errors", "write_atomic"]


@contextmanager
def output_errors(path: str | Path) -> Iterator[None]:
    """Turn an ``OSError`` of the block into an `OutputError` that names ``path`` and a way out."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; "
            "choose a place that exists, may be written to and has room"
        ) from error


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file that replaces ``path`` when the block ends, and leaves no trace if it fails.

    Parameters
    ----------
    path : str or Path
        Where the file shall stand; its folder exists.

    Yields
    ------
    binary file
        A seekable file under a temporary name in the same folder. It is flushed to the disk before
        it takes the place of ``path``.

    Raises
    ------
    OutputError
        If the folder is missing or read-only, the disk is full, or ``path`` is a folder. Other
        errors of the block pass through: an ``OSError`` about another file is not about this one.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "answer.txt"
    >>> with atomic_write(target) as file:
    ...     _ = file.write(b"42")
    >>> target.read_bytes()
    b'42'
    """
    target = Path(path)
    if target.is_dir():
        raise OutputError(f"cannot write {target}: a folder of this name exists; give a file name")
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    with output_errors(target):
        file = temporary.open("xb")
    try:
        try:
            yield file
        except OSError as error:
            if error.filename is not None or error.errno is None:
                raise
            with output_errors(target):  # no file name: the write itself failed, as on a full disk
                raise
        with output_errors(target):
            file.flush()
            os.fsync(file.fileno())
            file.close()
            temporary.replace(target)
    finally:
        with suppress(OSError):  # a full disk fails the closing flush a second time
            file.close()
        temporary.unlink(missing_ok=True)


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write ``data`` as a whole file; text becomes UTF-8, with undecodable names escaped.

    Raises
    ------
    OutputError
        As `atomic_write`.
    """
    encoded = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    with atomic_write(path) as file:
        file.write(encoded)

"""Regular files only: their bytes, or one line that says why not."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pyimgano.errors import ImageReadError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

__all__ = ["cache_folder", "opened", "read_bytes", "shown"]


def cache_folder() -> Path:
    """Return the folder of what can be made again: ``~/.cache/pyimgano``, or XDG_CACHE_HOME's.

    Raises
    ------
    RuntimeError
        If there is no home folder.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "pyimgano").expanduser()


def shown(path: str | os.PathLike[str]) -> str:
    r"""Return a path for messages: one line, undecodable and control characters escaped.

    Examples
    --------
    >>> print(shown("day\n1/Prüfling.png"))
    day\n1/Prüfling.png
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in os.fspath(path)
    )


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open an image file for reading; what is not a regular file is never opened.

    Opening a FIFO or a device could block for ever.

    Raises
    ------
    ImageReadError
        If there is no regular, readable, non-empty file under this path.
    """
    fault = _fault(path)
    if fault:
        raise ImageReadError(f"{shown(path)}: {fault}")
    try:
        with Path(path).open("rb") as file:
            yield file
    except ImageReadError:
        raise
    except OSError as error:
        raise ImageReadError(f"{shown(path)}: cannot be read: {error.strerror or error}") from error


def read_bytes(path: str | os.PathLike[str], *, limit: int) -> bytes:
    """Read an image file whole.

    Parameters
    ----------
    path : str or os.PathLike
        Any name that the file system knows, ASCII or not.
    limit : int
        The largest file that is read, in bytes.

    Returns
    -------
    bytes
        What the file holds.

    Raises
    ------
    ImageReadError
        If there is no regular, readable, non-empty file under this path, or it is too large.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise ImageReadError(
                f"{shown(path)}: {size} bytes are more than an image within the pixel limit needs"
            )
        return file.read()


def _fault(path: str | os.PathLike[str]) -> str:
    """Say what keeps a path from being read, or nothing."""
    try:
        status = Path(path).stat()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError as error:
        return f"cannot be read: {error}"
    if stat.S_ISDIR(status.st_mode):
        return "is a directory; an image file is expected"
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file; an image file is expected"
    return "" if status.st_size else "is empty (0 bytes)"

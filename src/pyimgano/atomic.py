"""Files that are either whole or absent: written to a temporary name, then put in place.

A reader, a power cut or a second process never sees half a file: it sees the old one or the new.
Of two processes that write one file both end whole, and the file of the last one stands. A writer
holds a lock on its temporary file; what a killed one left is not locked and is swept by the next
that writes into that folder. Where there are no locks (Windows, some network drives) nothing is
swept.
"""

from __future__ import annotations

import errno
import os
import uuid
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pyimgano.errors import InputError, OutputError, PyimganoError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["atomic_write", "claimed", "locked", "output_errors", "sweep", "write_atomic"]

_TEMPORARY = ".pyimgano-{}.tmp"


@contextmanager
def output_errors(path: str | Path) -> Iterator[None]:
    """Turn an ``OSError`` of the block into an `OutputError` that names ``path`` and a way out."""
    try:
        yield
    except PyimganoError:
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; "
            "choose a place that exists, may be written to and has room"
        ) from error


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Lock a file or a folder against all others that ask; a killed process holds no lock.

    Yields
    ------
    bool
        False where there are no locks.

    Raises
    ------
    BlockingIOError
        If somebody else holds the lock.
    """
    descriptor = -1
    try:
        try:  # to write, where it is a file: network drives ask for that
            descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
            _lock(descriptor)
        except BlockingIOError:
            raise
        except OSError:
            yield False
        else:
            yield True
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _lock(descriptor: int) -> None:
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock
    except ImportError as error:
        raise OSError(errno.ENOTSUP, "no locks on this system") from error
    flock(descriptor, LOCK_EX | LOCK_NB)


def sweep(folder: Path) -> None:
    """Delete the temporary files of killed writers; those of live ones are locked and stay."""
    for path in folder.glob(_TEMPORARY.format("*")):
        with suppress(OSError), locked(path) as dead:
            if dead:
                path.unlink()


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
    sweep(target.parent)
    with ExitStack() as stack:
        with output_errors(target):
            temporary, file = _opened(target.parent, stack)
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


def _opened(folder: Path, stack: ExitStack) -> tuple[Path, BinaryIO]:
    """Create and lock a temporary file; leaving the stack closes, deletes and unlocks it."""
    while True:
        temporary = folder / _TEMPORARY.format(uuid.uuid4().hex)
        try:
            file = temporary.open("xb")
            with suppress(BlockingIOError):
                stack.enter_context(locked(temporary))
                if temporary.exists():  # or it was swept before it was locked: make another
                    stack.callback(_discard, temporary, file)
                    return temporary, file
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        file.close()


def _discard(temporary: Path, file: BinaryIO) -> None:
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


@contextmanager
def claimed(out: Path, what: str, check: Callable[[Path], object]) -> Iterator[None]:
    """Make sure that ``out`` may be written, by nobody else as long as the block lasts.

    Parameters
    ----------
    out : Path
        Made, if it is not there.
    what : str
        What is written, in words.
    check : callable
        Raises `InputError` if a directory that is not empty holds something else.

    Raises
    ------
    OutputError
        If it is a file, holds something else, or another process writes it.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; give a directory for the results")
    with ExitStack() as stack:
        with output_errors(out):
            out.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(locked(out))
            except BlockingIOError as error:
                raise OutputError(
                    f"another process is writing {what} into {out}; wait for its end, or give "
                    "another directory"
                ) from error
            sweep(out)
            try:
                if any(out.iterdir()):
                    check(out)
            except InputError as error:
                raise OutputError(
                    f"{out} holds something else than {what} ({error}); give a new or empty "
                    "directory"
                ) from error
        yield

"""Networks are built from their weights once, and kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

from pyimgano.atomic import write_atomic
from pyimgano.errors import OutputError
from pyimgano.files import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["kept"]

_DIGEST = 32
_log = logging.getLogger(__name__)


def kept(name: str, weights: Path, build: Callable[[], bytes]) -> bytes:
    """Return a network: what was kept under a name that says how it is built, or what is built.

    Kept is its checksum, then itself. What is damaged, or was made when another file of weights
    stood there (size and time tell), is built again; where nothing can be written, each process
    builds its own.
    """
    try:
        facts = weights.stat()
        source = f"{weights.name} {facts.st_size} {facts.st_mtime_ns}\n".encode()
        file = cache_folder() / "networks" / name
    except (OSError, RuntimeError) as error:
        _log.info("no network can be kept: %s", error)
        return build()
    try:
        data = file.read_bytes()
        if _digest(source, memoryview(data)[_DIGEST:]) == data[:_DIGEST]:
            return data[_DIGEST:]
        _log.info("%s is damaged, or of other weights: the network is built again", file)
    except FileNotFoundError:
        pass
    except OSError as error:
        _log.info("%s cannot be read: %s", file, error)
    network = build()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, _digest(source, network) + network)
    except (OSError, OutputError) as error:
        _log.warning("no network can be kept, each process builds its own: %s", error)
    return network


def _digest(source: bytes, network: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(source)
    digest.update(network)
    return digest.digest()

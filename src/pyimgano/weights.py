"""Weight files by name: fetched once, held to what is recorded, carried where no network is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
import zlib
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyimgano import __version__
from pyimgano.atomic import atomic_write, output_errors, write_atomic
from pyimgano.errors import FetchError, ParameterError
from pyimgano.features._catalogue import WEIGHTS, Weights
from pyimgano.features._checkpoint import sha256_of, weights_folder
from pyimgano.fetching import Origin, fill, require_size, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["WEIGHTS", "Fetched", "Weights", "bundle", "fetch", "find", "place_of"]
__all__ += ["recorded"]

CHUNK = 1 << 20
_KIND = "pyimgano weights"
_SUM = re.compile(r"([0-9a-f]{64})\b")
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A weight file that is in its folder.

    Parameters
    ----------
    name : str
        Its name.
    path : Path
        Where it is.
    sha256 : str
        Its checksum, which stands beside it too, in ``<file>.sha256``.
    checked : str
        With what the checksum was compared; empty if nothing was recorded: the first who fetches
        it takes what comes, and all others are held to that.
    is_new : bool
        Whether it was not there before.
    """

    name: str
    path: Path
    sha256: str
    checked: str = ""
    is_new: bool = False


def fetch(
    name: str,
    source: str = "",
    folder: str | Path | None = None,
    *,
    told: Callable[[int], object] = lambda _: None,
    timeout: float = 30.0,
) -> Fetched:
    """Put a weight file into the folder in which the extractors look for it.

    Parameters
    ----------
    name : str
        One of `WEIGHTS`.
    source : str
        A URL: of the file, or of a folder that holds it. Or a folder, or a bundle that `bundle`
        wrote: then no connection is opened. By default the URL at which it is published.
    folder : str or Path, optional
        Where to put it; by default the folder that ``PYIMGANO_WEIGHTS`` names, or
        ``~/.cache/pyimgano/weights``.
    told : callable
        Is told again and again how many bytes are there.
    timeout : float
        Seconds without a byte after which a connection is given up.

    Returns
    -------
    Fetched

    Raises
    ------
    UnknownNameError
        If there are no such weights; the message lists near matches.
    FetchError
        If it cannot be had, is damaged, or is not the one that is recorded.
    OutputError
        If it cannot be written. What was fetched so far is kept and not fetched again.
    """
    weights = WEIGHTS[name]
    target = place_of(folder) / weights.file
    there = find(name, folder)
    if there is not None:
        _record(target, there.sha256)
        return there
    scheme, colon, _ = (source or weights.url).partition("://")
    if colon and scheme not in {"http", "https"}:
        raise ParameterError(f"weights come from http, https, a folder or a bundle: {source!r}")
    with output_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    claims = _claims(weights, target)
    if colon:
        url = _url_of(source or weights.url, weights.file)
        part = target.with_name(f"{weights.file}.part")
        fill(part, Origin(url=url, megabytes=weights.megabytes, timeout=timeout), told)
        digest = _settle(part, target, claims)
    else:
        digest = _copy(Path(source).expanduser(), weights, target, claims, told)
    _record(target, digest)
    return Fetched(name, target, digest, " and ".join(claims), is_new=True)


def find(name: str, folder: str | Path | None = None) -> Fetched | None:
    """Return a weight file that is there, read and compared with what is recorded; else None.

    Raises
    ------
    UnknownNameError
        If there are no such weights.
    FetchError
        If it is not the one that is recorded.
    ArchiveError
        If it cannot be read.
    """
    weights = WEIGHTS[name]
    target = place_of(folder) / weights.file
    if not target.is_file():
        return None
    digest, claims = sha256_of(target), _claims(weights, target)
    _verify(str(target), digest, claims)
    return Fetched(name, target, digest, " and ".join(claims))


def recorded(name: str, folder: str | Path | None = None) -> dict[str, str]:
    """Return the checksums that weights must have, by who says so; empty if nobody does."""
    weights = WEIGHTS[name]
    return _claims(weights, place_of(folder) / weights.file)


def bundle(
    names: Sequence[str], out: str | Path, folder: str | Path | None = None
) -> tuple[Fetched, ...]:
    """Write weight files with their checksums and licences into one zip, to be carried in.

    Parameters
    ----------
    names : sequence of str
        Some of `WEIGHTS`, fetched before.
    out : str or Path
        The zip. `fetch` takes it, or the folder into which it was unpacked, as its source.
    folder : str or Path, optional
        Where they are; see `fetch`.

    Raises
    ------
    UnknownNameError
        If there are no such weights.
    FetchError
        If one is not there, or not the one that is recorded.
    OutputError
        If the zip cannot be written.
    """
    found = []
    for name in dict.fromkeys(names):
        there = find(name, folder)
        if there is None:
            raise FetchError(f"{name} is not in {place_of(folder)}; first: pyimgano fetch {name}")
        found.append(there)
    facts = {one.name: {**asdict(WEIGHTS[one.name]), "sha256": one.sha256} for one in found}
    manifest = {"kind": _KIND, "format": 1, "pyimgano": __version__, "weights": facts}
    with atomic_write(out) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest, indent=1))
        for text in ("LICENSE", "NOTICE"):
            kept = metadata.distribution("pyimgano").read_text(f"licenses/{text}")
            archive.writestr(text, kept or f"{text}: see https://www.apache.org/licenses/\n")
        for one in found:
            archive.write(one.path, one.path.name)
            archive.writestr(f"{one.path.name}.sha256", f"{one.sha256}  {one.path.name}\n")
    return tuple(found)


def place_of(folder: str | Path | None = None) -> Path:
    """Return the folder itself, or the one in which the extractors look for weights."""
    return weights_folder() if folder is None else Path(folder).expanduser()


def _url_of(source: str, file: str) -> str:
    return source if source.endswith(f"/{file}") else f"{source.rstrip('/')}/{file}"


def _claims(weights: Weights, target: Any) -> dict[str, str]:
    """Return the checksums that a file must have, by who says so."""
    claims = {"its publisher": weights.sha256} if weights.sha256 else {}
    beside = target.parent / f"{weights.file}.sha256"
    if beside.is_file():
        found = _SUM.match(beside.read_text(encoding="utf-8", errors="replace"))
        if found is None:
            raise FetchError(f"{beside} holds no checksum; delete it, or fetch it again")
        claims[str(beside)] = found[1]
    return claims


def _verify(what: str, digest: str, claims: dict[str, str]) -> None:
    for who, expected in claims.items():
        if digest != expected:
            raise FetchError(
                f"{what} has the SHA-256 {digest}, but {who} says {expected}: it is damaged or "
                "another file; delete what you do not trust, and fetch it again"
            )


def _record(target: Path, digest: str) -> None:
    """Write the checksum beside the file, as ``sha256sum`` reads it, unless it is there."""
    beside = target.with_name(f"{target.name}.sha256")
    if not beside.is_file():
        write_atomic(beside, f"{digest}  {target.name}\n")


def _settle(part: Path, target: Path, claims: dict[str, str]) -> str:
    """Give a part that is whole its name, or delete it if it is not what is recorded."""
    digest = sha256_of(part)
    try:
        _verify(f"what was fetched for {target.name}", digest, claims)
    except FetchError:
        part.unlink()
        state_of(part).unlink()
        raise
    with output_errors(target):
        with part.open("r+b") as file:
            os.fsync(file.fileno())
        part.replace(target)
        state_of(part).unlink()
    return digest


def _copy(
    source: Path,
    weights: Weights,
    target: Path,
    claims: dict[str, str],
    told: Callable[[int], object],
) -> str:
    """Copy from a folder or a bundle; of an archive no name but that of the weights is used."""
    try:
        root: Any = zipfile.Path(source) if source.is_file() else source
        item = root / weights.file
        if not item.is_file():
            raise FetchError(f"{source} is no folder and no bundle that holds {weights.file}")
        claims |= _claims(weights, item)
        digest, there = hashlib.sha256(), 0
        with atomic_write(target) as file, item.open("rb") as given:
            while data := given.read(CHUNK):
                file.write(data)
                digest.update(data)
                there += len(data)
                told(there)
            require_size(str(item), there, weights.megabytes)
            _verify(str(item), digest.hexdigest(), claims)
    except _DAMAGE as error:
        raise FetchError(f"{source} is damaged, or no bundle: {error}") from error
    return digest.hexdigest()

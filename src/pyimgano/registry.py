"""Names to objects: decorator registration, lazy discovery, entry points, near matches.

A `Registry` sits beside the abstraction it lists (``DETECTORS`` beside ``Detector``). A name is
looked for in the module of its package that is called like it; then all public modules of the
package are imported, then the entry points of other distributions: so one new file, or one
installed plugin, is enough to add a name.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from pyimgano.errors import ParameterError, PyimganoWarning, UnknownNameError
from pyimgano.optional import is_available

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from importlib.metadata import EntryPoint

__all__ = ["VALUES", "Entry", "Metadata", "Registry"]

T = TypeVar("T")

_PREFIX = "vision_"
"""Before the names of detectors; the module of ``vision_padim`` is called ``padim``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What the lists, the documentation tables and the tests know of a registered object.

    Attributes
    ----------
    summary : str
        One line for people.
    paper : str
        Source of the method: authors, venue, arXiv number; empty if there is none.
    licence : str
        Licence of what it builds on, weights included.
    extra : str
        The extra of pyimgano that it needs; empty for the core.
    modules : tuple of str
        Import names that must be installed for it to run.
    uses : tuple of str
        Import names of which it needs some, depending on what it is given.
    family : str
        The name of which this one is an alias; lists show a family in one line.
    maps : bool
        Whether a detector gives anomaly maps.
    transductive : bool
        Whether the scores belong to the batch that is judged together.
    exact : bool
        Whether an index never misses a neighbour.
    details : tuple of (str, str)
        Further facts of one kind of object, such as the layout that a data set reader expects.
    """

    summary: str
    paper: str = ""
    licence: str = "Apache-2.0"
    extra: str = ""
    modules: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    family: str = ""
    maps: bool = True
    transductive: bool = False
    exact: bool = True
    details: tuple[tuple[str, str], ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Modules that are not installed here."""
        return tuple(name for name in self.modules if not is_available(name))

    @property
    def without(self) -> tuple[str, ...]:
        """Modules that some uses of it need and that are not installed here."""
        return tuple(name for name in self.uses if not is_available(name))

    @property
    def pip_line(self) -> str:
        """The line that installs what is needed; empty for the core."""
        return f'pip install "pyimgano[{self.extra}]"' if self.extra else ""


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """A registered object with its name and metadata."""

    name: str
    value: T
    metadata: Metadata


class Registry(Generic[T]):
    """A table of names.

    Parameters
    ----------
    kind : str
        What the entries are, for messages: ``"detector"``.
    package : str, optional
        Package whose public modules register entries when they are imported.
    group : str, optional
        Entry-point group of plugins; each entry point loads an object or a module that registers.

    Examples
    --------
    >>> shapes: Registry[type] = Registry("shape")
    >>> @shapes.register("square", Metadata(summary="Four equal sides."))
    ... class Square: ...
    >>> shapes["square"] is Square
    True
    >>> shapes["sqare"]
    Traceback (most recent call last):
    ...
    pyimgano.errors.UnknownNameError: unknown shape 'sqare'; did you mean 'square'?
    """

    def __init__(self, kind: str, *, package: str = "", group: str = "") -> None:
        self.kind = kind
        self._package = package
        self._group = group
        self._entries: dict[str, Entry[T]] = {}
        self._discovered = False

    def register(self, name: str, facts: Metadata) -> Callable[[T], T]:
        """Return a decorator that enters an object under ``name``."""

        def enter(value: T) -> T:
            known = self._entries.get(name)
            if known is not None and not _same_source(known.value, value):
                raise ParameterError(f"{self.kind} {name!r} is registered already: {known.value!r}")
            self._entries[name] = Entry(name, value, facts)
            return value

        return enter

    def entry(self, name: str) -> Entry[T]:
        """Return the entry of ``name``, or raise `UnknownNameError` with near matches."""
        if name not in self._entries:
            self._import_namesake(name)
        if name not in self._entries:
            self._discover()
        if name not in self._entries:
            raise UnknownNameError(self._unknown(name))
        return self._entries[name]

    def __getitem__(self, name: str) -> T:
        return self.entry(name).value

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._discover()
        return len(self._entries)

    def entries(self) -> tuple[Entry[T], ...]:
        """Return all entries, sorted by name."""
        return tuple(self.entry(name) for name in self)

    def name_of(self, value: object) -> str | None:
        """Return the name under which ``value`` itself is registered, or None."""
        found = self._name_among_known(value)
        if found is None:  # perhaps that of a plugin
            self._discover()
            found = self._name_among_known(value)
        return found

    def _name_among_known(self, value: object) -> str | None:
        return next((each.name for each in self._entries.values() if each.value is value), None)

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name, self._entries, n=3, cutoff=0.5)
        if near:
            return f"unknown {self.kind} {name!r}; did you mean {' or '.join(map(repr, near))}?"
        return f"unknown {self.kind} {name!r}; known: {', '.join(sorted(self._entries)) or 'none'}"

    def _import_namesake(self, name: str) -> None:
        """Import the module called like a name: all of them take a tenth of a second."""
        called = name.removeprefix(_PREFIX)
        if not self._discovered and called in self._modules():
            importlib.import_module(f"{self._package}.{called}")

    def _modules(self) -> list[str]:
        if not self._package:
            return []
        folder = importlib.import_module(self._package).__path__
        return [m.name for m in pkgutil.iter_modules(folder) if not m.name.startswith("_")]

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        for module in self._modules():
            importlib.import_module(f"{self._package}.{module}")
        if self._group:
            from importlib import metadata

            for point in metadata.entry_points(group=self._group):
                self._load_plugin(point)

    def _load_plugin(self, point: EntryPoint) -> None:
        try:
            value = point.load()
            known = self._entries.get(point.name)
            if not _is_module(value) and (known is None or known.value is not value):
                self.register(point.name, _plugin_facts(value))(value)
        except Exception as error:  # noqa: BLE001 - a foreign module may raise anything
            owner = point.dist.name if point.dist is not None else "an unknown distribution"
            warnings.warn(
                f"the plugin {point.name!r} ({point.value}) of {owner} could not be loaded and is "
                f"left out: {type(error).__name__}: {error}",
                PyimganoWarning,
                stacklevel=2,
            )


VALUES: Registry[type] = Registry("value object", package="pyimgano.views")
"""Frozen dataclasses that may be a detector's parameter: a model file stores {name, parameters}."""


def _same_source(first: object, second: object) -> bool:
    """Tell whether two objects are one definition, imported twice (a reload)."""
    return getattr(first, "__qualname__", first) == getattr(second, "__qualname__", second) and (
        getattr(first, "__module__", None) == getattr(second, "__module__", None)
    )


def _plugin_facts(value: object) -> Metadata:
    summary = (getattr(value, "__doc__", None) or "A plugin.").strip().splitlines()[0]
    return Metadata(summary=summary, licence="see its distribution")


def _is_module(value: object) -> bool:
    return type(value).__name__ == "module"

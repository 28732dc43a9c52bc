"""Directives that read the package while the site is built, so that no table is a copy.

``registry`` writes the table of a registry, ``verb`` what ``--help`` prints, ``error-tree`` the
exceptions, ``speed`` the committed benchmarks, ``detector-parameters`` what its name says.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sphinx.addnodes import pending_xref
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

from pyimgano import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docutils import nodes
    from sphinx.application import Sphinx

    from pyimgano.registry import Entry, Registry

ROOT = Path(__file__).parents[2]


class _Generated(SphinxDirective):
    """A directive whose content is Markdown that Python writes."""

    required_arguments: ClassVar[int] = 0

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes("\n".join(self.lines()))

    def lines(self) -> Iterator[str]:
        raise NotImplementedError


class RegistryTable(_Generated):
    """``{registry} detectors``: all entries, with what they are and what they need."""

    required_arguments = 1

    def lines(self) -> Iterator[str]:
        every = registries()[self.arguments[0]].entries()
        entries = [one for one in every if not one.metadata.family]
        columns = {
            "name": [f"`{one.name}`" for one in entries],
            "what it is": [one.metadata.summary for one in entries],
            "source": [_source(one) for one in entries],
            "licence": [one.metadata.licence for one in entries],
            "needs": [_needs(one) for one in entries],
        }
        kept = {name: cells for name, cells in columns.items() if any(cells)}
        yield from _table(list(kept), zip(*kept.values(), strict=True))
        for one in entries:
            aliases = [f"`{each.name}`" for each in every if each.metadata.family == one.name]
            if aliases:
                yield from ("", f"Aliases of `{one.name}`: {', '.join(aliases)}.")
            layout = dict(one.metadata.details).get("layout")
            if layout:
                yield from ("", f"Layout of `{one.name}`:", "", "```text", layout, "```")


class Verb(_Generated):
    """``{verb} fit``: what its ``--help`` prints; without an argument, that of the program."""

    optional_arguments = 1

    def lines(self) -> Iterator[str]:
        name = self.arguments[0] if self.arguments else ""
        yield from ("```text", f"$ pyimgano {name} --help".replace("  ", " "))
        yield from (help_of(name).rstrip(), "```")


class ErrorTree(_Generated):
    """All our exceptions, each under its base, with the builtins that it refines."""

    def lines(self) -> Iterator[str]:
        yield from self._below(errors.PyimganoError, 0)
        yield from self._below(errors.PyimganoWarning, 0)

    def _below(self, kind: type, depth: int) -> Iterator[str]:
        foreign = [base for base in kind.__bases__ if base.__module__ == "builtins"]
        builtins = [base.__name__ for base in foreign if base is not Exception]
        also = f" (also {', '.join(builtins)})" if builtins else ""
        summary = (inspect.getdoc(kind) or "").splitlines()[0]
        yield f"{'  ' * depth}- {{py:obj}}`~pyimgano.errors.{kind.__name__}`{also}: {summary}"
        for child in kind.__subclasses__():
            if child.__module__ == errors.__name__:
                yield from self._below(child, depth + 1)


class ExitCodes(_Generated):
    """What the help says of them, as a table."""

    def lines(self) -> Iterator[str]:
        told = help_of("").partition("Exit codes:")[2]
        codes = [line.split(maxsplit=1) for line in told.splitlines() if line.strip()]
        yield from _table(["code", "meaning"], codes)


class DetectorParameters(_Generated):
    """``{detector-parameters} vision_padim``: its own parameters; ``shared``: those of all."""

    required_arguments = 1

    def lines(self) -> Iterator[str]:
        from pyimgano.embedding_detector import EmbeddingDetector
        from pyimgano.feature_detector import FeatureDetector

        name = self.arguments[0]
        shared = {f.name: f for f in dataclasses.fields(FeatureDetector)}
        kind = FeatureDetector if name == "shared" else registries()["detectors"][name]
        if not issubclass(kind, FeatureDetector):
            shared = {f.name: f for f in dataclasses.fields(EmbeddingDetector)}
        own = [f for f in dataclasses.fields(kind) if name == "shared" or f.name not in shared]
        yield from _table(
            ["parameter", "type", "default"],
            ((f"`{f.name}`", f"`{f.type}`", f"`{_default(f)}`") for f in own),
        )


class Speed(_Generated):
    """``{speed} knn``: the committed result file of one speed benchmark as tables."""

    required_arguments = 1

    def lines(self) -> Iterator[str]:
        path = ROOT / "benchmarks" / "speed" / "results" / f"{self.arguments[0]}.json"
        self.env.note_dependency(str(path))
        found = json.loads(path.read_text(encoding="utf-8"))
        if "sets" not in found:
            yield from _pipeline(found["figures"])
            return
        about = found["environment"]
        using = about.get("using", "one thread")
        yield f"Measured on {about['cores']} cores of an {about['cpu']}, {using}."
        for name, measured in found["sets"].items():
            rows = measured.get("rows", measured)
            keys = list(dict.fromkeys(k for row in rows.values() for k in row))
            keys = [
                k for k in keys if not isinstance(next(iter(rows.values())).get(k), list | dict)
            ]
            yield from ("", f"**{name}**", "")
            yield from _table(
                ["", *map(_words, keys)],
                ([who, *(_figure(row.get(key)) for key in keys)] for who, row in rows.items()),
            )


def _pipeline(figures: dict[str, Any]) -> Iterator[str]:
    flat = {key: value for key, value in figures.items() if not isinstance(value, dict)}
    yield ", ".join(f"{_words(key)}: {value}" for key, value in flat.items()) + "."
    nested = {key: value for key, value in figures.items() if isinstance(value, dict)}
    keys = list(dict.fromkeys(k for row in nested.values() for k in row))
    yield ""
    yield from _table(
        ["", *nested],
        ([_words(k), *(_figure(r.get(k)) for r in nested.values())] for k in keys),
    )


def _words(key: str) -> str:
    units = {"mb": "MB", "mib": "MiB", "gemm": "GEMM"}
    return " ".join(units.get(word, word) for word in key.split("_"))


def _figure(value: Any) -> str:
    return "" if value is None else str(value)


def registries() -> dict[str, Registry[Any]]:
    """Return the registries by the words of ``pyimgano list``, and that of the indexes."""
    from pyimgano.datasets.base import DATASETS
    from pyimgano.estimator import DETECTORS
    from pyimgano.features.base import EXTRACTORS
    from pyimgano.metrics.scorecard import METRICS
    from pyimgano.models.knn_index import INDEXES

    return {
        "detectors": DETECTORS,
        "extractors": EXTRACTORS,
        "datasets": DATASETS,
        "metrics": METRICS,
        "indexes": INDEXES,
    }


def verbs() -> list[str]:
    """Return the names of all commands, in the order of the help."""
    group = _command()
    return group.list_commands(_context(group, "pyimgano"))


def help_of(verb: str) -> str:
    """Return what ``pyimgano VERB --help`` prints, 80 columns wide."""
    group = _command()
    if not verb:
        return str(group.get_help(_context(group, "pyimgano")))
    above = _context(group, "pyimgano")
    command = group.get_command(above, verb)
    return str(command.get_help(_context(command, verb, above)))


def _command() -> Any:
    import typer

    from pyimgano.cli import main  # noqa: F401 - the verbs enter the application there
    from pyimgano.cli._app import app

    return typer.main.get_command(app)


def _context(command: Any, name: str, parent: Any = None) -> Any:
    settings = {"help_option_names": ["-h", "--help"], **command.context_settings}
    return command.context_class(
        command, info_name=name, parent=parent, terminal_width=80, **settings
    )


def _source(entry: Entry[Any]) -> str:
    return entry.metadata.paper or dict(entry.metadata.details).get("source", "")


def _needs(entry: Entry[Any]) -> str:
    return f"extra `{entry.metadata.extra}`" if entry.metadata.extra else "the core"


def _default(field: Any) -> str:
    if field.default is not dataclasses.MISSING:
        return repr(field.default)
    return repr(field.default_factory())


def _table(head: list[str], rows: Any) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"


def _link_to_page(_app: Sphinx, _name: str, source: list[str]) -> None:
    """Lead the link to a committed table, as it works in the repository, to its page here."""
    source[0] = source[0].replace("(../../benchmarks/accuracy/native.md)", "(../accuracy.md)")


def _unlink_words(_app: Sphinx, doctree: nodes.document) -> None:
    """Leave plain words in the types of docstrings alone: "path" is not `Sample.path`."""
    for node in list(doctree.findall(pending_xref)):
        target = node["reftarget"]
        if node.get("refdomain") == "py" and target.islower() and "." not in target:
            node.replace_self(node.children)


def _find_name(_app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """Resolve `Detector` in a docstring of another module: names are looked up by their end."""
    if node.get("refdomain") != "py" or not node["reftarget"]:
        return None
    domain = env.get_domain("py")
    end = f".{node['reftarget']}"
    ends = [
        (len(name), name, known) for name, known in domain.objects.items() if name.endswith(end)
    ]
    if not ends:
        return None
    _, name, known = min(ends, key=lambda one: one[:2])
    return make_refnode(_app.builder, node["refdoc"], known.docname, known.node_id, content, name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Enter the directives."""
    app.add_directive("registry", RegistryTable)
    app.add_directive("verb", Verb)
    app.add_directive("speed", Speed)
    app.add_directive("error-tree", ErrorTree)
    app.add_directive("detector-parameters", DetectorParameters)
    app.add_directive("exit-codes", ExitCodes)
    app.connect("source-read", _link_to_page)
    app.connect("doctree-read", _unlink_words)
    app.connect("missing-reference", _find_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

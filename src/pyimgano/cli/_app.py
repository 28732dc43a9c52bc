"""The application: global options, exit codes, and what is said when something goes wrong."""

from __future__ import annotations

import gc
import io
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from pyimgano import __version__
from pyimgano.errors import ParameterError, PyimganoError, was_interrupted
from pyimgano.threads import outwait, set_budget

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["EVERYWHERE", "ExitCode", "Settings", "app", "run", "tell"]

EVERYWHERE = "Every command also takes --quiet, --threads N and --debug."


class ExitCode(IntEnum):
    """How a command ended. ``SOME_ERROR`` goes before ``FOUND_NG``: not everything was judged."""

    DONE = 0
    SOME_ERROR = 1
    REFUSED = 2
    FOUND_NG = 3
    BUG = 4
    INTERRUPTED = 130
    TERMINATED = 143


# How OpenCV, threads, the loader and the kernel say it.
_OUT_OF_MEMORY = (
    "Insufficient memory",
    "can't start new thread",
    "failed to map segment",
    "Cannot allocate memory",
)
_EPILOG = """\b
Exit codes:
    0  done, all images judged
    1  some images could not be judged (before 3: not everything was judged)
    2  wrong usage, or an error that the message explains
    3  predict --fail-on-ng: all images judged, at least one is NG
    4  a bug in pyimgano
  130  interrupted by Ctrl-C; what was judged so far is kept
  143  the same, by SIGTERM
"""


@dataclass(slots=True)
class Settings:
    """The global options of one call."""

    debug: bool = False
    quiet: bool = False
    stopped: ExitCode = ExitCode.INTERRUPTED


_WrongUsage: Any = typer.BadParameter.__base__  # typer has no public name for it


class _Verbs(TyperGroup):
    """The verbs; global options may stand before or after them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args:
            return super().parse_args(ctx, args)  # shows the help
        try:
            return super().parse_args(ctx, _globals_first(args))
        except _WrongUsage as error:
            raise ParameterError(_in_one_line(error)) from None

    def invoke(self, ctx: Any) -> Any:
        try:
            with _termination_as_interrupt(ctx.obj):
                return super().invoke(ctx)
        except _WrongUsage as error:
            raise ParameterError(_in_one_line(error)) from None
        except (KeyboardInterrupt, RuntimeError) as interrupt:
            if not was_interrupted(interrupt):
                raise
            told = interrupt.args and isinstance(interrupt, KeyboardInterrupt)
            tell(f"interrupted{f': {interrupt}' if told else ''}", style="yellow")
            raise typer.Exit(ctx.obj.stopped) from None


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _in_one_line(error: Any) -> str:
    """Return what is wrong with a command line, what is near, and where to read on."""
    text = " ".join(error.format_message().replace("Value error, ", "").split()).rstrip(".")
    place = error.ctx.command_path if error.ctx is not None else "pyimgano"
    pause = " " if text.endswith("?") else "; "
    return f"{text[:1].lower()}{text[1:]}{pause}see: {place} --help"


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pyimgano {__version__}")
        raise typer.Exit


@app.callback()
def _read_globals(
    ctx: typer.Context,
    *,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the answer, warnings and errors alone.")
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Threads to compute with; default: all cores."),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Print the traceback of an error.")
    ] = False,
    version: Annotated[  # noqa: ARG001 - its callback prints it
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Find defects in images after learning from good ones only.

    New here? Type: pyimgano demo
    """
    if threads is not None:
        set_budget(threads)
    ctx.obj.quiet, ctx.obj.debug = quiet, debug


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Parameters
    ----------
    arguments : sequence of str, optional
        What was typed after the name of the program; `sys.argv` without it.

    Raises
    ------
    SystemExit
        Always, with an `ExitCode`.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names that cannot be encoded
    with _warnings_told():
        try:
            code: Any = _attempt(sys.argv[1:] if arguments is None else list(arguments))
        except SystemExit as end:
            code = end.code
    if code in {ExitCode.INTERRUPTED, ExitCode.TERMINATED}:
        with suppress(KeyboardInterrupt):  # a second one: do not wait
            gc.collect()  # what the interrupt left open is closed, and its threads end
            outwait()
    raise SystemExit(code)


def _attempt(arguments: list[str]) -> int:
    settings = Settings()
    try:
        app(arguments, prog_name="pyimgano", obj=settings)
    except Exception as error:  # noqa: BLE001 - the last place that can say it in one line
        if settings.debug:
            traceback.print_exc()
        return _explain(error)
    return ExitCode.DONE


@contextmanager
def _termination_as_interrupt(settings: Settings) -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does: tables closed, temporary files gone."""
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield
        return

    def stop(number: int, frame: object) -> None:
        del frame
        signal.signal(number, signal.SIG_IGN)  # one is enough; what is being closed is closed
        settings.stopped = ExitCode.TERMINATED
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _explain(error: Exception) -> ExitCode:
    if isinstance(error, PyimganoError):
        lines = [line.strip() for line in str(error).splitlines()]
        tell(f"error: {', '.join(lines).replace(':, ', ': ')}", style="red")
        return ExitCode.REFUSED
    reason = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(words in reason for words in _OUT_OF_MEMORY):
        tell("error: out of memory; take fewer or smaller images, or a larger machine", style="red")
        return ExitCode.REFUSED
    text = f"error: {type(error).__name__}: {reason}; this is a bug: run again with --debug"
    tell(text, style="red")
    return ExitCode.BUG


def tell(text: str, *, style: str) -> None:
    """Say something on standard error; a terminal shows it in colour up to the first colon."""
    head, colon, rest = text.partition(":")
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    marked = head + colon if plain else typer.style(head + colon, fg=style, bold=True)
    typer.echo(marked + rest, err=True)


def _globals_first(args: list[str]) -> list[str]:
    """Move the global options that stand after the verb before it; ``--`` ends them."""
    end = args.index("--") if "--" in args else len(args)
    front: list[str] = []
    rest: list[str] = []
    pending = iter(args[:end])
    for argument in pending:
        if argument in {"--debug", "--quiet", "-q"} or argument.startswith("--threads="):
            front.append(argument)
        elif argument == "--threads":
            front += [argument, *[value for value in [next(pending, None)] if value is not None]]
        else:
            rest.append(argument)
    return [*front, *rest, *args[end:]]


@contextmanager
def _warnings_told() -> Iterator[None]:
    """Say what the library logs or warns of in one line each."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        del category, filename, lineno, file, line
        tell(f"warning: {message}", style="yellow")

    class Teller(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            tell(f"warning: {record.getMessage()}", style="yellow")

    handler = Teller(logging.WARNING)
    logger = logging.getLogger("pyimgano")
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            yield
    finally:
        logger.removeHandler(handler)

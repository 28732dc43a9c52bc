"""The command line: one file a verb."""

from __future__ import annotations

from pyimgano.cli import benchmark, check, demo, doctor, evaluate, fit, predict, report
from pyimgano.cli import list as list_
from pyimgano.cli._app import EVERYWHERE, app
from pyimgano.cli._app import run as main

__all__ = ["main"]

for _verb in (
    demo.demo,
    fit.fit,
    predict.predict,
    evaluate.evaluate,
    benchmark.benchmark,
    report.report,
    doctor.doctor,
    list_.list_,
    check.check,
):
    app.command(_verb.__name__.rstrip("_"), epilog=EVERYWHERE)(_verb)

"""The command line: one file a verb."""

from __future__ import annotations

from pyimgano.cli import (
    benchmark,
    bundle_weights,
    check,
    compare,
    demo,
    doctor,
    evaluate,
    explain,
    fetch,
    fit,
    pod,
    predict,
    report,
    train_anomalib,
)
from pyimgano.cli import list as list_
from pyimgano.cli._app import EVERYWHERE, app
from pyimgano.cli._app import run as main

__all__ = ["main"]

for _verb in (
    demo.demo,
    fit.fit,
    compare.compare,
    predict.predict,
    explain.explain,
    pod.pod,
    evaluate.evaluate,
    benchmark.benchmark,
    report.report,
    doctor.doctor,
    list_.list_,
    check.check,
    fetch.fetch,
    bundle_weights.bundle_weights,
    train_anomalib.train_anomalib,
):
    app.command(_verb.__name__.rstrip("_").replace("_", "-"), epilog=EVERYWHERE)(_verb)

"""Try configurations within a budget of time, take one, and write what was found."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pyimgano.atomic import write_atomic
from pyimgano.errors import InputError, ParameterError, PyimganoError
from pyimgano.models import DEFAULT
from pyimgano.runs.compare_trial import CHOICES, Configuration, Trial, expect, try_choice
from pyimgano.runs.compare_verdict import judge
from pyimgano.runs.comparison import write_comparison
from pyimgano.runs.executors import SerialExecutor
from pyimgano.runs.facts import surroundings, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pyimgano.runs.compare_case import Case
    from pyimgano.runs.compare_verdict import Outcome, Standing

    Begin = Callable[..., AbstractContextManager[Callable[[object], None]]]

__all__ = ["Found", "Limits", "compare_choices", "labels", "parse_seconds", "write_found"]

_CHANCE = 0.5  # AUROC of what knows nothing
_ALIGNED = 3.0  # how much longer it takes with alignment
_UNITS = {"": 1, "s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Limits:
    """What is tried, in which time, and what every configuration is given.

    Parameters
    ----------
    budget : float
        Seconds.
    contamination, seed
        Of every detector.
    out : Path or None
        A folder for the run of each.
    choices : tuple of Configuration
        The cheapest first; empty for `CHOICES`.
    clock : callable
        Tells the time in seconds.
    """

    budget: float = 300.0
    contamination: float = 0.05
    seed: int = 0
    out: Path | None = None
    choices: tuple[Configuration, ...] = ()
    clock: Callable[[], float] = time.perf_counter


@dataclass(slots=True, eq=False)
class Found:
    """What became of every configuration; grows while they are tried.

    Attributes
    ----------
    trials : list of Trial
        Finished, the cheapest first.
    runs : dict of str to Path
        Their run directories by name, if a folder was given.
    failed, untried, absent : list of (str, str)
        Name and reason: what failed, did not fit into the budget or changes nothing, and cannot
        run here.
    lacking : float
        Seconds that what was not tried would need; NaN where that is not known.
    """

    trials: list[Trial] = field(default_factory=list)
    runs: dict[str, Path] = field(default_factory=dict)
    failed: list[tuple[str, str]] = field(default_factory=list)
    untried: list[tuple[str, str]] = field(default_factory=list)
    absent: list[tuple[str, str]] = field(default_factory=list)
    lacking: float = 0.0

    @property
    def tried(self) -> int:
        """How many were tried."""
        return len(self.trials) + len(self.failed)


def parse_seconds(text: str) -> float:
    """Read a span of time: ``90s``, ``5min``, ``1h``, and ``90``, which is seconds.

    Raises
    ------
    ParameterError
        If it is none.
    """
    read = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if read is None or read[2] not in _UNITS:
        raise ParameterError(f"--budget is a time such as 90s, 5min or 1h; got {text!r}")
    return float(read[1]) * _UNITS[read[2]]


def compare_choices(case: Case, plan: Limits, found: Found, begin: Begin) -> Outcome:
    """Try what fits into the budget, and judge it.

    The cheapest is tried whatever the budget is, the others if the time that they, and learning
    once more at the end, are expected to take is left. Expected is what a few images take, by the
    worst ratio by which such an expectation has been wrong before. One that has begun is finished.

    Parameters
    ----------
    case, plan : Case, Limits
        On what, and for how long.
    found : Found
        Is filled in, so that an interrupt leaves what was done.
    begin : callable
        ``begin(doing, to_judge=n)`` returns a context that gives a function to be called with every
        judgement.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        If all of them failed.
    """
    clock, choices = plan.clock, plan.choices or CHOICES
    end = clock() + plan.budget
    wrongs, longest = {False: 1.0, True: 1.0}, 0.0
    known: dict[Configuration, tuple[float, float]] = {}
    for choice in _in_turn(case, choices, found):
        learn, whole = _expected(choice, case, end - clock(), known, clock)
        left, wrong = end - clock(), wrongs[choice.aligned]
        needed = wrong * whole + max(longest, wrong * learn)
        if found.tried and needed >= left:
            last = "with the model at the end it needs"
            about = f"{last} about {math.ceil(needed)} s, and " if whole else ""
            found.untried.append((choice.name, f"{about}{max(0, left):.0f} s were left"))
            found.lacking += wrong * whole or math.nan
            continue
        started = clock()
        trial = _attempt(choice, case, plan, found, _attempting(choice, case, wrong * whole, begin))
        if trial is not None and whole:
            wrongs[choice.aligned] = max(wrong, (clock() - started) / whole)
            longest = max(longest, trial.fit_seconds)
    if not found.trials:
        name, reason = found.failed[0]
        raise InputError(f"no configuration could be tried; {name}: {reason}")
    order = [*choices, *(replace(choice, aligned=True) for choice in choices)]
    found.trials.sort(key=lambda trial: order.index(trial.choice))
    return judge(found.trials, case)


def _in_turn(case: Case, choices: Sequence[Configuration], found: Found) -> Iterator[Configuration]:
    """Yield what can run here: the cheapest, the default, the others; each also aligned."""
    here = [choice for choice in choices if not choice.missing]
    found.absent += [(c.name, c.missing) for c in choices if c.missing]
    usual = [c for c in here if c.detector == DEFAULT][-1:]
    for choice in dict.fromkeys([*here[:1], *usual, *here]):
        yield choice
        if case.aligns:
            yield replace(choice, aligned=True)


def _expected(
    choice: Configuration,
    case: Case,
    left: float,
    known: dict[Configuration, tuple[float, float]],
    clock: Callable[[], float],
) -> tuple[float, float]:
    """Return the seconds to learn, and to learn and judge; 0 where that cannot be told."""
    plain = replace(choice, aligned=False)
    if plain not in known:
        if left <= 0:
            return 0.0, 0.0
        try:
            known[plain] = expect(plain, case, clock)
        except PyimganoError:  # will be said when it is tried
            known[plain] = 0.0, 0.0
    learn, whole = known[plain]
    factor = _ALIGNED if choice.aligned else 1.0
    return factor * learn, factor * whole


def _attempting(
    choice: Configuration, case: Case, seconds: float, begin: Begin
) -> AbstractContextManager[Callable[[object], None]]:
    about = f", about {seconds:.0f} s" if seconds else ""
    doing = f"{choice.name}: learning from {len(case.learned)} good images{about}"
    return begin(doing, to_judge=case.to_judge)


def _attempt(
    choice: Configuration,
    case: Case,
    plan: Limits,
    found: Found,
    shown: AbstractContextManager[Callable[[object], None]],
) -> Trial | None:
    """Try one; whatever goes wrong with it is its row, and not the end."""
    run = None
    if plan.out is not None:
        run = plan.out / f"{found.tried + 1:02d}-{choice.name.replace(' · ', '-')}"

    def work(choice: Configuration) -> Trial:
        with shown as step:
            return try_choice(choice, case, plan.contamination, plan.seed, run, step)

    (outcome,) = SerialExecutor().map(work, [choice])
    if outcome.result is None:
        found.failed.append((choice.name, outcome.error or "it gave no result"))
        return None
    found.trials.append(outcome.result)
    found.runs |= {} if run is None else {choice.name: run}
    return outcome.result


def labels(case: Case, outcome: Outcome, tried: int) -> list[str]:
    """Return what must be known to read the figures."""
    told = []
    kept = next(each for each in outcome.standings if each.trial is outcome.taken)
    low = (outcome.reported or kept).low
    if low is not None and low <= _CHANCE:
        told.append(
            "what was taken is no better than chance on these images (0.5 lies in the interval of "
            "its AUROC): do not use it; give more time, or images that show the part alike"
        )
    if case.planted:
        told.append("planted defects, not yours: real ones may be found less often, or more")
    if tried > 1 and case.halved:
        told.append(
            "oracle: the figures of the table are of the images that chose, upper estimates; what "
            "is reported is of the others"
        )
    elif tried > 1:
        told.append("oracle: chosen on these images, an upper estimate")
    if not case.planted:
        told.append(
            "good images are judged by models that have not seen them; their scores set the "
            "threshold, so of false rejects only the bound counts"
        )
    if outcome.standings[0].trial.aupro is not None:
        told.append("AUPRO is of the defective images alone, all of them")
    return told


def write_found(case: Case, found: Found, outcome: Outcome, out: Path | None) -> dict[str, Any]:
    """Return the facts; write them, and ``comparison.html`` of two runs or more, into a folder."""
    facts = _describe(case, found, outcome)
    if out is None:
        return facts
    if len(found.runs) > 1:
        ranked = [found.runs[each.trial.choice.name] for each in outcome.standings]
        rows = [f"not tried: {name}, {why}" for name, why in found.untried]
        rows += [f"failed: {name}, {why}" for name, why in found.failed]
        rows += [f"not here: {name}, {why}" for name, why in found.absent]
        notes = [f"taken: {facts['taken']}, {outcome.choice}", outcome.difference]
        notes += [told for told in facts["labels"] if not told.startswith("oracle")]
        notes.append(
            "oracle: the figures below are of all images, those that chose among them, so upper "
            "estimates; what was chosen by, and what the other images say, is in compare.json"
        )
        facts["report"] = write_comparison(ranked, out, [*notes, *rows])
    write_atomic(out / "compare.json", to_json({**facts, **surroundings()}, indent=1) + b"\n")
    return facts


def _describe(case: Case, found: Found, outcome: Outcome) -> dict[str, Any]:
    """Return all that was found, as JSON knows it."""
    return {
        "n_learned": len(case.learned),
        "n_good": len(case.goods),
        "n_bad": len(case.bad),
        "planted": case.planted,
        "halved": case.halved,
        "alignment": case.pose,
        "standings": [_facts(each) for each in outcome.standings],
        "difference": outcome.difference,
        "p": outcome.p,
        "taken": outcome.taken.choice.name,
        "why": outcome.choice,
        "reported": None if outcome.reported is None else _facts(outcome.reported),
        "labels": labels(case, outcome, len(found.trials)),
        "failed": found.failed,
        "not_tried": found.untried,
        "not_here": found.absent,
        "runs": found.runs,
    }


def _facts(standing: Standing) -> dict[str, Any]:
    trial = standing.trial
    return {
        "name": trial.choice.name,
        "auroc": standing.auroc,
        "low": standing.low,
        "high": standing.high,
        "caught": standing.caught.describe(),
        "aupro_0.3": trial.aupro,
        "false_reject_bound": trial.certainty.bound,
        "certified": trial.certainty.certified,
        "seconds_per_image": round(trial.seconds, 4),
        "fit_seconds": round(trial.fit_seconds, 3),
        "errors": standing.errors,
    }

"""One extra run per sick run and way of treating it: who brings the score back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.faults import injections
from benchmarks.faults.baselines import autotrainer
from benchmarks.faults.judged import Examined
from benchmarks.faults.repair import (
    by_autotrainer,
    prescribed,
    random_repair,
    random_search,
    recovered,
)
from benchmarks.faults.report import plain_share
from benchmarks.faults.runs import Case, Kept, run
from benchmarks.faults.score import Truth, share
from espalier.findings import Edit

Trials = list[tuple[Edit, ...]]


def ways(sick: Examined) -> dict[str, Trials]:
    """Way of treating -> the changes it tries, each of them one extra run."""
    case, said = sick.case, sick.said
    symptoms = autotrainer.alarms(sick.record) if sick.record is not None else []
    return {
        "espalier": [prescribed(said)],
        "nothing": [()],
        "random repair": [random_repair(case.title, case.seed)],
        "AutoTrainer's order": [by_autotrainer(symptoms)],
        "random search, 3 trials": random_search(case.title, case.seed),
    }


def repairs(
    runs: Sequence[Examined],
    truth: Mapping[tuple[str, str, int], Truth],
    cache: Path,
    *,
    train: bool,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Recovered runs per way, and what was done in each; only of faults that a change can undo."""
    references = _references(runs)
    hits: dict[str, list[bool]] = {}
    lines = []
    for sick in runs:
        if not _repairable(sick, truth) or sick.case.recipe not in references:
            continue
        reference, now = references[sick.case.recipe], _score(sick.kept)
        cells = []
        for way, trials in ways(sick).items():
            best = max((_tried(sick, edits, cache, train) for edits in trials), default=None)
            if best is None or best < 0:
                continue
            hits.setdefault(way, []).append(recovered(best, reference, now))
            cells.append(f"{way} {best:.3f}")
        doses = ", ".join(f"{e.key} {e.action} {e.value}" for e in prescribed(sick.said))
        lines.append(
            f"{sick.case.title}: {now:.3f} of {reference:.3f}; prescribed: {doses or 'nothing'}; "
            + ", ".join(cells)
        )
        tell(lines[-1])
    healthy = [one for one in runs if one.case.kind == "healthy"]
    untouched = [not prescribed(one.said) for one in healthy]
    return {
        "arms": {way: plain_share(share(sum(found), len(found))) for way, found in hits.items()},
        "no_harm": plain_share(share(sum(untouched), len(untouched))),
        "lines": lines,
    }


def _references(runs: Sequence[Examined]) -> dict[str, float]:
    """Recipe -> mean test macro-F1 of its plain healthy runs."""
    found: dict[str, list[float]] = {}
    for one in runs:
        if one.case.kind == "healthy" and one.case.name == "plain":
            found.setdefault(one.case.recipe, []).append(_score(one.kept))
    return {recipe: fmean(scores) for recipe, scores in found.items()}


def _repairable(sick: Examined, truth: Mapping[tuple[str, str, int], Truth]) -> bool:
    case = sick.case
    if case.kind != "fault" or truth[case.recipe, case.name, case.severity] != "killed":
        return False
    return injections.BY_NAME[case.name].repairable


def _tried(sick: Examined, edits: tuple[Edit, ...], cache: Path, train: bool) -> float:
    """Score after one extra run; without a change, that of the sick run; below 0: not known."""
    if not edits:
        return _score(sick.kept)
    case: Case = dataclasses.replace(sick.case, edits=edits)
    made = run(case, cache, train=train)
    return -1.0 if made is None else _score(made)


def _score(kept: Kept) -> float:
    return kept.outcome.test_macro_f1 if kept.outcome is not None else 0.0

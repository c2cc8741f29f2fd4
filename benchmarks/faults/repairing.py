"""One extra run per sick run and way of treating it: who brings the score back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.faults import injections, staged
from benchmarks.faults.baselines import autotrainer
from benchmarks.faults.judged import Examined
from benchmarks.faults.recipes import Plan
from benchmarks.faults.repair import (
    by_autotrainer,
    possible,
    prescribed,
    random_repair,
    random_search,
    recipe_of,
    recovered,
)
from benchmarks.faults.report import plain_share
from benchmarks.faults.runs import Case, Kept, plan_of, run
from benchmarks.faults.score import Truth, share
from espalier.findings import Edit
from espalier.recipe.schema import Recipe

Trials = list[tuple[Edit, ...]]


def ways(sick: Examined) -> dict[str, Trials]:
    """Way of treating -> the changes it tries, each of them one extra run."""
    case = sick.case
    symptoms = autotrainer.alarms(sick.record) if sick.record is not None else []
    others: dict[str, Trials] = {
        "nothing": [()],
        "random repair": [random_repair(case.title, case.seed)],
        "AutoTrainer's order": [by_autotrainer(symptoms)],
        "random search, 3 trials": random_search(case.title, case.seed),
    }
    if case.recipe == "R3":
        recipe = _recipe(sick)
        others = {
            way: [possible(recipe, [_of_stage(edit) for edit in edits]) for edits in trials]
            for way, trials in others.items()
        }
    return {"espalier": [ours(sick)], **others}


def ours(one: Examined) -> tuple[Edit, ...]:
    """What ``espalier treat --yes`` would change; nothing of a run that nothing can be read of."""
    return prescribed(_recipe(one), one.report) if one.report is not None else ()


def _recipe(one: Examined) -> Recipe:
    case = dataclasses.replace(one.case, edits=())
    plan = Plan("R3", 0.0) if case.recipe == "R3" else plan_of(case)
    return recipe_of(plan, one.kept.folder)


def _of_stage(edit: Edit) -> Edit:
    """The same for the stage of R3 in which the backbone learns."""
    key = edit.key.replace("stages.train.", f"stages.{staged.STAGE}.")
    return dataclasses.replace(edit, key=key)


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
    by_recipe: dict[str, list[bool]] = {}
    lines = []
    for sick in runs:
        if not _repairable(sick, truth) or _like(sick.case) not in references:
            continue
        reference, now = references[_like(sick.case)], _score(sick.kept)
        found = _treated_ways(sick, cache, train)
        for way, best in found.items():
            hits.setdefault(way, []).append(recovered(best, reference, now))
        if "espalier" in found:
            by_recipe.setdefault(sick.case.recipe, []).append(hits["espalier"][-1])
        lines.append(_line(sick, reference, found))
        tell(lines[-1])
    healthy = [one for one in runs if one.case.kind == "healthy"]
    untouched = [not ours(one) for one in healthy]
    return {
        "arms": {way: plain_share(share(sum(found), len(found))) for way, found in hits.items()},
        "by_recipe": {
            recipe: plain_share(share(sum(found), len(found)))
            for recipe, found in by_recipe.items()
        },
        "no_harm": plain_share(share(sum(untouched), len(untouched))),
        "lines": lines,
    }


def _treated_ways(sick: Examined, cache: Path, train: bool) -> dict[str, float]:
    """Way of treating -> the best score of its trials; without those that are not known."""
    best = {
        way: max((_tried(sick, edits, cache, train) for edits in trials), default=-1.0)
        for way, trials in ways(sick).items()
    }
    return {way: score for way, score in best.items() if score >= 0}


def _line(sick: Examined, reference: float, found: Mapping[str, float]) -> str:
    doses = ", ".join(f"{edit.key} {edit.value}" for edit in ours(sick))
    back = recovered(found.get("espalier", -1.0), reference, _score(sick.kept))
    return (
        f"{sick.case.title}: {'recovered' if back else 'not recovered'}; "
        f"{_score(sick.kept):.3f} of {reference:.3f}; prescribed: {doses or 'nothing'}; "
        + ", ".join(f"{way} {score:.3f}" for way, score in found.items())
    )


def _like(case: Case) -> tuple[str, str]:
    """Recipe and data: a run is compared with healthy ones of the same photographs."""
    if case.recipe != "R3":
        return case.recipe, "plain"
    return case.recipe, staged.setting(dataclasses.replace(case, edits=())).data.split("-")[0]


def _references(runs: Sequence[Examined]) -> dict[tuple[str, str], float]:
    """Recipe and data -> mean test macro-F1 of healthy runs: the plain ones, where they are."""
    found: dict[tuple[str, str], list[float]] = {}
    for one in runs:
        plain = one.case.name == "plain" or _like(one.case)[1] != "plain"
        if one.case.kind == "healthy" and plain:
            found.setdefault(_like(one.case), []).append(_score(one.kept))
    return {like: fmean(scores) for like, scores in found.items()}


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

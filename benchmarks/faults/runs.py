"""One run each: trained once, kept with its record, found again by what it was made of."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
import json
import shutil
import textwrap
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.faults import (
    healthy,
    held_out,
    injections,
    loop,
    networks,
    pictures,
    recipes,
    staged,
)
from benchmarks.faults.held_out import HeldOutLoop
from benchmarks.faults.loop import Loop, Outcome
from benchmarks.faults.recipes import Plan
from espalier.errors import EspalierError
from espalier.files import write_text
from espalier.findings import Edit

Kind = Literal["healthy", "fault", "compound"]
SOURCES = (loop, networks, pictures)
OUTCOME = "outcome.json"


@dataclass(frozen=True)
class Case:
    """One run: what was done to which recipe, from which seed, and what was changed after that.

    Attributes:
        name: Of the control or injection; of two injections: both, with ``+``.
        severity: 0 for healthy runs.
        edits: Treatment: changes of the plan, applied after the fault.
    """

    recipe: str
    kind: Kind
    name: str
    severity: int
    seed: int
    edits: tuple[Edit, ...] = ()

    @property
    def title(self) -> str:
        """As a person names the run."""
        level = f"-s{self.severity}" if self.severity else ""
        return f"{self.recipe} {self.name}{level} seed {self.seed}"

    @property
    def faults(self) -> tuple[str, ...]:
        """Names of what was injected."""
        return () if self.kind == "healthy" else tuple(self.name.split("+"))

    @property
    def causes(self) -> tuple[str, ...]:
        """Rules that name the cause; of two faults either."""
        return tuple(cause for name in self.faults for cause in injections.BY_NAME[name].causes)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The rule of each fault itself."""
        return tuple(injections.BY_NAME[name].causes[0] for name in self.faults)


@dataclass(frozen=True)
class Kept:
    """A run that was made.

    Attributes:
        folder: With its record.
        outcome: What it was worth; None where it died.
        seconds: CPU time of the run.
        died: Why it died; empty where it did not.
    """

    case: Case
    folder: Path
    outcome: Outcome | None
    seconds: float
    died: str = ""


def run(case: Case, cache: Path, *, train: bool = True) -> Kept | None:
    """The run from the cache, or trained now; None where it is not there and may not be trained."""
    folder = cache / f"{case.title.replace(' ', '-')}-{identity(case)}"
    told = folder / OUTCOME
    if not told.exists():
        if not train:
            return None
        _make(case, folder)
    found = json.loads(told.read_text(encoding="utf-8"))
    outcome = Outcome(**found["outcome"]) if found["outcome"] else None
    return Kept(case, folder, outcome, found["cpu_seconds"], found["died"])


def identity(case: Case) -> str:
    """Digest of all that decides a run: the case, the sources of the loop and of the fault."""
    parts: list[Any] = [case.recipe, case.kind, case.name, case.severity, case.seed]
    if case.recipe == "R3":
        parts += [repr(staged.setting(case)), meaning(staged)]
    else:
        sources = (*SOURCES, held_out) if case.recipe == "R4" else SOURCES
        parts += [repr(plan_of(case)), *map(meaning, sources), *map(meaning, _patches(case))]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:10]


def meaning(piece: Any) -> str:
    """Source of a module or function without its layout, comments and docstrings."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(piece)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            words = ast.get_docstring(node) is not None
            node.body = node.body[1:] if words else node.body
    return ast.dump(tree)


def _patches(case: Case) -> list[Callable[..., Any]]:
    if case.kind == "healthy":
        found: list[Any] = [healthy.BY_NAME[case.name].patch]
    else:
        found = [injections.BY_NAME[name].patch for name in case.faults]
    return [patch for patch in found if patch is not None]


def _make(case: Case, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    started, outcome, died = time.process_time(), None, ""
    try:
        with warnings.catch_warnings():
            # Faults make torch warn; that is their own affair.
            warnings.simplefilter("ignore")
            outcome = staged.train(case, folder) if case.recipe == "R3" else _loop(case, folder)
    except (EspalierError, RuntimeError, ValueError, IndexError, ArithmeticError) as error:
        died = f"{type(error).__name__}: {error}"
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "case": dataclasses.asdict(case),
        "outcome": None if outcome is None else dataclasses.asdict(outcome),
        "died": died,
        "cpu_seconds": round(time.process_time() - started, 2),
    }
    write_text(folder / OUTCOME, json.dumps(told, indent=1, default=str) + "\n")


def _loop(case: Case, folder: Path) -> Outcome:
    return prepared(case, folder).run()


def prepared(case: Case, folder: Path) -> Loop:
    """The loop of a case, with its fault in it, ready to run."""
    plan = plan_of(case)
    made = (HeldOutLoop if case.recipe == "R4" else Loop)(plan, case.seed, folder)
    if case.kind == "healthy":
        patch = healthy.BY_NAME[case.name].patch
        if patch is not None:
            patch(made)
    for name in case.faults:
        fault = injections.BY_NAME[name]
        if fault.patch is not None:
            fault.patch(made, case.severity)
    return made


def plan_of(case: Case) -> Plan:
    """The plan of a case: sound, then faulty, then treated."""
    from benchmarks.faults.repair import treated

    plan = recipes.PLANS[case.recipe]
    if case.kind == "healthy":
        plan = healthy.BY_NAME[case.name].plan(plan)
    for name in case.faults:
        fault = injections.BY_NAME[name]
        plan = fault.plan(plan, case.severity) if fault.plan is not None else plan
    return treated(plan, case.edits)


def all_cases(recipe: str, seeds: tuple[int, ...], plain_seeds: tuple[int, ...]) -> list[Case]:
    """Every control and every fault of a recipe, the healthy ones first."""
    if recipe == "R3":
        return staged.cases(seeds, plain_seeds)
    cases = [Case(recipe, "healthy", healthy.PLAIN.name, 0, seed) for seed in plain_seeds]
    for seed in seeds:
        cases += [
            Case(recipe, "healthy", control.name, 0, seed)
            for control in healthy.LOOK_ALIKES
            if recipe in control.where
        ]
        cases += [
            Case(recipe, "fault", fault.name, severity, seed)
            for fault in injections.INJECTIONS
            if recipe in fault.where
            for severity in fault.severities
        ]
        cases += [
            Case(recipe, "compound", "+".join(pair), 2, seed)
            for pair in injections.COMPOUNDS
            if all(recipe in injections.BY_NAME[name].where for name in pair)
        ]
    return cases

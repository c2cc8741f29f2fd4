"""What to change in the recipe of a run, and what it would cost; nothing is changed here."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espalier import diagnosing
from espalier.data.catalog import read_catalog
from espalier.diagnose import readers
from espalier.diagnose.doctor import alarms
from espalier.diagnose.treat import Change, LeftOut, Treatment, Tried, prescribe
from espalier.diagnosing import Diagnosis
from espalier.errors import RecipeError, RunError
from espalier.recipe.load import dump_yaml, load_recipe
from espalier.recipe.schema import Recipe
from espalier.records import EpochRow
from espalier.runs import RunDir

# Of a run beyond its epochs: pictures drawn and final scores.
_BESIDE_EPOCHS = 1.15
# Choice -> what has a meaning for one value of it alone.
_DEPENDENTS = {
    "schedule.name": ("schedule.step_epochs", "schedule.gamma", "schedule.plateau_patience"),
    "class_weighting.strategy": ("class_weighting.cap", "class_weighting.beta"),
}


@dataclass(frozen=True)
class Proposal:
    """What would be done next, before anybody agreed to it.

    Attributes:
        run: The run whose recipe would be changed.
        recipe: That recipe.
        diagnosis: What was found in the run.
        treatment: The changes.
        score: Macro-F1 of the run on validation; None where it kept no weights to judge.
        seconds: About how long a run with all changes takes; NaN where nothing tells.
    """

    run: RunDir
    recipe: Recipe
    diagnosis: Diagnosis
    treatment: Treatment
    score: float | None
    seconds: float

    @property
    def sick(self) -> bool:
        """Whether anything is wrong."""
        return bool(alarms(self.diagnosis.report.findings))

    @property
    def healthy(self) -> bool:
        """Whether enough was looked at, and all of it is in order."""
        return not self.sick and self.diagnosis.report.verdict != "clear"


def require_own(path: Path | str) -> RunDir:
    """The run at a path, if it can be treated at all.

    Raises:
        RunError: There is none, another tool made it, it still trains, or nothing judges it.
    """
    run = diagnosing.own_run(path)
    if run is None:
        tool = readers.read_record(Path(path), None).tool
        raise RunError(
            f"{path} is a record of {tool}: only Espalier's own runs can be trained again",
            hint=f"espalier diagnose {path} says what to change there",
        )
    with run.locked():
        catalog = read_catalog(run.require(run.catalog_file))
    if not catalog.in_split("val"):
        raise RunError(
            f"{path} has no validation images: no treatment of it could be judged",
            hint="espalier train PHOTOS --set data.val_share=0.1",
        )
    return run


def propose(run: RunDir, tried: Tried = ()) -> Proposal:
    """What the diagnosis of a run prescribes for its recipe, and what training it would cost.

    Args:
        run: A run of Espalier's own.
        tried: Changes that are not to be made again.
    """
    diagnosis, recipe = diagnosing.diagnose(run.path), run.recipe()
    treatment = holding(recipe, prescribe(recipe, diagnosis.report, tried))
    seconds = seconds_of(run, recipe, changed_recipe(recipe, treatment.changes))
    return Proposal(run, recipe, diagnosis, treatment, score_of(run), seconds)


def holding(recipe: Recipe, treatment: Treatment) -> Treatment:
    """The treatment without changes that contradict the recipe, or those before them."""
    with contextlib.suppress(RecipeError):
        changed_recipe(recipe, treatment.changes)
        return treatment
    held: list[Change] = []
    left_out = list(treatment.left_out)
    for change in treatment.changes:
        try:
            changed_recipe(recipe, [*held, change])
        except RecipeError as error:
            left_out.append(LeftOut(change.key, change.rule, "; ".join(_reasons(error))))
        else:
            held.append(change)
    return dataclasses.replace(treatment, changes=tuple(held), left_out=tuple(left_out))


def _reasons(error: RecipeError) -> tuple[str, ...]:
    return error.problems or (error.message,)


def changed_recipe(recipe: Recipe, changes: Sequence[Change], **flags: object) -> Recipe:
    """A recipe with changes, as ``espalier train --config`` with ``--set`` would have it.

    Args:
        recipe: Of a run.
        changes: To lay over it.
        **flags: Daily flags: ``name``, ``out``, ``seed``, ``split_from``.

    Raises:
        RecipeError: The changed values cannot hold.
    """
    words = [change.word for change in changes]
    try:
        return _loaded(recipe, words, flags)
    except RecipeError:
        # What only the earlier choice had a use for contradicts the new one: it goes with it.
        freed = without_dependents(recipe, changes)
        if freed is recipe:
            raise
        return _loaded(freed, words, flags)


def _loaded(recipe: Recipe, words: Sequence[str], flags: Mapping[str, object]) -> Recipe:
    """A recipe with words as behind ``--set``, and daily flags, laid over it."""
    # Read from a file, so that what was chosen automatically because of a value is chosen again.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recipe.yaml"
        file.write_text(dump_yaml(recipe), encoding="utf-8")
        return load_recipe(file=file, sets=words, flags=flags)


def without_dependents(recipe: Recipe, changes: Sequence[Change]) -> Recipe:
    """The recipe without values that a person gave to what is changed; itself where there are none.

    The length of a step belongs to the schedule ``step``, a cap to class weights.
    """
    freed = dependents(change.key for change in changes)
    for key in (key for key in freed if key in recipe.why):
        section, _, name = key.partition(".")
        values = getattr(recipe, section)
        default = type(values).model_fields[name].default
        recipe = recipe.model_copy(
            update={
                section: values.model_copy(update={name: default}),
                "why": {other: origin for other, origin in recipe.why.items() if other != key},
            }
        )
    return recipe


def dependents(keys: Iterable[str]) -> tuple[str, ...]:
    """What may have a meaning only for the value that one of these keys had before."""
    # The schedule of a stage counts as that of the recipe.
    changed = {"schedule.name" if key.endswith(".schedule") else key for key in keys}
    return tuple(key for choice, keys in _DEPENDENTS.items() if choice in changed for key in keys)


def score_of(run: RunDir) -> float | None:
    """The best macro-F1 on validation of any epoch; None where no such weights are kept."""
    best = run.history().best if run.best.exists() else None
    return None if best is None else best.val_macro_f1


def seconds_of(run: RunDir, recipe: Recipe, changed: Recipe) -> float:
    """About how long a changed recipe trains, by what the epochs of the run took; else NaN."""
    rows = run.history().rows
    if not rows:
        return math.nan
    paces = {row.stage: _pace(rows, row.stage) for row in rows}
    slowest, spent = max(paces.values()), 0.0
    for stage in changed.stages:
        earlier = next((s for s in recipe.stages if s.name == stage.name), stage)
        growth = _pixels(changed, stage.imgsz) / _pixels(recipe, earlier.imgsz)
        spent += stage.epochs * paces.get(stage.name, slowest) * growth**2
    # What the process had used before its first epoch: imports, photographs, the instant baseline.
    ahead = rows[0].cpu_seconds - rows[0].seconds
    return _BESIDE_EPOCHS * spent + (max(0.0, ahead) if math.isfinite(ahead) else 0.0)


def _pace(rows: Sequence[EpochRow], stage: str) -> float:
    taken = [row.seconds for row in rows if row.stage == stage]
    return sum(taken) / len(taken)


def _pixels(recipe: Recipe, own: int | None) -> float:
    size = own or recipe.training.imgsz
    return float(size) if isinstance(size, int) else 1.0

"""One treatment tried: a run with a changed recipe, compared with the one before, on record."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from espalier import files, metrics, pipeline
from espalier.data.catalog import read_catalog
from espalier.diagnose.treat import Change
from espalier.errors import DataError, DeviceMemoryError, NonFiniteLossError, TrainingInterrupted
from espalier.evaluate.evaluation import keep, read_predictions
from espalier.evaluate.paired import Paired, compare_paired
from espalier.evaluate.predictor import Predictor
from espalier.recipe.schema import Data, Recipe
from espalier.records import SPLITS, Predictions
from espalier.runs import RunDir
from espalier.train.watch import Several, Unwatched, Watch
from espalier.treating.proposal import changed_recipe

RECORD, CHAIN = "treatment.json", "treatments.jsonl"
Outcome = Literal[
    "better", "worse", "no difference", "first score", "no score", "stopped", "repeat"
]


@dataclass(frozen=True)
class Trial:
    """One treatment that was tried.

    Attributes:
        run: The run that it made.
        start: The run whose recipe was changed.
        changes: What was changed; nothing in a repeat with another seed.
        outcome: How it compares with the best run before it.
        paired: The comparison; None where one of the two has no score.
        score: Macro-F1 on validation; None where it came to none.
        seconds: Wall time.
        why: How training ended.
    """

    run: RunDir
    start: RunDir
    changes: tuple[Change, ...]
    outcome: Outcome
    paired: Paired | None
    score: float | None
    seconds: float
    why: str

    @property
    def kept(self) -> bool:
        """Whether it takes the place of the best run before it."""
        return self.outcome in ("better", "first score")

    def to_json(self) -> dict[str, Any]:
        """The object of ``treatment.json``, and a line of ``treatments.jsonl``."""
        return {
            "run": str(self.run.path),
            "start": str(self.start.path),
            "changes": [change.to_json() for change in self.changes],
            "outcome": self.outcome,
            "kept": self.kept,
            "score": None if self.score is None else round(self.score, 6),
            "paired": self.paired.to_json() if self.paired else None,
            "seconds": round(self.seconds, 1),
            "why": self.why,
        }


class WithinBudget(Unwatched):
    """Ends a run after the epoch in which the time for all runs is over.

    Args:
        deadline: On the monotonic clock.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline

    def reason_to_end(self) -> str:
        """Why training should end; empty while there is time."""
        return "the budget is used up" if time.monotonic() >= self.deadline else ""


@dataclass(frozen=True)
class Bench:
    """What all runs of a treatment have in common.

    Attributes:
        original: The run that is treated; its split and its validation images are used.
        deadline: When the time for all runs is over, on the monotonic clock.
        watch: Told what happens.
    """

    original: RunDir
    deadline: float
    watch: Watch

    def try_changes(
        self, start: RunDir, changes: Sequence[Change], before: Predictions | None
    ) -> tuple[Trial, Predictions | None]:
        """Train with a changed recipe, compare, and put it on record.

        Args:
            start: The run whose recipe is changed.
            changes: What to change.
            before: What the best run so far says of the validation images; None without one.

        Returns:
            The trial, and what its best weights say of the validation images.

        Raises:
            TrainingInterrupted: Ctrl-C or SIGTERM; that is on record, too.
        """
        recipe = self._changed(start.recipe(), changes, "treated")
        trial, found = self._run(recipe, start, tuple(changes), before)
        self.write(trial)
        return trial, found

    def repeat(self, start: RunDir, number: int) -> tuple[Trial, Predictions | None]:
        """Train the recipe of a run once more, with another seed; put it on record."""
        recipe = start.recipe()
        seed = recipe.training.seed + number
        again = self._changed(recipe, (), f"seed{seed}", seed=seed)
        trial, found = self._run(again, start, (), None)
        trial = trial if found is None else replace(trial, outcome="repeat")
        self.write(trial)
        return trial, found

    def _changed(
        self, recipe: Recipe, changes: Sequence[Change], suffix: str, **flags: object
    ) -> Recipe:
        """A changed recipe for a run beside the original, on its split."""
        place = self.original.path.resolve()
        flags |= {
            "out": str(place.parent),
            "name": free_name(place.parent, f"{place.name}-{suffix}"),
        }
        if len(read_catalog(self.original.catalog_file).given) < len(SPLITS):
            recipe = without_shares(recipe)
            flags["split_from"] = str(place)
        return changed_recipe(recipe, changes, **flags)

    def _run(
        self,
        recipe: Recipe,
        start: RunDir,
        changes: tuple[Change, ...],
        before: Predictions | None,
    ) -> tuple[Trial, Predictions | None]:
        run = RunDir(Path(recipe.logging.out) / recipe.logging.name)
        started = time.monotonic()
        trial = Trial(run, start, changes, "no score", None, None, 0.0, "")
        try:
            watch = Several(self.watch, WithinBudget(self.deadline))
            why, found = pipeline.train(recipe, watch=watch).ended, validation_of(run)
        except (NonFiniteLossError, DeviceMemoryError) as error:
            why, found = error.message, None
        except TrainingInterrupted as error:
            spent = time.monotonic() - started
            self.write(replace(trial, outcome="stopped", seconds=spent, why=error.message))
            raise TrainingInterrupted(
                f"{error.message}. The original {self.original.path} stays as it is",
                hint=error.hint,
                exit_code=error.exit_code,
            ) from error
        trial = replace(trial, seconds=time.monotonic() - started, why=why)
        return judged(trial, before, found), found

    def write(self, trial: Trial) -> None:
        """Put a trial on record: in its own folder, and as a line in that of the original."""
        record = {"original": str(self.original.path), **trial.to_json()}
        if trial.run.path.is_dir():
            text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
            files.write_text(trial.run.path / RECORD, text)
        self.note(record)

    def note(self, record: Mapping[str, Any]) -> None:
        """Append a line to the chain in the folder of the original."""
        files.append_row(self.original.path / CHAIN, record)


def judged(trial: Trial, before: Predictions | None, after: Predictions | None) -> Trial:
    """The trial with its score and its comparison with what was best before."""
    if after is None:
        return trial
    if before is None:
        return replace(trial, outcome="first score", score=macro_f1_of(after))
    paired = compare_paired(before, after)
    return replace(trial, outcome=paired.verdict, paired=paired, score=paired.after)


def macro_f1_of(predictions: Predictions) -> float:
    """Macro-F1 of the labelled images."""
    known = keep(predictions, predictions.labels >= 0)
    return metrics.macro_f1(known.labels, known.predicted, len(known.classes))


def validation_of(run: RunDir) -> Predictions | None:
    """What the best weights of a run say of its validation images; None where none are kept."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        return read_predictions(run.predictions("val"))
    samples = read_catalog(run.require(run.catalog_file)).in_split("val")
    if not run.best.exists() or not samples:
        return None
    # Photographs that are gone leave a run without a score; training says what is missing.
    with contextlib.suppress(DataError):
        return Predictor(run).predict(samples)
    return None


def without_shares(recipe: Recipe) -> Recipe:
    """A recipe ready to take the split of an earlier run: that contradicts shares of its own."""
    shares = {key: Data.model_fields[key].default for key in ("val_share", "test_share")}
    why = {
        key: origin for key, origin in recipe.why.items() if key.removeprefix("data.") not in shares
    }
    data = recipe.data.model_copy(update=shares)
    return recipe.model_copy(update={"data": data, "why": why})


def free_name(out: Path, name: str) -> str:
    """A name that no folder there has: ``name``, ``name-2``, ``name-3`` ..."""
    number, free = 1, name
    while (out / free).exists():
        number += 1
        free = f"{name}-{number}"
    return free

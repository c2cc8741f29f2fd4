"""Taking a run up again: what may change, what may not, and where it goes on."""

from __future__ import annotations

from typing import Any

from espalier import files, runs
from espalier.errors import ResumeError
from espalier.models.checkpoints import load_checkpoint
from espalier.recipe.schema import Recipe, Section
from espalier.runs import RunDir
from espalier.train.state import State, stopper_for

# None of these alters what was already computed; all else would make the record untrue.
MAY_CHANGE = (
    "training.time_limit",
    "training.device",
    "training.threads",
    "data.workers",
    "logging.",
)


def load_state(run: RunDir) -> tuple[dict[str, Any], State]:
    """The last checkpoint of a run and the position in it.

    Raises:
        ResumeError: The run has no checkpoint, or it is of an older kind without a position.
    """
    if not run.last.exists():
        raise ResumeError(
            f"{run.path} has no {run.last.name}: it ended before its first step, or was told "
            "not to keep it (checkpointing.save_last)",
            hint=f"espalier train --config {run.recipe_file}",
        )
    checkpoint = load_checkpoint(run.last)
    if "state" not in checkpoint:
        raise ResumeError(
            f"{run.last} holds no position: it was written by something else, or an older version",
            hint=f"espalier train --config {run.recipe_file}",
        )
    recipe = run.recipe()
    stage = recipe.stages[checkpoint["state"]["stage_index"]]
    return checkpoint, State.from_plain(
        checkpoint["state"], stopper_for(stage, recipe.early_stopping)
    )


def check_label_mapping(run: RunDir, checkpoint: dict[str, Any], classes: tuple[str, ...]) -> None:
    """Refuse to go on when class indices no longer mean what the weights learned.

    Raises:
        ResumeError: The mapping of the catalog differs from that of the checkpoint.
    """
    learned = tuple(checkpoint["classes"])
    if learned != classes:
        pairs = enumerate(zip(learned, classes, strict=False))
        differing = [f"{i}: {old} -> {new}" for i, (old, new) in pairs if old != new]
        if len(learned) != len(classes):
            differing.append(f"{len(learned)} classes -> {len(classes)}")
        raise ResumeError(
            f"the label mapping of {run.path} changed since its checkpoint",
            problems=differing,
            hint=f"restore {run.recipe_file} and {run.catalog_file}, or train a new run",
        )


def differences(old: Section, new: Section, prefix: str = "") -> list[str]:
    """Dotted keys whose values differ, as ``key: old -> new``; ``why`` is no value."""
    found: list[str] = []
    for name in type(old).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if name in ("why", "preset") or before == after:
            continue
        if isinstance(before, Section) and isinstance(after, Section):
            found += differences(before, after, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}: {before} -> {after}")
    return found


def check_changes(old: Recipe, new: Recipe) -> None:
    """Refuse values that cannot change in the middle of a run.

    Raises:
        ResumeError: Names each of them with its old and new value.
    """
    fixed = [line for line in differences(old, new) if not line.startswith(MAY_CHANGE)]
    if fixed:
        raise ResumeError(
            "these values cannot change when a run is resumed, because what was already "
            "trained depends on them",
            problems=fixed,
            hint="leave them out, or train a new run with them; epochs=N and "
            f"{', '.join(key.rstrip('.') for key in MAY_CHANGE)} may change",
        )


def extend(recipe: Recipe, state: State, epochs: int) -> Recipe:
    """The recipe with its last stage made longer, so that the run has ``epochs`` in all.

    Raises:
        ResumeError: That is not more than the run has, or had planned.
    """
    spans = runs.stage_spans(recipe, state.rows)
    planned = spans[-1].last_epoch
    finished = state.stage_index == len(recipe.stages) - 1 and state.stage_done(recipe.stages[-1])
    reached = state.epoch if finished else planned
    if epochs <= reached:
        raise ResumeError(
            f"epochs={epochs} does not extend the run: it "
            + (f"has {reached} epochs" if finished else f"is planned for {reached} epochs"),
            hint=f"epochs={reached + 5}",
        )
    last = recipe.stages[-1]
    longer = epochs - (spans[-1].first_epoch - 1)
    stages = (*recipe.stages[:-1], last.model_copy(update={"epochs": longer}))
    return recipe.model_copy(update={"stages": stages})


def take_up(recipe: Recipe, state: State, run: RunDir, epochs: int | None) -> Recipe:
    """Move a finished or stopped run on: extended by ``epochs``, or to where it was stopped.

    Raises:
        ResumeError: There is nothing left to do.
    """
    state.ended = ""
    if epochs is not None:
        extended = extend(recipe, state, epochs)
        # What stopped the stage early would stop it again before the first new epoch.
        state.stopped = False
        state.stopper = stopper_for(extended.stages[state.stage_index], recipe.early_stopping)
        return extended
    last = state.stage_index == len(recipe.stages) - 1
    if last and state.stage_done(recipe.stages[-1]):
        raise ResumeError(
            f"{run.path} is finished: {state.epoch} epochs are done and nothing is left",
            hint=f"espalier train --resume {run.path} epochs={state.epoch + 5} extends it",
        )
    return recipe


def rewind_logs(run: RunDir, state: State) -> None:
    """Bring the logs back to the checkpoint: later rows are made again."""
    for path in (run.train_diagnostics, run.val_diagnostics, run.steps_file):
        files.keep_rows_until(path, state.step)
    runs.write_results(run.results_file, state.rows)

"""Taking a run up again: what may change, what may not, and where it goes on."""

from __future__ import annotations

from typing import Any

from espalier import files, runs
from espalier.errors import ResumeError
from espalier.models.checkpoints import load_checkpoint, recipe_of
from espalier.recipe.schema import Recipe, Section
from espalier.runs import RunDir
from espalier.train.state import State, stopper_for

# None of these alters what was already computed; all else would make the record untrue. Name and
# place of the run are decided: a new value would have no effect.
MAY_CHANGE = (
    "training.time_limit",
    "training.device",
    "training.threads",
    "data.workers",
    "data.store",
    "data.store_gib",
    "features.keep",
    "features.budget_gib",
    "features.baseline",
    "logging.curves",
    "logging.step_every",
    "logging.tensorboard",
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
            problems=checkpoint["notes"],
        )
    recipe = recipe_of(checkpoint)
    stage = recipe.stages[checkpoint["state"]["stage_index"]]
    return checkpoint, State.from_plain(
        checkpoint["state"], stopper_for(stage, recipe.early_stopping)
    )


def check_label_mapping(run: RunDir, learned: tuple[str, ...], classes: tuple[str, ...]) -> None:
    """Refuse to go on when class indices no longer mean what the weights learned.

    Args:
        run: Named in the message.
        learned: The label mapping of the checkpoint.
        classes: That of the catalog.

    Raises:
        ResumeError: They differ.
    """
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


def differences(old: Recipe, new: Recipe) -> dict[str, str]:
    """Dotted key (stages by name) -> ``old -> new``, where two recipes differ."""
    before, after = values_of(old), values_of(new)
    return {
        key: f"{before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in before | after
        if before.get(key, ...) != after.get(key, ...)
    }


def values_of(section: Section, prefix: str = "") -> dict[str, object]:
    """Dotted key -> value; where values come from (``why``, ``preset``) is none."""
    found: dict[str, object] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            found |= values_of(value, f"{prefix}{name}.")
        elif name == "stages":
            for stage in value:
                found |= values_of(stage, f"stages.{stage.name}.")
        elif name not in ("why", "preset"):
            found[f"{prefix}{name}"] = value
    return found


def check_changes(old: Recipe, new: Recipe) -> None:
    """Refuse values that cannot change in the middle of a run.

    Args:
        old: What the checkpoint was made with.
        new: What is wanted now: the recipe of the run folder, edited or not, with all changes.

    Raises:
        ResumeError: Names each of them with its old and new value.
    """
    # How long the last stage is alters nothing that lies behind it.
    free = {*MAY_CHANGE, f"stages.{old.stages[-1].name}.epochs"}
    fixed = [f"{key}: {change}" for key, change in differences(old, new).items() if key not in free]
    if fixed:
        raise ResumeError(
            "these values cannot change when a run is resumed: what was already trained, or the "
            "place of the run, depends on them",
            problems=fixed,
            hint="leave them out, or train a new run with them; epochs=N and "
            f"{', '.join(MAY_CHANGE)} may change",
        )


def epochs_before_last(recipe: Recipe, state: State) -> int:
    """Epochs of all stages but the last: as they ran where they are over, as planned beyond."""
    found = 0
    for index, stage in enumerate(recipe.stages[:-1]):
        is_here = index == state.stage_index
        if index < state.stage_index or (is_here and state.stage_done(stage)):
            found += sum(row.stage_index == index for row in state.rows)
        else:
            found += stage.epochs
    return found


def is_finished(recipe: Recipe, state: State) -> bool:
    """Whether the last stage had its epochs, or stopped early."""
    return state.stage_index == len(recipe.stages) - 1 and state.stage_done(recipe.stages[-1])


def extend(recipe: Recipe, state: State, epochs: int) -> Recipe:
    """The recipe with its last stage made longer, so that the run has ``epochs`` in all.

    Its schedule is planned anew over all its epochs: a cosine that had come down rises again to
    where a longer one would be.

    Raises:
        ResumeError: That is not more than the run has, or had planned.
    """
    last, before = recipe.stages[-1], epochs_before_last(recipe, state)
    finished = is_finished(recipe, state)
    reached = state.epoch if finished else before + last.epochs
    if epochs <= reached:
        raise ResumeError(
            f"epochs={epochs} does not extend the run: it "
            + (f"has {reached} epochs" if finished else f"is planned for {reached} epochs"),
            hint=f"epochs={reached + 5}",
        )
    if last.solve:
        raise ResumeError(
            f"stage {last.name} is solved for, in one epoch, and cannot be made longer",
            hint="train a new run with one more stage",
        )
    stages = (*recipe.stages[:-1], last.model_copy(update={"epochs": epochs - before}))
    return recipe.model_copy(update={"stages": stages})


def take_up(recipe: Recipe, state: State, run: RunDir, epochs: int | None) -> Recipe:
    """Move a finished or stopped run on: extended by ``epochs``, or to where it was stopped.

    Raises:
        ResumeError: There is nothing left to do.
    """
    state.ended = ""
    finished = is_finished(recipe, state)
    if epochs is not None:
        recipe = extend(recipe, state, epochs)
        if finished:
            # What stopped the stage early would stop it again after the first new epoch.
            state.stopped = False
            state.stopper = stopper_for(recipe.stages[-1], recipe.early_stopping)
    elif finished:
        raise ResumeError(
            f"{run.path} is finished: {state.epoch} epochs are done and nothing is left",
            hint=f"espalier train --resume {run.path} epochs={state.epoch + 5} extends it",
        )
    return recipe


def rewind_logs(run: RunDir, state: State) -> None:
    """Bring the logs back to the checkpoint: later rows are made again."""
    files.remove_partials(run.path)
    # By epochs, not by steps: one that was cut short and judged ends at the step it is resumed at.
    for path in (run.train_diagnostics, run.val_diagnostics):
        files.keep_rows_until(path, state.epoch, clock="epoch")
    files.keep_rows_until(run.steps_file, state.step, clock="step")
    runs.write_results(run.results_file, state.rows)

"""The checks of a recipe, in the order of their report; one that fails never stops the others."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from espalier.checking import gradients, labels, network, overfitting, pictures
from espalier.checking.report import CheckReport, CheckRow, Verdict
from espalier.checking.suggestions import suggest
from espalier.checking.trial import Trial, open_trial
from espalier.data.transforms import Transform
from espalier.errors import DataError, EspalierError
from espalier.preparation import Progress, prepare
from espalier.recipe.schema import Recipe
from espalier.rules import CannotJudge
from espalier.runs import RunDir
from espalier.train.watch import Unwatched, Watch

Check = tuple[str, str, Callable[[Trial], Verdict]]
BEFORE: tuple[Check, ...] = (
    ("data", "every class can be learned", labels.class_distribution),
    ("data", "labels mean the same everywhere", labels.label_order),
    ("data", "the sampler draws as planned", labels.sampler_draws),
    ("pictures", "validation has a transform of its own", pictures.val_is_not_train),
    ("pictures", "validation views are fixed", pictures.val_is_fixed),
    ("pictures", "training views are random", pictures.train_is_random),
    ("pictures", "augmentation changes the pictures", pictures.augmentation_applies),
    ("pictures", "pixels are normalised as the model expects", pictures.normalisation),
    ("pictures", "a picture of the batch", pictures.draw_batch),
    ("network", "the weights are those that were asked for", network.weights_in_use),
    ("network", "the forward pass is finite", network.forward_pass),
    ("network", "the outputs are raw logits", network.output_range),
    ("network", "the first loss is that of chance", network.first_loss),
    ("network", "the loss uses the class weights", network.class_weights_used),
)
PER_STAGE: tuple[tuple[str, Callable[[Trial, int], Verdict]], ...] = (
    ("gradient reaches what trains, and nothing else", gradients.gradient_reaches),
    ("BatchNorm rests where it is frozen", gradients.norms_rest),
    ("the gradient is neither 0 nor huge", gradients.gradient_norm),
    ("the optimizer holds what trains", gradients.optimizer_holds),
)
AFTER: tuple[Check, ...] = (("learning", "one batch can be learned", overfitting.overfits),)


def check(
    recipe: Recipe,
    *,
    val_transform: Transform | None = None,
    earlier: RunDir | None = None,
    picture: Path | None = None,
    watch: Watch | None = None,
    progress: Progress | None = None,
) -> CheckReport:
    """Run the parts that training uses for a few steps, and say what is in order.

    No run folder is made, and nothing of the user's is touched.

    Args:
        recipe: As ``load_recipe`` gives it.
        val_transform: How validation shall see a photograph; None: as training has it.
        earlier: A run whose label order must hold; None: that of ``data.split_from``, if any.
        picture: Where to draw the first batch exactly as the network sees it (JPEG).
        watch: Told what a person should know of data and machine.
        progress: Told ``(done, total)`` while photographs are read.

    Raises:
        EspalierError: Data, recipe, model or weights allow no training at all.
    """
    if picture is not None and picture.exists():
        raise DataError(f"{picture} exists, and nothing is overwritten", hint="--picture NEW.jpg")
    started = time.perf_counter()
    prepared = prepare(recipe, note=(watch or Unwatched()).on_note, progress=progress)
    try:
        with tempfile.TemporaryDirectory(prefix="espalier-check-") as folder:
            trial = open_trial(
                prepared,
                Path(folder),
                val_transform=val_transform,
                earlier=earlier,
                picture=picture,
            )
            return judge(trial, started)
    finally:
        if prepared.store is not None:
            prepared.store.close()


def judge(trial: Trial, started: float | None = None) -> CheckReport:
    """Every check on a job that is put together.

    Args:
        trial: The job.
        started: By ``time.perf_counter``; None: now.
    """
    started = time.perf_counter() if started is None else started
    # Training seeds torch for every batch: who calls this from Python keeps their own numbers.
    with torch.random.fork_rng(devices=[]):
        rows = tuple(row_of(trial, *which) for which in checks_of(trial))
    return CheckReport(rows, suggest(trial), time.perf_counter() - started)


def checks_of(trial: Trial) -> Iterator[Check]:
    """Group, name and function of each check, in order."""
    yield from BEFORE
    for index, stage in enumerate(trial.recipe.stages):
        for name, function in PER_STAGE:
            yield f"stage {stage.name}", name, partial(_of_stage, function, index)
    yield from AFTER


def _of_stage(function: Callable[[Trial, int], Verdict], index: int, trial: Trial) -> Verdict:
    return function(trial, index)


def row_of(trial: Trial, group: str, name: str, function: Callable[[Trial], Verdict]) -> CheckRow:
    """What a check says; an error of Espalier's own is a failure with its message.

    Anything else that is raised is a bug, and is not caught.
    """
    try:
        found = function(trial)
    except CannotJudge as reason:
        return CheckRow(group, name, None, str(reason))
    except EspalierError as error:
        return CheckRow(group, name, False, error.message, error.hint)
    return CheckRow(group, name, found.passed, found.evidence, found.advice)

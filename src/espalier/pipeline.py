"""The whole job, in order: photographs -> catalog -> recipe -> run folder -> training -> scores.

This is the place where the parts meet; each part is in a package of its own, and none of them
knows its siblings. Everything a command does is a function here, so the Python API is the same.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from espalier import environment, files, runs
from espalier.adjusting import adjust_logits, drop_adjustment
from espalier.auditing.training import audit_training
from espalier.baseline import instant_baseline
from espalier.data.balance import (
    class_weights,
    drawn_counts,
    epoch_order,
    write_class_weights,
)
from espalier.data.catalog import read_catalog, write_catalog
from espalier.data.store_choice import side_for
from espalier.errors import DiskError
from espalier.evaluate.evaluation import Evaluation, evaluate_predictions, write_predictions
from espalier.evaluate.predictor import Predictor
from espalier.models.build import Classifier, KeyReport
from espalier.models.checkpoints import rebuild_model, recipe_of
from espalier.models.grouped import keep_grouped_in_fp32
from espalier.preparation import (
    Prepared,
    Progress,
    open_pictures,
    prepare,
    settle,
    start_model,
    what_trains,
    with_full_paths,
)
from espalier.recipe.load import dump_yaml
from espalier.recipe.schema import Recipe
from espalier.records import (
    EpochRow,
    History,
)
from espalier.report.batch import contact_sheet
from espalier.report.confusion import draw_confusion
from espalier.report.context import Context, context_of
from espalier.report.curves import draw_curves
from espalier.runs import RunDir
from espalier.train.decisions import with_earlier, with_store
from espalier.train.devices import detect_machine, open_fabric
from espalier.train.interrupts import Interrupts
from espalier.train.job import Job
from espalier.train.keep import current_history, explain_disk
from espalier.train.loaders import build_loaders
from espalier.train.loop import fit
from espalier.train.losses import chance_loss, floor_loss, prior_loss
from espalier.train.memory import explain_memory
from espalier.train.record import ending_on_record, rewind_signs
from espalier.train.resume import (
    check_changes,
    check_label_mapping,
    load_state,
    rewind_logs,
    take_up,
)
from espalier.train.state import State, stopper_for
from espalier.train.tensorboard import TensorBoardWatch, require_tensorboard
from espalier.train.watch import Several, Unwatched, Watch

PREVIEW = 16
# Of the time that passes, for drawing curves that nobody may be looking at.
DRAWING_SHARE = 0.05
# Seconds after which even a slow drawing is worth having.
LONGEST_WAIT = 10.0


@dataclass(frozen=True)
class TrainResult:
    """What a training run came to.

    Attributes:
        run: The run folder.
        val: Scores of the best weights on validation; None where there are no such images.
        test: The same on the test split, which training never looked at.
        seconds: Wall time, from the start of the command where that is known.
        cpu_seconds: Of this process, all threads.
        ended: Why training ended.
    """

    run: RunDir
    val: Evaluation | None
    test: Evaluation | None
    seconds: float
    cpu_seconds: float
    ended: str
    history: History = field(default_factory=lambda: History(()))

    def to_json(self) -> dict[str, Any]:
        """The object that ``train --json`` prints."""
        # The last that was best so far, by whatever figure the recipe monitors: that of best.pt.
        best = max((row.epoch for row in self.history.rows if row.best), default=None)
        return {
            "run": str(self.run.path),
            "val": self.val.to_json() if self.val else None,
            "test": self.test.to_json() if self.test else None,
            "seconds": round(self.seconds, 2),
            "cpu_seconds": round(self.cpu_seconds, 2),
            "epochs": len(self.history.rows),
            "best_epoch": best,
            "ended": self.ended,
        }


def train(
    recipe: Recipe, *, watch: Watch | None = None, progress: Progress | None = None
) -> TrainResult:
    """Train a classifier as the recipe says, and judge its best weights on the test split.

    Args:
        recipe: As ``load_recipe`` gives it; what is open in it is decided here.
        watch: Told what happens while it trains.
        progress: Told ``(done, total)`` while photographs are read.
    """
    watch = watch or Unwatched()
    if recipe.logging.tensorboard:
        require_tensorboard()
    prepared = prepare(recipe, note=watch.on_note, progress=progress)
    model, report = start_model(prepared)
    run = open_run(prepared)
    watch.on_note(f"run    {run.path}")
    for line in what_trains(prepared.recipe):
        watch.on_note(line)
    with run.locked():
        if report is not None:
            watch.on_note(str(report))
        job = make_job(prepared, run, model, watch)
        write_what_is_known(job, prepared, report)
        first = prepared.recipe.stages[0]
        state = State(stopper_for(first, prepared.recipe.early_stopping))
        audit_training(job, instant_baseline(job))
        return run_and_judge(job, state)


def open_run(prepared: Prepared) -> RunDir:
    """Make the run folder the recipe asks for, and say in it where the diagnostics go."""
    logging = prepared.recipe.logging
    run = runs.create_run(Path(logging.out), logging.name)
    diagnostics = runs.choose_diagnostics(run)
    environment.write(run, prepared.machine, prepared.recipe, diagnostics)
    return run


def make_job(prepared: Prepared, run: RunDir, model: Classifier, watch: Watch) -> Job:
    """Put together what the loop needs; TensorBoard watches, too."""
    recipe, catalog = with_store(prepared.recipe, prepared.store), prepared.catalog
    weighting = recipe.class_weighting
    weights = class_weights(
        list(catalog.counts("train").values()),
        weighting.strategy,
        cap=weighting.cap,
        beta=weighting.beta,
    )
    keep_grouped_in_fp32(model, recipe.training.grouped_fp32 is True)
    watches: list[Watch] = [watch]
    if recipe.logging.tensorboard:
        watches.append(TensorBoardWatch(run.tensorboard))
    return Job(
        recipe,
        catalog,
        run,
        model,
        weights,
        open_fabric(recipe),
        Several(*watches),
        side=side_for(recipe),
        store=prepared.store,
    )


def write_what_is_known(job: Job, prepared: Prepared, report: KeyReport | None) -> None:
    """Put recipe, catalog, class weights and a picture of the first batch on record."""
    run, recipe, catalog = job.run, job.recipe, job.catalog
    files.write_text(run.recipe_file, dump_yaml(recipe))
    write_catalog(catalog, run.catalog_file)
    counts = list(catalog.counts("train").values())
    write_class_weights(run.class_weights_file, catalog.classes, counts, job.class_weights)
    contact_sheet(*first_images(job), run.train_batch)
    environment.add(run, {"reference_losses": reference_losses(job)})
    if report is not None:
        environment.add(run, {"weights": report.to_json()})


def reference_losses(job: Job) -> dict[str, float]:
    """What an untrained head, a model that sees no image, and a perfect one would lose."""
    section = job.recipe.loss
    counts = drawn_counts(
        list(job.catalog.counts("train").values()), job.recipe.class_weighting.sampler
    )
    return {
        "chance": chance_loss(section, counts, job.class_weights),
        "prior": prior_loss(section, counts, job.class_weights),
        "floor": floor_loss(section, counts, job.class_weights),
    }


def first_images(job: Job) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """The first training images [N, H, W, 3] as the network will see them, and their classes."""
    train, _, _ = build_loaders(job, job.stages[0])
    labels = [job.class_index[cast(str, sample.label)] for sample in job.train]
    order = epoch_order(
        labels, job.recipe.class_weighting.sampler, seed=job.recipe.training.seed, epoch=0
    )
    batch = next(iter(train.epoch(order[:PREVIEW], 0)))
    pixels = batch.images.permute(0, 2, 3, 1).cpu().numpy()[:PREVIEW]
    return pixels, [job.catalog.classes[i] for i in batch.labels.tolist()][:PREVIEW]


class CurvesWatch(Unwatched):
    """Redraws ``curves.png`` after every epoch, unless epochs are so short that it would cost.

    An epoch is drawn if it is the first of its stage, if it ends ``LONGEST_WAIT`` seconds after the
    last drawing, or as soon as that drawing took less than ``DRAWING_SHARE`` of the time since
    then. What was left out is drawn when the next stage begins, and by ``finish``.

    Args:
        run: Whose picture it is.
        undrawn: What was trained before, and may not be in the picture yet.
    """

    def __init__(self, run: RunDir, undrawn: History | None = None) -> None:
        self.run = run
        self._undrawn = undrawn
        self._context: Context | None = None
        self._stage = -1
        self._due = 0.0

    def on_stage(self, name: str, index: int, count: int, summary: str) -> None:
        """Draw how the stage before ended."""
        self.finish()

    def on_epoch(self, row: EpochRow, history: History) -> None:
        """Draw the run as far as it has come, if it is time."""
        self._undrawn = history
        if row.stage_index != self._stage or time.monotonic() >= self._due:
            self.finish()
        self._stage = row.stage_index

    def finish(self) -> None:
        """Draw what is not drawn yet.

        Raises:
            DiskError: The picture could not be written.
        """
        if self._undrawn is None:
            return
        # Read once: after the first epoch what a run knows beside its epochs stands.
        self._context = self._context or context_of(self.run)
        started = time.monotonic()
        draw_curves(self._undrawn, self.run.curves, context=self._context)
        self._undrawn = None
        ended = time.monotonic()
        self._due = ended + min((ended - started) / DRAWING_SHARE, LONGEST_WAIT)


@contextlib.contextmanager
def curves_drawn(job: Job, state: State) -> Iterator[Job]:
    """The job with its picture kept up to date; however it ends, all finished epochs are in it."""
    if not job.recipe.logging.curves:
        yield job
        return
    curves = CurvesWatch(job.run, current_history(job, state) if state.rows else None)
    try:
        yield replace(job, watch=Several(job.watch, curves))
    except BaseException:
        # A disk that takes no picture is no news beside what has happened.
        with contextlib.suppress(DiskError):
            curves.finish()
        raise
    curves.finish()


def run_and_judge(
    job: Job, state: State, checkpoint: Mapping[str, Any] | None = None
) -> TrainResult:
    """Train to the end, then judge the best weights on validation and test."""
    wall, cpu = time.perf_counter(), time.process_time()
    if not job.catalog.in_split("val"):
        job.watch.on_note(
            "no validation images: the columns called val, the best epoch and early stopping go by "
            "training images, and say nothing about new ones"
        )
    with (
        Interrupts(job.recipe.training.time_limit) as interrupts,
        explain_memory(job),
        explain_disk(job.run),
        ending_on_record(job, state),
        curves_drawn(job, state) as watched,
    ):
        fit(watched, state, interrupts, checkpoint)
        if job.store is not None:
            job.store.close()
    evaluations = judge(job)
    return TrainResult(
        run=job.run,
        val=evaluations.get("val"),
        test=evaluations.get("test"),
        seconds=time.perf_counter() - wall,
        cpu_seconds=time.process_time() - cpu,
        ended=state.ended,
        history=job.run.history(),
    )


def judge(job: Job) -> dict[str, Evaluation]:
    """Evaluate the best weights on validation and test; write predictions and the picture.

    Between the two, what may help rare classes is chosen on validation: the scores of validation
    are those before it, because it was fitted to them.
    """
    device = str(job.fabric.device)
    predictor = Predictor(job.run, device)
    found: dict[str, Evaluation] = {}
    for split in ("val", "test"):
        samples = job.catalog.in_split(split)
        if samples:
            predictions = predictor.predict(samples)
            write_predictions(job.run.predictions(split), predictions)
            found[split] = evaluate_predictions(predictions, split)
            if split == "val" and adjust_logits(job, predictions):
                predictor = Predictor(job.run, device)
    if found:
        shown = found.get("test") or found["val"]
        draw_confusion(
            shown.confusion,
            job.catalog.classes,
            job.run.confusion_matrix,
            title=f"Confusion matrix, {shown.split}",
        )
    return found


def resume(
    run: RunDir, recipe: Recipe, *, epochs: int | None = None, watch: Watch | None = None
) -> TrainResult:
    """Continue a run exactly where its last checkpoint stands, or extend a finished one.

    Args:
        run: The run folder.
        recipe: Its recipe with the changes that are asked for; ``run.recipe()`` for none.
        epochs: Epochs the run shall have in all; None: as planned.
        watch: Told what happens.

    Raises:
        ResumeError: A value was changed that cannot change, or there is nothing left to do.
        RecipeError: The device is not here, or TensorBoard is wanted and not installed.
        RunError: Another process trains in this run.
    """
    watch = watch or Unwatched()
    if recipe.logging.tensorboard:
        require_tensorboard()
    with run.locked():
        checkpoint, state = load_state(run)
        catalog = read_catalog(run.require(run.catalog_file))
        check_label_mapping(run, tuple(checkpoint["classes"]), catalog.classes)
        machine = detect_machine()
        recipe = with_full_paths(settle(recipe, catalog, machine))
        check_changes(with_full_paths(recipe_of(checkpoint)), recipe)
        recipe = with_earlier(take_up(recipe, state, run, epochs), run.recipe())
        for note in checkpoint["notes"]:
            watch.on_note(note)
        store, _ = open_pictures(recipe, machine)
        prepared = Prepared(recipe, catalog, machine, store)
        job = make_job(prepared, run, rebuild_model(checkpoint), watch)
        rewind_logs(run, state)
        rewind_signs(run, state)
        drop_adjustment(run)
        files.write_text(run.recipe_file, dump_yaml(job.recipe))
        environment.add_command(run)
        watch.on_note(f"resumed at step {state.step} (epoch {state.epoch + 1})")
        return run_and_judge(job, state, checkpoint)

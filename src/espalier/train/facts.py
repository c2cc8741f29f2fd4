"""What a job has decided, as facts that rules read: loss, data, optimizer, rates, stages."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from espalier.data.transforms import EvalTransform, TrainTransform, transform_for
from espalier.models.build import model_facts
from espalier.models.stages import chosen_parameters, model_parts
from espalier.recipe.schema import Stage
from espalier.run_record import RunFacts, StageFacts, from_plain
from espalier.train.job import Job
from espalier.train.loaders import judged_imgsz
from espalier.train.pixel_record import first_stepped
from espalier.train.schedules import StagePlan, rate, stage_plan
from espalier.train.session import Session, batches_of
from espalier.train.state import State
from espalier.vitals.network import network_facts, optimizer_facts, stage_facts
from espalier.vitals.rates import sampled_steps


def run_facts(job: Job, session: Session, state: State, earlier: Mapping[str, Any]) -> RunFacts:
    """All that is decided, with the stages as far as they have begun.

    Args:
        job: What trains.
        session: Of the stage that begins.
        state: Where the run stands.
        earlier: The facts that were written before, as plain values.
    """
    plans = stage_plans(job)
    stepped = first_stepped(job) if session.stage.solve else session.stage
    return RunFacts(
        **_data(job),
        **_loss(job),
        **_steps(job, session),
        **_pictures(job, stepped),
        **network_facts(job.model),
        epochs=sum(stage.epochs for stage in job.stages),
        steps_per_epoch=_steps_per_epoch(job, stepped),
        planned_rates=planned_points(job, plans, state),
        patience=_patience(job, session.stage),
        monitor=job.recipe.checkpointing.monitor,
        kept="best" if job.recipe.checkpointing.save_best else "last",
        stages=_stages(job, session, state, plans, earlier),
        baseline_macro_f1=_baseline(job),
        seed=job.recipe.training.seed,
    )


def stage_plans(job: Job) -> list[StagePlan]:
    """The planned rates of all stages."""
    return [stage_plan(job.recipe, s, _steps_per_epoch(job, s)) for s in job.stages]


def _steps_per_epoch(job: Job, stage: Stage) -> int:
    return math.ceil(batches_of(job, stage) / job.recipe.training.accumulate)


def _data(job: Job) -> dict[str, Any]:
    catalog = job.catalog
    return {
        "classes": catalog.classes,
        "val_classes": catalog.classes,
        "head_classes": job.model.classes,
        "train_counts": tuple(catalog.counts("train").values()),
        "val_counts": tuple(catalog.counts("val").values()),
    }


def _loss(job: Job) -> dict[str, Any]:
    recipe = job.recipe
    environment = job.run.environment()
    references = environment.get("reference_losses", {})
    weights = environment.get("weights", {})
    return {
        "loss": recipe.loss.name,
        "label_smoothing": recipe.loss.label_smoothing,
        "class_weights": tuple(job.class_weights.tolist()),
        "sampler": recipe.class_weighting.sampler,
        "mixup": recipe.augment.mixup,
        "cutmix": recipe.augment.cutmix,
        "augment": str(recipe.augment.policy),
        "chance_loss": references.get("chance"),
        "prior_loss": references.get("prior"),
        "floor_loss": references.get("floor"),
        "pretrained": recipe.model.weights != "none",
        "loaded_share": weights.get("share"),
    }


def _steps(job: Job, session: Session) -> dict[str, Any]:
    training = job.recipe.training
    found = optimizer_facts(session.optimizer)
    return {
        **found,
        "optimizer": job.recipe.optimizer.name,
        "decoupled_decay": job.recipe.optimizer.name == "adamw",
        "batch": cast(int, training.batch) * training.accumulate,
        "accumulate": training.accumulate,
        "clip_norm": job.recipe.optimizer.clip_norm or 0.0,
        "precision": str(training.precision),
        "loss_scaled": getattr(job.fabric.strategy.precision, "scaler", None) is not None,
        "ema_decay": 0.0,
    }


def _pictures(job: Job, stage: Stage) -> dict[str, Any]:
    recipe = job.recipe
    judged = judged_imgsz(recipe, stage)
    facts = model_facts(recipe.model.name) if recipe.model.weights != "none" else None
    return {
        "input_mean": tuple(cast(Sequence[float], recipe.data.mean)),
        "input_std": tuple(cast(Sequence[float], recipe.data.std)),
        "expected_mean": facts.mean if facts else None,
        "expected_std": facts.std if facts else None,
        "train_transform": described(transform_for("train", recipe, cast(int, stage.imgsz))),
        "val_transform": described(transform_for("val", recipe, judged)),
        "imgsz": stage.imgsz,
        "val_imgsz": judged,
    }


def described(transform: TrainTransform | EvalTransform) -> str:
    """A transform as text: its kind and what it was made with."""
    plain = {k: v for k, v in vars(transform).items() if isinstance(v, int | float | str | dict)}
    return f"{type(transform).__name__}({', '.join(f'{k}={v}' for k, v in plain.items())})"


def planned_points(
    job: Job, plans: Sequence[StagePlan], state: State
) -> tuple[tuple[int, float], ...]:
    """(step, rate of the head) at some 200 steps that are measured, all stages together.

    Steps count from 1. Stages that are over count as many steps as they had. Stages that are solved
    for have no rate, and those of a plateau follow scores that nobody knows beforehand.
    """
    first = 0
    starts: list[tuple[StagePlan, int, int]] = []
    for index, plan in enumerate(plans):
        steps = _steps_of(state, index, plan, first)
        if not job.stages[index].solve and plan.schedule != "plateau":
            starts.append((plan, first, steps))
        first += steps
    return tuple(
        (step + 1, rate(plan, plan.head_peak, step - start))
        for step in sampled_steps(first, job.recipe.logging.step_every)
        for plan, start, steps in starts
        if start <= step < start + steps
    )


def _steps_of(state: State, index: int, plan: StagePlan, first: int) -> int:
    """Steps of a stage: as many as it had where it is over, as planned beyond."""
    ended = [row.step for row in state.rows if row.stage_index == index]
    return max(ended) - first if index < state.stage_index and ended else plan.steps


def _stages(
    job: Job,
    session: Session,
    state: State,
    plans: Sequence[StagePlan],
    earlier: Mapping[str, Any],
) -> tuple[StageFacts, ...]:
    known = {str(entry.get("name")): entry for entry in earlier.get("stages") or ()}
    found = []
    for index, (stage, plan) in enumerate(zip(job.stages, plans, strict=True)):
        planned = _planned_stage(job, stage, plan)
        if index == state.stage_index:
            planned = stage_facts(planned, job.model, model_parts(job.model), session.optimizer)
        elif index < state.stage_index and stage.name in known:
            planned = from_plain(StageFacts, known[stage.name])
        found.append(planned)
    return tuple(found)


def _planned_stage(job: Job, stage: Stage, plan: StagePlan) -> StageFacts:
    return StageFacts(
        name=stage.name,
        epochs=stage.epochs,
        learning_rate=plan.head_peak,
        backbone_learning_rate=plan.backbone_peak,
        schedule=plan.schedule,
        warmup_epochs=plan.warmup_steps / plan.steps_per_epoch,
        meant_to_train=_meant_to_train(job, stage),
        solved=stage.solve,
    )


def _meant_to_train(job: Job, stage: Stage) -> tuple[str, ...]:
    """Parts of which the recipe thaws at least half; what really learns is looked at apart."""
    chosen = {id(parameter) for parameter in chosen_parameters(job.model, stage)}
    return tuple(
        part
        for part, tensors in model_parts(job.model).items()
        if 2 * sum(t.numel() for t in tensors if id(t) in chosen)
        >= max(1, sum(t.numel() for t in tensors))
    )


def _patience(job: Job, stage: Stage) -> int:
    patience = stage.patience if stage.patience is not None else job.recipe.early_stopping.patience
    return patience or 0


def _baseline(job: Job) -> float | None:
    try:
        record = json.loads(job.run.baseline_file.read_text(encoding="utf-8"))
        return float(record["macro_f1"])
    except (OSError, ValueError, KeyError, TypeError):
        return None

"""Treatments: what ``espalier treat`` would change of a sick run, and what others would.

A plain loop has a plan and no recipe: its plan is written as one, the product prescribes for that,
and its changes are made in the plan.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.faults.pictures import digits, photos
from benchmarks.faults.recipes import R4_COUNTS, Plan
from espalier.data.balance import class_weights
from espalier.diagnose.treat import CannotChange, Treatment, change_of, prescribe
from espalier.findings import Edit, Report
from espalier.recipe.schema import Recipe
from espalier.runs import RunDir
from espalier.treating.proposal import dependents, holding

# Last part of a recipe's key -> field of a plan.
FIELDS = {
    "lr": "lr",
    "backbone_lr": "backbone_lr",
    "epochs": "epochs",
    "warmup_epochs": "warmup_epochs",
    "patience": "patience",
    "weight_decay": "weight_decay",
    "clip_norm": "clip_norm",
    "momentum": "momentum",
    "betas": "momentum",
    "batch": "batch",
    "dropout": "dropout",
    "mixup": "mixup",
    "label_smoothing": "label_smoothing",
    "sampler": "sampler",
    "policy": "augment",
}
WEIGHTING = ("class_weighting.strategy", "class_weighting.cap")
SCHEDULES = {"warmup-cosine": "cosine", "cosine": "cosine", "constant": "constant"}
# A plan's word -> that of a recipe which is as far from what is sound.
AS_SCHEDULE = {"restarts": "step"}
AS_POLICY = {"destructive": "e8"}
POLICIES = {"none": "none", "light": "light", "standard": "light", "strong": "heavy"}
# What random repair draws from: the same actions, each as the doctor could prescribe it.
ACTIONS: tuple[Edit, ...] = (
    Edit("stages.train.lr", "multiply", 0.1, "random"),
    Edit("stages.train.lr", "multiply", 10.0, "random"),
    Edit("stages.train.lr", "multiply", 0.33, "random"),
    Edit("schedule.name", "set", "warmup-cosine", "random"),
    Edit("stages.train.warmup_epochs", "set", 1.0, "random"),
    Edit("stages.train.epochs", "multiply", 3.0, "random"),
    Edit("optimizer.weight_decay", "set", 1e-4, "random"),
    Edit("optimizer.clip_norm", "set", 1.0, "random"),
    Edit("optimizer.momentum", "set", 0.9, "random"),
    Edit("training.batch", "set", 32, "random"),
    Edit("model.dropout", "set", 0.0, "random"),
    Edit("loss.label_smoothing", "set", 0.0, "random"),
    Edit("augment.policy", "set", "light", "random"),
    Edit("class_weighting.strategy", "set", "none", "random"),
    Edit("class_weighting.sampler", "set", "balanced", "random"),
)


def prescribed(recipe: Recipe, report: Report | None) -> tuple[Edit, ...]:
    """What ``espalier treat --yes`` changes: the safe edits of all causes, one for each key."""
    if report is None:
        return ()
    return _as_edits(holding(recipe, prescribe(recipe, report)))


def possible(recipe: Recipe, edits: Sequence[Edit]) -> tuple[Edit, ...]:
    """The same edits as values to set, without those that the recipe cannot hold."""
    values, changes = recipe.model_dump(mode="json"), []
    for edit in edits:
        try:
            changes.append(change_of(values, edit, "random"))
        except CannotChange:
            continue
    return _as_edits(holding(recipe, Treatment(tuple(changes))))


def _as_edits(treatment: Treatment) -> tuple[Edit, ...]:
    return tuple(Edit(c.key, "set", c.after, c.because) for c in treatment.safe)


def recipe_of(plan: Plan, folder: Path) -> Recipe:
    """What was decided, as a recipe: that of the run where Espalier trained it, else the plan's."""
    if plan.recipe == "R3":
        return RunDir(folder).recipe()
    stage = {
        "name": "train",
        "epochs": plan.epochs,
        "lr": plan.lr,
        "backbone_lr": plan.backbone_lr,
        "warmup_epochs": plan.warmup_epochs,
        "schedule": _schedule_of(plan),
    }
    weighting = {"strategy": "inverse" if plan.class_weights else "none", "sampler": plan.sampler}
    optimizer = {"name": plan.optimizer, "weight_decay": plan.weight_decay}
    memory = (
        {"momentum": plan.momentum}
        if plan.optimizer == "sgd"
        else {"betas": [plan.momentum, 0.999]}
    )
    tree = {
        "stages": [stage],
        "model": {"dropout": plan.dropout},
        "augment": {"policy": AS_POLICY.get(plan.augment, plan.augment), "mixup": plan.mixup},
        "training": {"batch": plan.batch},
        "optimizer": {**optimizer, **memory, "clip_norm": plan.clip_norm},
        "loss": {"label_smoothing": plan.label_smoothing},
        "class_weighting": weighting,
        "early_stopping": {"patience": plan.patience or None},
    }
    return Recipe.model_validate(tree)


def _schedule_of(plan: Plan) -> str:
    """A cosine that ends long before the run does is a step to nothing."""
    if plan.schedule == "cosine" and plan.decay_share < 1:
        return "step"
    return AS_SCHEDULE.get(plan.schedule, plan.schedule)


def treated(plan: Plan, edits: Sequence[Edit]) -> Plan:
    """The plan with every edit that a plan can hold."""
    for edit in edits:
        plan = _treated(plan, edit)
    weighting = {edit.key: edit.value for edit in edits if edit.key in WEIGHTING}
    return _weighted(plan, weighting) if weighting else plan


def treated_values(values: Mapping[str, Any], edits: Sequence[Edit]) -> dict[str, Any]:
    """Values for ``train_classifier`` with every edit in them; each of them sets a value."""
    assert all(edit.action == "set" for edit in edits)
    freed = dependents(edit.key for edit in edits)
    kept = {key: value for key, value in values.items() if key not in freed}
    return {**kept, **{edit.key: edit.value for edit in edits}}


def can_treat(edit: Edit) -> bool:
    """Whether a plan holds what the edit changes."""
    if edit.key == "schedule.name" or edit.key in WEIGHTING:
        return True
    return edit.key.rpartition(".")[2] in {*FIELDS, "schedule"}


def _treated(plan: Plan, edit: Edit) -> Plan:
    last = edit.key.rpartition(".")[2]
    if edit.key == "schedule.name" or last == "schedule":
        name = SCHEDULES.get(str(edit.value), "cosine")
        return dataclasses.replace(plan, schedule=name, decay_share=1.0)  # type: ignore[arg-type]
    field = FIELDS.get(last)
    if field is None:
        return plan
    return dataclasses.replace(plan, **{field: _value(plan, field, edit)})


def _value(plan: Plan, field: str, edit: Edit) -> Any:
    now, value = getattr(plan, field), edit.value
    if edit.action == "unset":
        return getattr(Plan(plan.recipe, plan.lr), field)
    if field == "augment":
        return POLICIES.get(str(value), "light")
    if field == "patience":
        return int(value or 0)
    if field == "momentum" and isinstance(value, list | tuple):
        return value[0]
    if edit.action == "multiply":
        value = (0.0 if now is None else now) * float(value or 0)
    if field in ("epochs", "batch"):
        return max(1, round(float(value or 1)))
    return value


def _weighted(plan: Plan, weighting: Mapping[str, Any]) -> Plan:
    """Weights by the number of images of each class, as the product works them out."""
    strategy, cap = (weighting.get(key) for key in WEIGHTING)
    if strategy in ("none", None):
        return dataclasses.replace(plan, class_weights=None)
    found = class_weights(_counts(plan), str(strategy), cap=cap, beta=0.999)
    return dataclasses.replace(plan, class_weights=tuple(found.tolist()))


def _counts(plan: Plan) -> Sequence[int]:
    """Training images of each class, as far as no fault changes them."""
    if plan.recipe == "R4":
        return R4_COUNTS
    labels = (digits() if plan.recipe == "R1" else photos()).train.labels
    counts: list[int] = torch.bincount(labels).tolist()
    return counts


def random_repair(name: str, seed: int, count: int = 1) -> tuple[Edit, ...]:
    """Drawn from the same actions; the same for the same run."""
    return tuple(random.Random(f"{name} {seed}").sample(ACTIONS, count))


def random_search(name: str, seed: int, trials: int = 3) -> list[tuple[Edit, ...]]:
    """Trials of a search that knows nothing: rate, decay and batch from usual ranges."""
    rng = random.Random(f"search {name} {seed}")
    return [
        (
            Edit("stages.train.lr", "set", 10 ** rng.uniform(-4, -0.5), "search"),
            Edit("optimizer.weight_decay", "set", 10 ** rng.uniform(-5, -2), "search"),
            Edit("training.batch", "set", rng.choice([16, 32, 64]), "search"),
        )
        for _ in range(trials)
    ]


# AutoTrainer's answer to each of its symptoms, as far as a plan can hold it; first one first.
AUTOTRAINER: Mapping[str, Edit] = {
    "explode": Edit("optimizer.clip_norm", "set", 1.0, "gradient clip"),
    "vanish": Edit("stages.train.lr", "multiply", 10.0, "stands in for another activation"),
    "relu": Edit("stages.train.lr", "multiply", 0.1, "stands in for another activation"),
    "unstable": Edit("stages.train.lr", "multiply", 0.1, "smaller learning rate"),
    "not_converge": Edit("stages.train.lr", "multiply", 10.0, "larger learning rate"),
}


def by_autotrainer(symptoms: Sequence[str]) -> tuple[Edit, ...]:
    """What its order of solutions tries first for its first symptom."""
    return (AUTOTRAINER[symptoms[0]],) if symptoms else ()


def recovered(score: float, reference: float, sick: float) -> bool:
    """Whether a test macro-F1 is within max(2 points, 10 % of the gap) of the healthy one."""
    return score >= reference - max(0.02, 0.1 * (reference - sick))

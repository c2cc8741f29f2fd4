"""Treatments: a prescription is a change of plan or recipe, and the run is repeated."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.faults.recipes import Plan
from espalier.findings import Edit, Finding

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
    "batch": "batch",
    "dropout": "dropout",
    "mixup": "mixup",
    "label_smoothing": "label_smoothing",
    "sampler": "sampler",
    "policy": "augment",
    "strategy": "class_weights",
}
SCHEDULES = {"warmup-cosine": "cosine", "cosine": "cosine", "constant": "constant"}
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


def treated(plan: Plan, edits: Sequence[Edit]) -> Plan:
    """The plan with every edit that a plan can hold."""
    for edit in edits:
        plan = _treated(plan, edit)
    return plan


def treated_values(values: Mapping[str, Any], edits: Sequence[Edit]) -> dict[str, Any]:
    """Values for ``train_classifier`` with every edit in them."""
    found = dict(values)
    for edit in edits:
        if edit.action == "unset":
            found.pop(edit.key, None)
        elif edit.action == "set":
            found[edit.key] = edit.value
        elif edit.key in found:
            found[edit.key] = float(found[edit.key]) * float(edit.value or 0)
    return found


def can_treat(edit: Edit) -> bool:
    """Whether a plan holds what the edit changes."""
    return edit.key == "schedule.name" or edit.key.rpartition(".")[2] in FIELDS | {"schedule": 0}


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
    if field == "class_weights":
        return None if edit.action == "unset" or value == "none" else _milder(plan.class_weights)
    if edit.action == "unset":
        return getattr(Plan(plan.recipe, plan.lr), field)
    if field == "augment":
        return POLICIES.get(str(value), "light")
    if field == "patience":
        return int(value or 0)
    if edit.action == "multiply":
        value = (0.0 if now is None else now) * float(value or 0)
    if field in ("epochs", "batch"):
        return max(1, round(float(value or 1)))
    return value


def _milder(weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
    return None if weights is None else tuple(weight**0.5 for weight in weights)


def prescribed(findings: Sequence[Finding]) -> tuple[Edit, ...]:
    """What the first finding with a usable prescription says."""
    for finding in findings:
        edits = tuple(edit for edit in finding.prescription if can_treat(edit))
        if edits and finding.severity != "info":
            return edits
    return ()


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

"""Faults that a plan can hold: wrong values, each as (sound plan, severity) -> faulty plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from benchmarks.faults.recipes import CLASSES, R4_COUNTS, Plan, weights_against

PlanFault = Callable[[Plan, int], Plan]


def _with(plan: Plan, **changes: Any) -> Plan:
    return dataclasses.replace(plan, **changes)


def rate_diverges(plan: Plan, severity: int) -> Plan:
    return _with(plan, lr=plan.lr * (30, 300)[severity - 1], schedule="constant", warmup_epochs=0)


def rate_noisy(plan: Plan, severity: int) -> Plan:
    return _with(plan, lr=plan.lr * (10, 15)[severity - 1], schedule="constant")


def rate_too_low(plan: Plan, severity: int) -> Plan:
    return _with(plan, lr=plan.lr / (30, 1000)[severity - 1])


def decays_early(plan: Plan, severity: int) -> Plan:
    if severity == 1:
        return _with(plan, decay_share=0.15, warmup_epochs=0)
    return _with(plan, schedule="step", decay_share=0.1, gamma=1e-4, warmup_epochs=0)


def no_warmup(plan: Plan, severity: int) -> Plan:
    return _with(plan, lr=plan.lr * (5, 15)[severity - 1], warmup_epochs=0)


def uniform_rate(plan: Plan, severity: int) -> Plan:
    """The rate meant for a fresh head, given to the pretrained layers as well."""
    rate = (1e-2, 5e-2)[severity - 1]
    return _with(plan, lr=rate, backbone_lr=None, warmup_epochs=0)


def odd_momentum(plan: Plan, severity: int) -> Plan:
    if plan.optimizer == "sgd":
        return _with(plan, momentum=(0.99, 0.999)[severity - 1])
    return _with(plan, eps=0.1) if severity == 1 else _with(plan, momentum=0.999)


def huge_decay(plan: Plan, severity: int) -> Plan:
    if plan.optimizer == "sgd":
        return _with(plan, weight_decay=(0.1, 0.5)[severity - 1])
    return _with(plan, weight_decay=(5, 50)[severity - 1])


def batch_mismatch(plan: Plan, severity: int) -> Plan:
    """A rate that was found for another batch size."""
    if severity == 1:
        return _with(plan, batch=512)
    scale = (512 / plan.batch) if plan.optimizer == "sgd" else (512 / plan.batch) ** 0.5
    return _with(plan, batch=4, lr=plan.lr * scale, epochs=max(3, plan.epochs // 3))


def stops_early(plan: Plan, severity: int) -> Plan:
    if severity == 1:
        return _with(plan, epochs=max(2, round(0.25 * plan.epochs)), schedule="constant")
    return _with(plan, patience=1, lr=plan.lr / 3, schedule="constant")


def narrow(plan: Plan, severity: int) -> Plan:
    return _with(plan, width=plan.width // (8, 16)[severity - 1], pretrained=False)


def heavy_dropout(plan: Plan, severity: int) -> Plan:
    return _with(plan, dropout=(0.9, 0.97)[severity - 1])


def destructive_augmentation(plan: Plan, severity: int) -> Plan:
    return _with(plan, augment="destructive")


def extreme_weights(plan: Plan, severity: int) -> Plan:
    others = [1.0] * (CLASSES[plan.recipe] - 1)
    return _with(plan, class_weights=((100.0, 1000.0)[severity - 1], *others))


def helped_twice(plan: Plan, severity: int) -> Plan:
    """Rare classes are drawn more often and weigh more as well; R3 has recipe values for it."""
    weights = weights_against(R4_COUNTS, (0.5, 1.0)[severity - 1])
    return _with(plan, sampler="balanced", class_weights=weights)


def tiny_set(plan: Plan, severity: int) -> Plan:
    """So few images, so many epochs, nothing against it."""
    images = (120, 60)[severity - 1]
    return _with(plan, images=images, augment="none", weight_decay=0.0, epochs=40, batch=16)


def over_regularised(plan: Plan, severity: int) -> Plan:
    decay = plan.weight_decay if plan.optimizer == "sgd" else 0.5
    return _with(
        plan,
        weight_decay=max(decay, 0.02),
        dropout=(0.5, 0.7)[severity - 1],
        label_smoothing=(0.3, 0.5)[severity - 1],
        mixup=1.0,
        augment="heavy",
    )


def tight_clip(plan: Plan, severity: int) -> Plan:
    return _with(plan, clip_norm=(1e-2, 1e-3)[severity - 1])


def squared_error(plan: Plan, severity: int) -> Plan:
    return _with(plan, loss="mse")


def tiny_batch(plan: Plan, severity: int) -> Plan:
    """Two images a step: BatchNorm learns from noise."""
    return _with(plan, batch=2, epochs=max(2, plan.epochs // 3))

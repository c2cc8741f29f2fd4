"""The faults: what is done, where, and which names of it count as the cause. Frozen.

``causes`` are rules of ``espalier diagnose``: the first is the fault itself, the others say the
same in other words or prescribe what undoes it. The table was written before any rule was scored;
a change to it needs a reason in ``docs/guide/fault-benchmark.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.faults import in_code, in_data, in_plan
from benchmarks.faults.in_data import LoopFault
from benchmarks.faults.in_plan import PlanFault

LOOPS = ("R1", "R2", "R4")


@dataclass(frozen=True)
class Injection:
    """One fault.

    Attributes:
        name: Of the fault; a run is called ``NAME-s1`` or ``NAME-s2``.
        catalogue: Id in the catalogue of faults, ``A1`` say.
        causes: Rules that name it, the fault's own first.
        plan: Changes the plan.
        patch: Changes the loop or its data.
        where: Recipes it can be put into.
        severities: 1: moderate, 2: severe.
        validity: What is reported is wrong, whatever the model is worth.
        repairable: A change of the plan can undo it.
    """

    name: str
    catalogue: str
    causes: tuple[str, ...]
    plan: PlanFault | None = None
    patch: LoopFault | None = None
    where: tuple[str, ...] = LOOPS
    severities: tuple[int, ...] = (1, 2)
    validity: bool = False
    repairable: bool = False


def _in_plan(
    name: str, catalogue: str, fault: PlanFault, *causes: str, **more: object
) -> Injection:
    more.setdefault("repairable", True)
    return Injection(name, catalogue, causes, plan=fault, **more)  # type: ignore[arg-type]


def _in_loop(
    name: str, catalogue: str, fault: LoopFault, *causes: str, **more: object
) -> Injection:
    return Injection(name, catalogue, causes, patch=fault, **more)  # type: ignore[arg-type]


R1, ONLY_SEVERE = ("R1",), (2,)
# What needs BatchNorm.
WITH_BATCH_NORM = ("R1", "R2")
HIGH, LOW, NOISY = "learning_rate_too_high", "learning_rate_too_low", "learning_rate_noisy"

INJECTIONS: tuple[Injection, ...] = (
    _in_plan("rate_diverges", "A1", in_plan.rate_diverges, HIGH, NOISY, "batch_rate_mismatch"),
    _in_plan("rate_noisy", "A2", in_plan.rate_noisy, NOISY, HIGH, "batch_rate_mismatch"),
    _in_plan("rate_too_low", "A3", in_plan.rate_too_low, LOW, "batch_rate_mismatch"),
    _in_plan("decays_early", "A4", in_plan.decays_early, "decayed_too_early", LOW),
    _in_loop(
        "scheduler_per_batch",
        "A4",
        in_code.scheduler_per_batch,
        "schedule_not_followed",
        "decayed_too_early",
    ),
    _in_loop("scheduler_forgotten", "A5", in_code.scheduler_forgotten, "schedule_not_followed"),
    _in_plan(
        "no_warmup", "A6", in_plan.no_warmup, "missing_warmup", HIGH, NOISY, where=("R1", "R4")
    ),
    _in_plan("uniform_rate", "A7", in_plan.uniform_rate, "backbone_rate_erases", HIGH, where=R1),
    _in_loop("head_not_optimized", "A8", in_code.head_not_optimized, "optimizer_misses_parameters"),
    _in_loop(
        "backbone_not_optimized",
        "A8",
        in_code.backbone_not_optimized,
        "optimizer_misses_parameters",
        severities=ONLY_SEVERE,
    ),
    _in_loop("no_zero_grad", "A9", in_code.no_zero_grad, "gradients_not_cleared"),
    _in_plan("odd_momentum", "A11", in_plan.odd_momentum, "odd_optimizer_memory"),
    _in_plan("huge_decay", "A12", in_plan.huge_decay, "weight_decay_too_high", "over_regularised"),
    _in_loop(
        "no_step",
        "G1",
        in_code.no_step,
        "weights_do_not_move",
        "no_gradient",
        severities=ONLY_SEVERE,
    ),
    _in_loop("ascent", "A13", in_code.ascent, "loss_rises_by_design", severities=ONLY_SEVERE),
    _in_plan(
        "batch_mismatch",
        "A14",
        in_plan.batch_mismatch,
        "batch_rate_mismatch",
        "batch_too_small",
        HIGH,
        LOW,
        NOISY,
    ),
    _in_plan(
        "tiny_batch",
        "A15",
        in_plan.tiny_batch,
        "batch_too_small",
        "batch_rate_mismatch",
        where=WITH_BATCH_NORM,
    ),
    _in_plan("stops_early", "A16", in_plan.stops_early, "stopped_too_early", LOW),
    _in_loop(
        "vanishing",
        "B1",
        in_code.vanishing,
        "vanishing_gradients",
        "saturated_units",
        severities=ONLY_SEVERE,
    ),
    _in_loop("exploding", "B2", in_code.exploding, "exploding_gradients", "bad_first_loss"),
    _in_loop("broken_pixels", "B3", in_data.broken_pixels, "broken_pixels"),
    _in_loop("underflow", "B4", in_code.underflow, "fp16_range", "vanishing_gradients"),
    _in_loop(
        "clip_before_unscale",
        "B5",
        in_code.clip_before_unscale,
        "clip_before_unscale",
        "clip_too_tight",
    ),
    _in_plan("tight_clip", "B6", in_plan.tight_clip, "clip_too_tight"),
    _in_loop("detached", "B7", in_code.detached, "no_gradient"),
    _in_loop("dead_units", "C1", in_code.dead_units, "dead_units", where=WITH_BATCH_NORM),
    _in_loop("frozen_backbone", "C3", in_code.frozen_backbone, "frozen_by_mistake"),
    _in_loop(
        "stale_statistics",
        "C5",
        in_code.stale_statistics,
        "batch_norm_broken",
        where=WITH_BATCH_NORM,
    ),
    _in_loop("no_eval", "C6", in_code.no_eval, "validation_in_training_mode", validity=True),
    _in_loop(
        "no_train", "C7", in_code.no_train, "training_in_evaluation_mode", where=WITH_BATCH_NORM
    ),
    _in_loop("loud_head", "C8", in_code.loud_head, "bad_first_loss"),
    _in_loop("weights_lost", "C9", in_code.weights_lost, "weights_not_loaded", where=R1),
    _in_loop("wide_head", "C10", in_code.wide_head, "head_size_mismatch"),
    _in_loop(
        "double_softmax", "C11", in_code.double_softmax, "double_softmax", severities=ONLY_SEVERE
    ),
    _in_plan(
        "squared_error",
        "C12",
        in_plan.squared_error,
        "wrong_loss",
        severities=ONLY_SEVERE,
        repairable=False,
    ),
    _in_plan("narrow", "C13", in_plan.narrow, "under_capacity", "underfitting", repairable=False),
    _in_plan(
        "heavy_dropout",
        "C14",
        in_plan.heavy_dropout,
        "augmentation_or_dropout_too_strong",
        "over_regularised",
    ),
    _in_loop("shuffled_labels", "D1", in_data.shuffled_labels, "labels_shuffled", "label_noise"),
    _in_loop("noisy_labels", "D2", in_data.noisy_labels, "label_noise"),
    _in_loop("pair_flips", "D3", in_data.pair_flips, "pair_flips", "label_noise"),
    _in_loop("class_order", "D4", in_data.class_order, "class_order_differs", validity=True),
    _in_loop("leak", "D5", in_data.leak, "validation_leak", validity=True),
    _in_loop("val_augmented", "D8", in_data.val_augmented, "validation_augmented", validity=True),
    _in_loop(
        "val_not_normalised",
        "D9",
        in_data.val_not_normalised,
        "split_normalisation_differs",
        "wrong_normalisation",
        validity=True,
    ),
    _in_loop("wrong_pixels", "D10", in_data.wrong_pixels, "wrong_normalisation"),
    _in_plan(
        "destructive_augmentation",
        "D11",
        in_plan.destructive_augmentation,
        "augmentation_destroys_labels",
        "augmentation_or_dropout_too_strong",
        severities=ONLY_SEVERE,
    ),
    _in_loop(
        "sorted_classes", "D13", in_data.sorted_classes, "unshuffled_batches", severities=(2,)
    ),
    _in_loop("few_drawn", "D14", in_data.few_drawn, "few_images_drawn"),
    _in_loop(
        "small_val_pixels",
        "D17",
        in_data.small_val_pixels,
        "resolution_mismatch",
        validity=True,
        where=R1,
    ),
    _in_loop(
        "imbalance",
        "E1",
        in_data.imbalance,
        "collapsed_to_major_classes",
        "metric_hides_failure",
    ),
    _in_plan("extreme_weights", "E2", in_plan.extreme_weights, "extreme_class_weights"),
    _in_plan(
        "helped_twice",
        "E3",
        in_plan.helped_twice,
        "rare_classes_helped_twice",
        where=("R3", "R4"),
    ),
    _in_loop("class_absent", "E4", in_data.class_absent, "class_absent"),
    _in_plan("tiny_set", "F1", in_plan.tiny_set, "overfitting", "overtrained", repairable=False),
    _in_plan(
        "over_regularised",
        "F3",
        in_plan.over_regularised,
        "over_regularised",
        "augmentation_or_dropout_too_strong",
        "weight_decay_too_high",
    ),
    _in_loop("worst_kept", "F4", in_code.worst_kept, "wrong_weights_kept", severities=ONLY_SEVERE),
)
BY_NAME = {injection.name: injection for injection in INJECTIONS}

# Two at once; the first alarm must name one of them, and not what follows from both.
COMPOUNDS: tuple[tuple[str, str], ...] = (
    ("rate_diverges", "dead_units"),
    ("wrong_pixels", "rate_diverges"),
    ("noisy_labels", "tiny_set"),
    ("imbalance", "rate_too_low"),
    ("val_not_normalised", "leak"),
    ("frozen_backbone", "rate_too_low"),
    ("huge_decay", "heavy_dropout"),
    ("double_softmax", "rate_too_low"),
    ("extreme_weights", "rate_noisy"),
)

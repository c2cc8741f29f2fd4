"""In which order findings are read: what is further up explains what is further down.

The order is that of the cheapest resolution: hard facts, numbers, the state of the network, whether
anything moves, whether it moves too much, what the network can fit, the data, and at last how well
it does on new images. A rule that is named nowhere belongs where the block of its code says.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

HEALTHY = "healthy"
"""Rule of the finding that says that nothing is wrong."""
NEXT_LEVER = "next_lever"
"""Rule that says, where nothing is wrong, what would still improve the score most."""

BY_EXCLUSION = 0.5
"""Confidence of a finding that counts only where nothing else explains what was seen."""
_STOPS_LEARNING = (
    "class_order_differs", "optimizer_misses_parameters", "weights_not_loaded", "wrong_loss",
    "double_softmax", "loss_rises_by_design", "wrong_normalisation", "split_normalisation_differs",
    "resolution_mismatch", "extreme_class_weights", "odd_optimizer_memory",
    "gradients_not_cleared", "batch_rate_mismatch", "broken_pixels", "fp16_range",
    "clip_before_unscale", "hidden_nan", "batch_norm_broken", "training_in_evaluation_mode",
    "bad_first_loss", "no_gradient", "weights_do_not_move", "frozen_by_mistake",
    "vanishing_gradients", "saturated_units", "clip_too_tight", "learning_rate_too_low",
    "decayed_too_early", "learning_rate_too_high", "missing_warmup", "weight_decay_too_high",
    "learning_rate_noisy", "exploding_gradients", "dead_units", "under_capacity",
    "augmentation_or_dropout_too_strong", "over_regularised", "collapsed_to_major_classes",
)  # fmt: skip
# Rule -> those that explain the same symptom: one of them that alarms takes its place.
EXPLAINED_BY = {
    "labels_shuffled": (*_STOPS_LEARNING, "augmentation_destroys_labels"),
    "augmentation_destroys_labels": _STOPS_LEARNING,
}
# Of these, the ones that must have been able to judge: without them the guess is not worth saying.
JUDGED_FIRST = {
    "labels_shuffled": (
        "vanishing_gradients", "training_in_evaluation_mode", "dead_units", "learning_rate_too_low",
        "under_capacity",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """Rules that answer one question.

    Attributes:
        name: As a person calls what they look at.
        rules: By name, the most upstream first.
        codes: Blocks of codes whose unnamed rules belong here.
    """

    name: str
    rules: tuple[str, ...]
    codes: tuple[str, ...] = ()


FAMILIES = (
    Family(
        "settings and data as they are on record",
        (
            "head_size_mismatch",
            "class_absent",
            "class_order_differs",
            "optimizer_misses_parameters",
            "weights_not_loaded",
            "wrong_loss",
            "double_softmax",
            "loss_rises_by_design",
            "wrong_normalisation",
            "split_normalisation_differs",
            "validation_augmented",
            "validation_leak",
            "resolution_mismatch",
            "rare_classes_helped_twice",
            "extreme_class_weights",
            "schedule_not_followed",
            "odd_optimizer_memory",
            "gradients_not_cleared",
            "batch_rate_mismatch",
        ),
        ("RUN0",),
    ),
    Family(
        "numbers",
        (
            "broken_pixels",
            "fp16_range",
            "clip_before_unscale",
            "hidden_nan",
        ),
    ),
    Family(
        "the state of the network",
        (
            "batch_norm_broken",
            "frozen_statistics_move",
            "validation_in_training_mode",
            "training_in_evaluation_mode",
            "bad_first_loss",
            "stale_average",
        ),
    ),
    Family(
        "whether it learns",
        (
            "no_gradient",
            "weights_do_not_move",
            "frozen_by_mistake",
            "vanishing_gradients",
            "saturated_units",
            "clip_too_tight",
            "learning_rate_too_low",
            "decayed_too_early",
        ),
    ),
    Family(
        "whether it learns too fast",
        (
            "learning_rate_too_high",
            "missing_warmup",
            "backbone_rate_erases",
            "weight_decay_too_high",
            "learning_rate_noisy",
            "batch_too_small",
            "exploding_gradients",
            "dead_units",
        ),
        ("RUN1",),
    ),
    Family("what it can fit", ("under_capacity", "augmentation_or_dropout_too_strong",
                               "over_regularised", "not_learning")),
    Family(
        "data and labels",
        (
            "labels_shuffled",
            "pair_flips",
            "unshuffled_batches",
            "few_images_drawn",
            "label_noise",
            "augmentation_destroys_labels",
            "collapsed_to_major_classes",
            "validation_from_elsewhere",
            "training_copies",
            "validation_too_small",
        ),
        ("RUN2",),
    ),
    Family(
        "how well it does on new images",
        (
            "overfitting",
            "underfitting",
            "overtrained",
            "wrong_weights_kept",
            "stopped_too_early",
            "metric_hides_failure",
            "plateau",
            "waiting_for_data",
            HEALTHY,
            NEXT_LEVER,
        ),
    ),
)  # fmt: skip


def family_of(rule: str, code: str = "") -> str:
    """Name of the family of a rule; empty where neither its name nor its code says so."""
    place = rank(rule, code)[0]
    return FAMILIES[place].name if place < len(FAMILIES) else ""


def rank(rule: str, code: str = "") -> tuple[int, int]:
    """Place of a rule: of its family, and within it; rules that nobody named come last."""
    known = _named().get(rule)
    if known is not None:
        return known
    for place, family in enumerate(FAMILIES):
        if code.startswith(family.codes or ("?",)):
            return place, len(family.rules)
    return len(FAMILIES), 0


@cache
def _named() -> dict[str, tuple[int, int]]:
    return {
        name: (place, within)
        for place, family in enumerate(FAMILIES)
        for within, name in enumerate(family.rules)
    }

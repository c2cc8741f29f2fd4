"""Built-in rules of Amazon SageMaker Debugger at their documented defaults, on our records.

Source: its developer guide, "List of Debugger Built-in Rules" (awsdocs/
amazon-sagemaker-developer-guide, ``doc_source/debugger-built-in-rules.md``). Rules on tensors that
our record does not hold (SaturatedActivation, PoorWeightInitialization, TensorVariance, AllZero,
NLPSequenceRatio) are left out. The rules are closed; where the guide leaves a doubt, the reading
with fewer alarms is taken, and its function says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from espalier.run_record import RunRecord, StepSigns, measured

VANISHED = 1e-7
LARGE_RATIO, SMALL_RATIO = 10.0, 1e-8
OVERFIT_RATIO = 0.1
OVERTRAINING_PATIENCE, OVERTRAINING_DELTA = 10, 0.1
NOT_DECREASING_STEPS = 10
INACTIVE_LAYER = 0.5
IMBALANCE, MISPREDICTION = 10.0, 0.7
MEAN_INPUT = 0.2
UNCHANGED_STEPS = 3
LEAST_DIAGONAL, MOST_OFF = 0.9, 0.1

MEANS: dict[str, tuple[str, ...]] = {
    "ExplodingTensor": ("exploding_gradients", "learning_rate_too_high", "broken_pixels"),
    "VanishingGradient": ("vanishing_gradients", "saturated_units", "no_gradient"),
    "DeadRelu": ("dead_units",),
    "UnchangedTensor": ("optimizer_misses_parameters", "frozen_by_mistake", "no_gradient"),
    "WeightUpdateRatio": ("learning_rate_too_high", "learning_rate_too_low"),
    "LossNotDecreasing": ("learning_rate_too_low", "learning_rate_too_high"),
    "Overfit": ("overfitting",),
    "Overtraining": ("overtrained",),
    "ClassImbalance": ("collapsed_to_major_classes",),
    "CheckInputImages": ("wrong_normalisation",),
    "Confusion": ("labels_shuffled", "pair_flips", "class_order_differs"),
}


def alarms(record: RunRecord) -> list[str]:
    """Its rules that find an issue, the deep learning rules in the order of the guide."""
    return [name for name, fires in CHECKS.items() if fires(record)]


def exploding(record: RunRecord) -> bool:
    """Any recorded value that is not finite."""
    return any(math.isinf(value) for s in record.steps for value in (s.loss, s.grad_norm))


def vanishing(record: RunRecord) -> bool:
    """Gradients of a layer whose mean size is below 1e-7, taken as their root mean square."""
    sizes = record.facts.stages[-1].parts if record.facts.stages else {}
    return any(
        signs.grad_norm < VANISHED * math.sqrt(sizes.get(name, 1))
        for step in record.steps
        for name, signs in step.parts.items()
    )


def dead_relu(record: RunRecord) -> bool:
    """More than half of a layer never active."""
    return any(dead > INACTIVE_LAYER for e in record.epochs for dead in e.dead.values())


def unchanged(record: RunRecord) -> bool:
    """A tensor that is the same for three measured steps."""
    for part in {name for step in record.steps for name in step.parts}:
        still = [_still(step, part) for step in record.steps]
        runs = zip(still, still[1:], still[2:], strict=False)
        if any(all(run) for run in runs):
            return True
    return any(s.trainable.get(part, 1) == 0 for s in record.facts.stages for part in s.parts)


def _still(step: StepSigns, part: str) -> bool:
    return part in step.parts and step.parts[part].changed is False


def update_ratio(record: RunRecord) -> bool:
    """Updates above 10 or below 1e-8 of the weights."""
    ratios = measured(signs.update_ratio for step in record.steps for signs in step.parts.values())
    return any(ratio > LARGE_RATIO or ratio < SMALL_RATIO for ratio in ratios)


def loss_not_decreasing(record: RunRecord) -> bool:
    """A loss that is not below that of ten steps before, looked at every ten steps."""
    losses = [(step.step, step.loss) for step in record.steps if not math.isnan(step.loss)]
    last = losses[0][0] if losses else 0
    for place, (step, loss) in enumerate(losses):
        if step < last + NOT_DECREASING_STEPS:
            continue
        last = step
        past = [old for when, old in losses[:place] if when <= step - NOT_DECREASING_STEPS]
        if loss >= past[-1]:
            return True
    return False


def overfit(record: RunRecord) -> bool:
    """Validation loss more than 10 % above training loss."""
    return any(e.val_loss - e.train_loss > OVERFIT_RATIO * e.train_loss for e in record.epochs)


def overtraining(record: RunRecord) -> bool:
    """Validation loss has not gained 0.1 for ten epochs.

    The guide counts evaluations, of which we have one an epoch, and asks the training loss as well,
    within five steps: a loss of single batches would nearly always fail that.
    """
    best, waited = math.inf, 0
    for loss in measured(record.column("val_loss")):
        better = loss < best - OVERTRAINING_DELTA
        best, waited = (loss, 0) if better else (best, waited + 1)
        if waited >= OVERTRAINING_PATIENCE:
            return True
    return False


def class_imbalance(record: RunRecord) -> bool:
    """Classes 10 : 1, or a class of which 70 % are called something else."""
    counts = [count for count in record.facts.train_counts or () if count]
    if counts and max(counts) / min(counts) > IMBALANCE:
        return True
    recall = record.epochs[-1].recall if record.epochs else None
    return recall is not None and any(1 - value > MISPREDICTION for value in recall)


def input_images(record: RunRecord) -> bool:
    """A channel whose mean is further than 0.2 from 0."""
    pixels = record.data.train
    return pixels is not None and any(abs(mean) > MEAN_INPUT for mean in pixels.mean)


def confused(record: RunRecord) -> bool:
    """Of what is called one class, less than 90 % is right, or more than 10 % is one other class.

    The guide divides the diagonal by the sum of the diagonal, which no model of several classes
    passes: it is taken as a slip for the sum of the column, by which the others are divided.
    """
    for place, column in enumerate(zip(*(record.confusion or ()), strict=True)):
        total = sum(column)
        others = [count for other, count in enumerate(column) if other != place]
        if total and (
            column[place] / total < LEAST_DIAGONAL or max(others, default=0) / total > MOST_OFF
        ):
            return True
    return False


CHECKS: dict[str, Callable[[RunRecord], bool]] = {
    "ExplodingTensor": exploding,
    "VanishingGradient": vanishing,
    "DeadRelu": dead_relu,
    "UnchangedTensor": unchanged,
    "WeightUpdateRatio": update_ratio,
    "LossNotDecreasing": loss_not_decreasing,
    "Overfit": overfit,
    "Overtraining": overtraining,
    "ClassImbalance": class_imbalance,
    "CheckInputImages": input_images,
    "Confusion": confused,
}

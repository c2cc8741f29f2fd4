"""UMLAUT's heuristics, on our records.

Source: Schoop, Huang and Hartmann, "UMLAUT: Debugging Deep Learning Programs using Program
Structure and Model Behavior", CHI 2021. Those that need the program's text are left out. In doubt:
its repository (BerkeleyHCI/umlaut, ``umlaut/heuristics.py``) warns of overfitting after a single
epoch, and of any validation accuracy above that of training; the milder limits are taken here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from espalier.run_record import RunRecord, measured

LOW, HIGH = -1.0, 1.0
MOST_RATE, LEAST_RATE = 0.01, 1e-7
SUSPICIOUS_ACCURACY = 0.95
LEAK = 0.05
MOST_DROPOUT = 0.5
PATIENCE = 2

MEANS: dict[str, tuple[str, ...]] = {
    "input_range": ("wrong_normalisation",),
    "nan_loss": ("broken_pixels", "learning_rate_too_high", "exploding_gradients"),
    "rate_high": ("learning_rate_too_high", "learning_rate_noisy"),
    "rate_low": ("learning_rate_too_low", "decayed_too_early"),
    "accuracy_suspicious": ("validation_leak",),
    "val_above_train": ("validation_leak",),
    "overfitting": ("overfitting", "overtrained"),
    "loss_not_decreasing": ("learning_rate_too_low", "learning_rate_too_high"),
    "dropout_high": ("augmentation_or_dropout_too_strong",),
    "missing_softmax": ("double_softmax",),
}


def alarms(record: RunRecord) -> list[str]:
    """Its messages, errors before warnings."""
    return [name for name, fires in CHECKS.items() if fires(record)]


def input_range(record: RunRecord) -> bool:
    """Inputs outside [-1, 1]."""
    pixels = record.data.train
    return pixels is not None and (pixels.low < LOW or pixels.high > HIGH)


def nan_loss(record: RunRecord) -> bool:
    """A loss that is no number."""
    return any(math.isinf(step.loss) for step in record.steps)


def rate_high(record: RunRecord) -> bool:
    """A rate above 0.01."""
    return max(measured(step.learning_rate for step in record.steps), default=0) > MOST_RATE


def rate_low(record: RunRecord) -> bool:
    """A rate below 1e-7."""
    return min(measured(step.learning_rate for step in record.steps), default=1) < LEAST_RATE


def accuracy_suspicious(record: RunRecord) -> bool:
    """More than 95 % right in validation."""
    return max(measured(record.column("val_accuracy")), default=0) > SUSPICIOUS_ACCURACY


def val_above_train(record: RunRecord) -> bool:
    """Validation accuracy more than 5 points above that of training."""
    return any(e.val_accuracy - e.train_accuracy > LEAK for e in record.epochs)


def overfitting(record: RunRecord) -> bool:
    """Validation loss rises for two epochs while training loss falls."""
    epochs, row = record.epochs, 0
    for before, after in itertools.pairwise(epochs):
        apart = after.val_loss > before.val_loss and after.train_loss < before.train_loss
        row = row + 1 if apart else 0
        if row >= PATIENCE:
            return True
    return False


def loss_not_decreasing(record: RunRecord) -> bool:
    """Training loss does not fall for two epochs."""
    curve, row = measured(record.column("train_loss")), 0
    for before, after in itertools.pairwise(curve):
        row = row + 1 if after >= before else 0
        if row >= PATIENCE:
            return True
    return False


def dropout_high(record: RunRecord) -> bool:
    """Dropout above 0.5."""
    return (record.facts.dropout or 0.0) > MOST_DROPOUT


CHECKS: dict[str, Callable[[RunRecord], bool]] = {
    "nan_loss": nan_loss,
    "input_range": input_range,
    "rate_high": rate_high,
    "rate_low": rate_low,
    "loss_not_decreasing": loss_not_decreasing,
    "overfitting": overfitting,
    "val_above_train": val_above_train,
    "accuracy_suspicious": accuracy_suspicious,
    "dropout_high": dropout_high,
}

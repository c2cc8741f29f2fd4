"""AutoTrainer's five symptoms, on our records.

Source: Zhang, Zhai, Ma and Shen, "AUTOTRAINER: An Automatic DNN Training Problem Detection and
Repair System", ICSE 2021, and the defaults of its repository. It watches Keras models layer by
layer; here a layer is a part of the network and an iteration is a measured step.
"""

from __future__ import annotations

import itertools
import math

from espalier.run_record import RunRecord, measured

THETA = 0.6
"""Accuracy above which a model counts as converged."""
BETA_1, BETA_2, BETA_3 = 1e-3, 1e-4, 70.0
GAMMA = 0.7
ZETA, ETA = 0.03, 0.2
DELTA = 0.01

# Symptom -> rules of ours whose cause it could mean.
MEANS: dict[str, tuple[str, ...]] = {
    "explode": ("exploding_gradients", "learning_rate_too_high"),
    "vanish": ("vanishing_gradients", "saturated_units"),
    "relu": ("dead_units",),
    "unstable": ("learning_rate_noisy", "learning_rate_too_high", "batch_too_small"),
    "not_converge": ("learning_rate_too_low", "learning_rate_too_high"),
}
# What it tries, in this order, for each symptom.
ORDER: dict[str, tuple[str, ...]] = {
    "vanish": ("selu", "batch_norm"),
    "explode": ("clip", "batch_norm"),
    "relu": ("selu", "batch_norm"),
    "unstable": ("adam", "lower_rate", "larger_batch"),
    "not_converge": ("optimizer", "higher_rate", "lower_rate"),
}


def alarms(record: RunRecord) -> list[str]:
    """Symptoms, in the order in which it checks for them."""
    checks = {
        "explode": explodes(record),
        "vanish": vanishes(record),
        "relu": dies(record),
        "unstable": oscillates(record),
        "not_converge": converges_slowly(record),
    }
    return [name for name, fired in checks.items() if fired]


def explodes(record: RunRecord) -> bool:
    """A loss or a gradient that is no number, or gradients of a layer beyond 70 times the next."""
    losses = [value for epoch in record.epochs for value in (epoch.train_loss, epoch.val_loss)]
    if any(math.isinf(value) for value in losses) or any(
        not math.isfinite(step.loss) for step in record.steps
    ):
        return True
    return any(ratio > BETA_3 for ratio in _neighbours(record))


def vanishes(record: RunRecord) -> bool:
    """The first layer's gradients under a thousandth of the last's, in an unconverged model."""
    for step in record.steps[-10:]:
        norms = [signs.grad_norm for signs in step.parts.values()]
        if len(norms) > 1 and norms[-1] > 0 and norms[0] / norms[-1] < BETA_1:
            return _best(record) < THETA
        if norms and max(norms) < BETA_2:
            return _best(record) < THETA
    return False


def dies(record: RunRecord) -> bool:
    """Most gradients of a layer are exactly zero, in an unconverged model."""
    shares = [
        signs.zero_share
        for step in record.steps[-10:]
        for signs in step.parts.values()
        if not math.isnan(signs.zero_share)
    ]
    return bool(shares) and max(shares) >= GAMMA and _best(record) < THETA


def oscillates(record: RunRecord) -> bool:
    """Training accuracy falls by more than 0.03 in a fifth of the epochs or more."""
    curve = measured(record.column("train_accuracy"))
    falls = [before - after > ZETA for before, after in itertools.pairwise(curve)]
    return bool(falls) and sum(falls) / len(falls) >= ETA


def converges_slowly(record: RunRecord) -> bool:
    """Accuracy below 0.6, and gaining less than 0.01 from one epoch to the next for a third."""
    curve = measured(record.column("train_accuracy"))
    if len(curve) < 2 or max(curve) >= THETA:
        return False
    gains = [after - before for before, after in itertools.pairwise(curve)]
    return sum(gain < DELTA for gain in gains) >= max(1, len(gains) // 3)


def _neighbours(record: RunRecord) -> list[float]:
    found = []
    for step in record.steps:
        norms = [signs.grad_norm for signs in step.parts.values() if signs.grad_norm > 0]
        found += [a / b for a, b in itertools.pairwise(norms)]
    return found


def _best(record: RunRecord) -> float:
    return max(measured(record.column("train_accuracy")), default=0.0)

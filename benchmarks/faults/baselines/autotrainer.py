"""AutoTrainer's five symptoms, on our records.

Source: Zhang, Zhai, Ma and Shen, "AUTOTRAINER: An Automatic DNN Training Problem Detection and
Repair System", ICSE 2021; conditions and limits are those of its repository (shiningrain/
AUTOTRAINER: ``utils/monitor.py``, ``utils/utils.py``, ``reproduce.py``). It looks after the first
epoch and every third one after it, remembers what it saw, and stops at its first finding.

Where ours differs: it has the gradients of each layer on one fixed batch, here a layer is a part of
the network and the batch that of the last measured step; weights that are no number show in the
loss. In doubt: ``THETA`` is 0.6 in the script that repeats the paper, 0.7 elsewhere in the
repository.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from espalier.run_record import EpochSigns, PartSigns, RunRecord, measured

EVERY = 3
JUDGED_FROM = 0.3
"""Share of the planned epochs before which accuracies are not judged."""
THETA = 0.6
BETA_1, BETA_2, BETA_3 = 1e-3, 1e-4, 70.0
GAMMA = 0.7
ZETA, ETA = 0.03, 0.2
DELTA = 0.01
HUGE_LOSS = 1e5

# Symptom -> rules of ours whose cause it could mean.
MEANS: dict[str, tuple[str, ...]] = {
    "explode": ("exploding_gradients", "learning_rate_too_high"),
    "vanish": ("vanishing_gradients", "saturated_units"),
    "relu": ("dead_units",),
    "unstable": ("learning_rate_noisy", "learning_rate_too_high", "batch_too_small"),
    "not_converge": ("learning_rate_too_low", "learning_rate_too_high"),
}


@dataclass
class Seen:
    """What its checks have seen so far; nothing of it is ever taken back."""

    vanish: bool = False
    explode: bool = False
    relu: bool = False
    unstable: bool = False
    unconverged: bool = False
    slow: bool = False


def alarms(record: RunRecord) -> list[str]:
    """The symptom of its first check that finds one; empty where none does."""
    planned = record.facts.epochs or len(record.epochs)
    seen = Seen()
    for count in range(1, len(record.epochs) + 1, EVERY):
        epochs = record.epochs[:count]
        if is_lost(record, epochs):
            return ["explode"]
        look_at_gradients(record, epochs[-1], seen)
        if count >= JUDGED_FROM * planned:
            look_at_curves(epochs, seen)
        if symptom := concluded(seen):
            return [symptom]
    return []


def concluded(seen: Seen) -> str:
    """Gradients count only in a model that has not converged, and jumps only in one that has."""
    if not seen.unconverged and not seen.slow:
        return "unstable" if seen.unstable else ""
    found = {"relu": seen.relu, "explode": seen.explode, "vanish": seen.vanish}
    return next((name for name, there in found.items() if there), "not_converge" * seen.slow)


def is_lost(record: RunRecord, epochs: Sequence[EpochSigns]) -> bool:
    """A loss or a gradient that is no number, or a validation loss beyond 100,000."""
    if any(math.isinf(e.train_loss) or math.isinf(e.val_loss) for e in epochs):
        return True
    until = epochs[-1].step or 0
    steps = [step for step in record.steps if step.step <= until]
    lost = any(math.isinf(step.loss) or math.isinf(step.grad_norm) for step in steps)
    return lost or epochs[-1].val_loss >= HUGE_LOSS


def look_at_gradients(record: RunRecord, epoch: EpochSigns, seen: Seen) -> None:
    """The first layer beside the last, and how many elements are exactly zero."""
    past = [step.parts for step in record.steps if step.parts and step.step <= (epoch.step or 0)]
    if not past:
        return
    norms = measured(part.grad_norm for part in past[-1].values())
    if norms and norms[-1] > 0:
        ratio = norms[0] / norms[-1]
        seen.vanish |= ratio < BETA_1 and norms[0] < BETA_2
        seen.explode |= ratio > BETA_3
    seen.relu |= zero_share(record, past[-1]) >= GAMMA


def zero_share(record: RunRecord, parts: Mapping[str, PartSigns]) -> float:
    """Share of all gradient elements that are exactly zero; 0 where nobody measured."""
    sizes = record.facts.stages[-1].parts if record.facts.stages else {}
    known = {name: p.zero_share for name, p in parts.items() if not math.isnan(p.zero_share)}
    total = sum(sizes.get(name, 1) for name in known)
    return sum(share * sizes.get(name, 1) for name, share in known.items()) / total if total else 0


def look_at_curves(epochs: Sequence[EpochSigns], seen: Seen) -> None:
    """Accuracies of training and validation so far."""
    train = measured(e.train_accuracy for e in epochs)
    val = measured(e.val_accuracy for e in epochs)
    if not train or not val:
        return
    seen.unstable |= jumps(train) >= ETA * len(train)
    seen.unconverged |= min(max(train), max(val)) < THETA
    seen.slow |= max(largest_gain(train), largest_gain(val)) < DELTA


def jumps(curve: Sequence[float]) -> int:
    """How many of its peaks lie at least 0.03 above the trough of the same number."""
    inner = list(zip(curve, curve[1:], curve[2:], strict=False))
    peaks = [here for before, here, after in inner if before <= here >= after]
    troughs = [here for before, here, after in inner if before >= here <= after]
    return sum(high - low >= ZETA for high, low in zip(peaks, troughs, strict=False))


def largest_gain(curve: Sequence[float]) -> float:
    """The most that an epoch gained over the one before."""
    return max((after - before for before, after in itertools.pairwise(curve)), default=0.0)

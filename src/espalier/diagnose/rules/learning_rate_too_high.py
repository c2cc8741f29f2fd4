"""The learning rate is so high that training diverges, or never gets away from chance.

What it looks at: whether the loss broke, rose again to that of guessing, never left it, or was
    thrown far above it and did not come back down; and, beside it, how far each step moves the
    weights, and the first ones most, how far above chance the loss shot, the gradients, and the
    rate against the usual ones of the optimizer.
Why it matters: weights that are thrown about at every step hold nothing; what they had is gone.
When it is wrong: wrong labels also keep a loss at chance, but without large steps; a network that
    explodes at any rate looks the same after a few steps. A catapult that recovers is no fault.
What to do: divide the peak rates by ten or more, keep a warmup, and look at the first epoch again.
Source: fault A1; Goodfellow, Bengio and Courville 2016, 11.4.1; about 1e-3 is a usual ratio of
    change to weight (Karpathy, CS231n). UMLAUT and AutoTrainer go by the rate or loss alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from espalier.diagnose.facts import (
    at_chance,
    finite,
    guess_accuracy,
    rate_edits,
    total_steps,
)
from espalier.diagnose.loss_curves import loss_broke, loss_curve
from espalier.diagnose.signals import (
    decay_movement,
    middle,
    movement,
    nats,
    part_names,
    rounded,
    running_median,
    stepped,
    usual_rates,
)
from espalier.findings import Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord, part_values

CODE = "RUN101"
_TARGET = 3e-3
_FIRST = 10


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    ratio: float = threshold(3e-2, "change / weight", "of a median step, above which it is large")
    overshoot: float = threshold(2.0, "x loss of guessing", "above which a step loss has shot up")
    growth: float = threshold(5.0, "times", "by which gradients grow over a run that diverges")
    chance: float = threshold(0.97, "x loss of guessing", "a loss from which nothing is learnt")
    hardly: float = threshold(0.8, "x loss of guessing", "a loss from which little is learnt")
    share: float = threshold(0.3, "of what guessing leaves", "named right at the end, then")
    times: float = threshold(8.0, "x usual rate", "from which brisk steps are too large")
    brisk: float = threshold(1e-2, "change / weight", "of a median step at such a rate")
    steps: float = threshold(30, "steps", "before which any run may be at chance")
    relapse: float = threshold(0.1, "of the loss of guessing", "it was better by, before it rose")
    thrown: float = threshold(3.0, "x loss of guessing", "of an epoch that was thrown far up")
    left: float = threshold(0.3, "of the loss of guessing", "left at the end after that")
    early: float = threshold(0.1, "change / weight", "of a first step that tears up what it finds")


def check(record: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding where training failed in a way that too large steps explain."""
    failed = _outcome(record, thresholds)
    outcome = failed or _thrown(record, thresholds) or _hardly(record, thresholds)
    if outcome is None:
        return None
    signs, known = _signs(record, thresholds, sure=failed is None)
    if not known:
        raise CannotJudge("needs update ratios, step losses, or the rate and the optimizer")
    if not signs:
        return None
    factor = _factor(record)
    return Finding(
        rule="",
        code="",
        severity="error" if failed else "warning",
        cause=f"The learning rate is too high: {outcome.name}, and {_in_words(signs[0])}",
        evidence=(outcome, *signs),
        confidence=min(0.95, 0.7 + 0.12 * (len(signs) - 1)),
        advice=(
            f"Multiply all peak learning rates by {factor:g}.",
            "Keep a short warmup, so that the first steps are not the largest ones.",
        ),
        prescription=rate_edits(record, factor, "steps so large that nothing is kept"),
        consequences=(
            "hidden_nan",
            "wrong_weights_kept",
            "label_noise",
            "under_capacity",
            "stopped_too_early",
            "learning_rate_noisy",
            "missing_warmup",
            "backbone_rate_erases",
            "weight_decay_too_high",
            "exploding_gradients",
            "vanishing_gradients",
            "clip_too_tight",
            "dead_units",
            "saturated_units",
            "collapsed_to_major_classes",
            "batch_norm_broken",
            "overtrained",
            "plateau",
            "underfitting",
            "not_learning",
        ),
    )


def _outcome(record: RunRecord, thresholds: Thresholds) -> Evidence | None:
    """How training failed; None where it did not.

    Raises:
        CannotJudge: No loss is on record.
    """
    losses = finite(step.loss for step in record.steps)
    # A validation loss above that of guessing is what overfitting looks like: it is not asked.
    curve = loss_curve(record, columns=("clean_loss", "train_loss"))
    if curve is None and not losses:
        raise CannotJudge("needs a loss of epochs or steps")
    broken = loss_broke(record)
    if broken is not None:
        return Evidence("the loss stopped being a number", "not finite", None, "nats", broken)
    if record.ended == "died" and isinstance(_overshoot(record, thresholds), Evidence):
        where = f"step {record.steps[-1].step}"
        return Evidence("the run died while the loss was far up", losses[-1], None, "nats", where)
    if curve is None or curve.chance is None:
        return None
    values, chance = finite(curve.values), curve.chance
    # A living run may be on the top of its cycle, and needs to stay there for longer.
    count = max(3 if record.ended == "running" else 2, len(values) // 4)
    end, best = middle(values[-count:]), min(values)
    limit = curve.floor + thresholds.chance * (chance - curve.floor)
    where = f"epoch {record.epochs[-1].epoch}"
    if len(values) < count or min(values[-count:]) < limit:
        return None
    if end - best > thresholds.relapse * chance:
        name = f"the {curve.name} had been {nats(best)} and rose to {nats(end)}"
        return Evidence(name, end, limit, "nats", where)
    steps = total_steps(record)
    if not at_chance(record) or (steps is not None and steps < thresholds.steps):
        return None
    name = f"the {curve.name} ends at {nats(end)}, that of guessing is {nats(chance)}"
    return Evidence(name, end, limit, "nats", where)


def _thrown(record: RunRecord, thresholds: Thresholds) -> Evidence | None:
    """An epoch far above chance behind which much is still left to gain; None without one."""
    curve = loss_curve(record, least=3, columns=("clean_loss",))
    if curve is None or curve.chance is None or record.ended == "running":
        return None
    values = finite(curve.values)
    highest, limit = max(values), thresholds.thrown * curve.chance
    left = (middle(values[-2:]) - curve.floor) / (curve.chance - curve.floor)
    if highest <= limit or left <= thresholds.left:
        return None
    epoch = record.epochs[curve.values.index(highest)].epoch
    name = f"the {curve.name} was thrown up to {nats(highest)} and ends at {nats(values[-1])}"
    return Evidence(name, highest, limit, "nats", f"epoch {epoch}")


def _hardly(record: RunRecord, thresholds: Thresholds) -> Evidence | None:
    """A run that ends not much better than guessing; None where it does not."""
    curve = loss_curve(record, least=3, columns=("clean_loss",))
    guess = guess_accuracy(record)
    if curve is None or curve.chance is None or guess is None or record.ended == "running":
        return None
    end = middle(finite(curve.values)[-2:])
    right = middle(finite(record.column("clean_accuracy"))[-2:])
    limit = curve.floor + thresholds.hardly * (curve.chance - curve.floor)
    if end < limit or not (right - guess) / max(1 - guess, 1e-9) < thresholds.share:
        return None
    name = f"the {curve.name} ends at {nats(end)}, not far below {nats(curve.chance)} of guessing"
    return Evidence(name, end, limit, "nats", f"epoch {record.epochs[-1].epoch}")


def _signs(record: RunRecord, thresholds: Thresholds, *, sure: bool) -> tuple[list[Evidence], bool]:
    """What speaks for too high a rate, and whether anything at all could be looked at.

    Args:
        record: The run.
        thresholds: What it compares with.
        sure: Ask only for signs that no other fault gives a run that learnt something.
    """
    looked = [
        _rate(record),
        _beyond_trial(record),
        _first_steps(record, thresholds),
        _brisk(record, thresholds),
    ]
    if not sure:
        looked = [_large_steps(record, thresholds), _overshoot(record, thresholds), *looked]
    signs = [sign for sign in looked if isinstance(sign, Evidence)]
    growth = _growth([step.grad_norm for step in record.steps])
    if signs and growth > thresholds.growth:
        signs.append(Evidence("growth of the gradient norm", growth, thresholds.growth, "times"))
    return signs, any(sign is not None for sign in looked)


def _large_steps(record: RunRecord, thresholds: Thresholds) -> Evidence | bool | None:
    """Evidence, or False where steps are not large, or None where nobody measured them."""
    # A head alone may have grown out of nothing, and moves far at any rate.
    stages = [stretch for stretch in stepped(record) if len(part_names(stretch.steps)) != 1]
    ratios = {stretch.where: movement(stretch.at_speed()) for stretch in stages}
    known = {where: ratio for where, ratio in ratios.items() if math.isfinite(ratio)}
    if not known:
        return None
    where = max(known, key=lambda name: known[name])
    ratio = known[where]
    name = "change of the weights in a median step"
    # Decay of rate x decay per step moves weights too: that is another rule's.
    decay = max(finite(decay_movement(record, stretch) for stretch in stages), default=0.0)
    if ratio <= thresholds.ratio or decay > ratio / 2:
        return False
    return Evidence(name, ratio, thresholds.ratio, "change / weight", where)


def _overshoot(record: RunRecord, thresholds: Thresholds) -> Evidence | bool | None:
    """The loss far above that of guessing and of its own beginning, for several steps in a row."""
    curve = loss_curve(record, columns=("train_loss",))
    losses = finite(step.loss for step in record.steps)
    chance = curve.chance if curve is not None else record.chance_loss
    if chance is None or len(losses) < 2:
        return None
    limit = thresholds.overshoot * max(chance, losses[0])
    # A run that dies of it leaves few steps behind, and the last one counts.
    highest = max(running_median(losses)) if len(losses) >= 5 else losses[-1]
    if highest <= limit:
        return False
    return Evidence("loss of several steps in a row", highest, limit, "nats")


def _first_steps(record: RunRecord, thresholds: Thresholds) -> Evidence | bool | None:
    """The first steps of a stage, if a median one changes weights by a good part of their size.

    The head is left out: it may begin at nothing.
    """
    found = []
    for stretch in stepped(record):
        names, steps = part_names(stretch.steps)[:-1], stretch.steps[:_FIRST]
        ratio = middle(
            middle(part_values(steps, name, lambda part: part.update_ratio)) for name in names
        )
        found.append((ratio, stretch.where))
    known = [(ratio, where) for ratio, where in found if math.isfinite(ratio)]
    if not known:
        return None
    ratio, where = max(known)
    if ratio <= thresholds.early:
        return False
    name = f"change of the weights in a median one of the first {_FIRST} steps"
    return Evidence(name, ratio, thresholds.early, "change / weight", where)


def _rate(record: RunRecord) -> Evidence | bool | None:
    usual = usual_rates(record)
    peaks = finite(stretch.peak for stretch in stepped(record))
    if usual is None or not peaks:
        return None
    if max(peaks) <= usual[2]:
        return False
    return Evidence("peak learning rate", max(peaks), usual[2], "rate")


def _brisk(record: RunRecord, thresholds: Thresholds) -> Evidence | bool | None:
    """A rate many times the usual one, if steps are as large as it makes them."""
    usual = usual_rates(record)
    if isinstance(_rate(record), Evidence):
        return False
    found = [(s.peak, movement(s.at_speed())) for s in stepped(record) if math.isfinite(s.peak)]
    if usual is None or not found:
        return None
    peak, ratio = max(found)
    limit = thresholds.times * usual[1]
    if not ratio > thresholds.brisk or peak <= limit:
        return False
    return Evidence("peak learning rate", peak, limit, "rate")


def _beyond_trial(record: RunRecord) -> Evidence | bool | None:
    limit = record.preflight.diverging_rate
    peaks = finite(stretch.peak for stretch in stepped(record))
    if limit is None or not peaks:
        return None
    if max(peaks) < limit:
        return False
    return Evidence("peak rate, where a trial diverged", max(peaks), limit, "rate")


def _peak(record: RunRecord) -> float:
    return max(finite(stretch.peak for stretch in stepped(record)), default=math.nan)


def _growth(norms: Sequence[float]) -> float:
    """Median gradient norm of the last quarter over that of the first five; NaN of too few."""
    known = [norm for norm in norms if not math.isnan(norm)]
    if len(known) < 10:
        return math.nan
    first, last = middle(known[:5]), middle(known[-max(5, len(known) // 4) :])
    return last / first if first > 0 else math.nan


def _factor(record: RunRecord) -> float:
    """What makes steps usual, by their ratio, a trial or a usual rate: the least of them."""
    peak = _peak(record)
    ratio = max(finite(movement(s.at_speed()) for s in stepped(record)), default=math.nan)
    usual, best = usual_rates(record), record.preflight.best_rate
    wanted = [
        _TARGET / ratio,
        0.5 * best / peak if best else math.nan,
        usual[1] / peak if usual else math.nan,
    ]
    known = finite(wanted) or [0.1]
    return rounded(min(0.3, max(1e-5, min(known))))


def _in_words(sign: Evidence) -> str:
    limit = "" if sign.threshold is None else f" (limit {sign.threshold:.2g})"
    return f"{sign.name} is {sign.value:.2g}{limit}"

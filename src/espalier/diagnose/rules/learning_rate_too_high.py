"""The learning rate is so high that training diverges, or never gets away from chance.

What it looks at: whether the loss broke or the run died of it, whether it rose again to that of
    guessing, never left it, or was thrown far above it and did not come back down; and, beside it,
    how far each step moves the weights, and the first ones most, how far above chance the loss
    shot, the gradients, and the rate against the usual ones of the optimizer at this batch.
Why it matters: weights that are thrown about at every step hold nothing; what they had is gone.
When it is wrong: wrong labels also keep a loss at chance, but without large steps; a network that
    explodes at any rate looks the same after a few steps. A catapult that recovers is no fault.
What to do: take the rate that a trial of rising rates found, else the usual one of the optimizer
    for this batch; where even that is too high, a third of what it was. Keep a warmup, and let
    the rate fall to the end: what ran at a wild rate was never tuned for the rest either.
Source: fault A1; Goodfellow, Bengio and Courville 2016, 11.4.1; about 1e-3 is a usual ratio of
    change to weight (Karpathy, CS231n). UMLAUT and AutoTrainer go by the rate or loss alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from espalier.diagnose.doses import (
    aimed_rate,
    batch_edits,
    falling_schedule,
    lower_to,
    two_digits,
    warmup,
)
from espalier.diagnose.facts import at_chance, finite, guess_accuracy, total_steps
from espalier.diagnose.loss_curves import loss_broke, loss_curve
from espalier.diagnose.signals import (
    decay_movement,
    middle,
    movement,
    nats,
    part_names,
    running_median,
    stepped,
    usual_rates,
)
from espalier.findings import Edit, Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord, part_values

CODE = "RUN101"
_TARGET = 3e-3
_FIRST = 10
# A rate that diverged comes down by so much at least; by how much at most, if nothing is usual.
_LESS, _LEAST = 0.3, 1e-3
# Images a step below which BatchNorm suffers, as in batch_too_small.
_TINY = 8
# What training loops say of a run that ended by it: "the loss is nan at step 2".
_NOT_FINITE = re.compile(r"\b(nan|[+-]?inf(inity)?|(not|non)[ -]?finite)\b", re.IGNORECASE)


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
    rate, why = _dose(record)
    return Finding(
        rule="",
        code="",
        severity="error" if failed else "warning",
        cause=f"The learning rate is too high: {outcome.name}, and {_in_words(signs[0])}",
        evidence=(outcome, *signs),
        confidence=min(0.95, 0.7 + 0.12 * (len(signs) - 1)),
        advice=(
            f"Set the peak learning rate to {rate:g}: {why}.",
            "Keep a short warmup, so that the first steps are not the largest ones.",
        ),
        prescription=(
            *_slower(record, rate, why),
            *warmup(record),
            *falling_schedule(record),
        ),
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
    died = _died(record)
    if died is not None:
        return died
    losses = finite(step.loss for step in record.steps)
    # A validation loss above that of guessing is what overfitting looks like: it is not asked.
    curve = loss_curve(record, columns=("clean_loss", "train_loss"))
    if curve is None and not losses:
        raise CannotJudge("needs a loss of epochs or steps")
    broken = loss_broke(record)
    if broken is not None:
        return Evidence("the loss stopped being a number", "not finite", None, "nats", broken)
    if losses and record.ended == "died" and isinstance(_overshoot(record, thresholds), Evidence):
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


def _died(record: RunRecord) -> Evidence | None:
    """Numbers that are none, of which the run died within a few steps; None where it did not.

    Where every step is looked at, the first broken one is the last: no second one confirms it.
    """
    if record.ended != "died":
        return None
    last = record.steps[-1] if record.steps else None
    name = "the run died of numbers that are not finite; its last loss"
    # NaN also stands for what was not measured, but only where nothing was.
    if last is not None and (math.isinf(last.loss) or math.isinf(last.grad_norm)):
        return Evidence(name, "not finite", None, "nats", f"step {last.step}")
    if not _NOT_FINITE.search(record.why_ended):
        return None
    return Evidence(name, "not finite", None, "nats", f"step {last.step}" if last else "")


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
    return Evidence("peak learning rate", max(peaks), usual[2])


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
    return Evidence("peak learning rate", peak, limit)


def _beyond_trial(record: RunRecord) -> Evidence | bool | None:
    limit = record.preflight.diverging_rate
    peaks = finite(stretch.peak for stretch in stepped(record))
    if limit is None or not peaks:
        return None
    if max(peaks) < limit:
        return False
    return Evidence("peak rate, where a trial diverged", max(peaks), limit)


def _peak(record: RunRecord) -> float:
    return max(finite(stretch.peak for stretch in stepped(record)), default=math.nan)


def _growth(norms: Sequence[float]) -> float:
    """Median gradient norm of the last quarter over that of the first five; NaN of too few."""
    known = [norm for norm in norms if not math.isnan(norm)]
    if len(known) < 10:
        return math.nan
    first, last = middle(known[:5]), middle(known[-max(5, len(known) // 4) :])
    return last / first if first > 0 else math.nan


def _dose(record: RunRecord) -> tuple[float, str]:
    """The rate to take, and why: the one aimed at, or less where the run was close to it."""
    peak, aim = _peak(record), aimed_rate(record)
    if aim is not None and aim.rate <= _LESS * peak:
        return aim.rate, aim.why
    ratio = max(finite(movement(s.at_speed()) for s in stepped(record)), default=math.nan)
    wanted = _TARGET / ratio if 0 < ratio < math.inf else 0.1
    factor = min(_LESS, max(wanted, _LEAST))
    return two_digits(factor * peak), f"{factor:.1g} times what it was"


def _slower(record: RunRecord, rate: float, why: str) -> tuple[Edit, ...]:
    """The rate; for a few images a step, which BatchNorm bears at no rate, the batch as well."""
    batch, known = record.facts.batch, aimed_rate(record) is not None
    if known and batch and batch < _TINY and record.facts.batch_norms:
        return batch_edits(record, "statistics of BatchNorm need more images")
    return lower_to(record, rate, _peak(record), why)


def _in_words(sign: Evidence) -> str:
    limit = "" if sign.threshold is None else f" (limit {sign.threshold:.2g})"
    return f"{sign.name} is {sign.value:.2g}{limit}"

"""Gradients explode: far larger than usual, again and again, or no numbers at all.

What it looks at: gradient norms before clipping against their running median; how many steps were
    beyond it or not finite, and whether the loss came back; the norm of the very first steps;
    whether the run died of a gradient that was no number.
Why it matters: one such step can undo an epoch, and gradients that are no numbers end the run.
When it is wrong: one bad batch makes one spike from which the loss recovers; a loss scaler skips
    its first steps by design; a sum over micro-batches has a larger norm.
What to do: clip at about the 90 % quantile of the norms, lower the rate, and check initialisation
    and normalisation of the network if the first steps are large already.
Source: fault B2; Pascanu, Mikolov and Bengio 2013 (arXiv:1211.5063); Tuning Playbook.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from espalier.diagnose.facts import finite, rate_edits
from espalier.diagnose.loss_curves import died_of, died_of_gradients, loss_broke
from espalier.diagnose.signals import middle, running_median
from espalier.findings import Edit, Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord, StepSigns

CODE = "RUN113"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    spike: float = threshold(100.0, "x running median", "of the gradient norm")
    spikes: float = threshold(0.03, "of the steps", "with a spike, to be more than bad batches")
    growth: float = threshold(1e3, "x first steps", "of the gradient norm, sustained")
    first: float = threshold(500.0, "norm", "of the first steps, from which the network explodes")
    loss: float = threshold(5.0, "x loss of guessing", "of the first steps, beside such norms")
    recovers: float = threshold(1.2, "x loss before", "after a spike, to have recovered")


def check(record: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding where large gradients are more than an accident."""
    steps = [step for step in record.steps if not step.skipped and not math.isnan(step.grad_norm)]
    if len(steps) < 10 and not died_of_gradients(record):
        raise CannotJudge("needs gradient norms of 10 steps")
    norms = _unscaled(steps)
    found = (
        _died(record)
        or _not_finite(record, steps)
        or _large_from_the_start(record, norms, steps, thresholds)
        or _growing(norms, steps, thresholds)
        or _spikes(norms, steps, thresholds)
    )
    if found is None:
        return None
    evidence, why, from_start = found
    # Where all gradients are too large their quantile is no measure: 1 is the usual clip.
    clip = 1.0 if from_start else _usual_norm(norms, thresholds)
    broken = loss_broke(record) is not None or not math.isfinite(norms[-1])
    clipped = bool(record.facts.clip_norm)
    return Finding(
        rule="",
        code="",
        severity="error" if broken or not clipped else "warning",
        cause=f"Gradients explode: {why}",
        evidence=(evidence,),
        confidence=0.75,
        advice=(
            f"Clip gradients to a norm of about {clip:g}, and divide the peak rate by three.",
            "Check initialisation and normalisation of the network: gradients are large before "
            "anything was learnt."
            if from_start
            else "If it is always the same images, look at them.",
        ),
        prescription=_edits(record, clip),
        consequences=(
            "hidden_nan",
            "learning_rate_noisy",
            "missing_warmup",
            "dead_units",
            "underfitting",
            "not_learning",
            *(("learning_rate_too_high",) if from_start else ()),
        ),
    )


Found = tuple[Evidence, str, bool] | None


def _unscaled(steps: Sequence[StepSigns]) -> list[float]:
    """Norms without the scale of the loss, where it is recorded and evidently still in them."""
    norms = [step.grad_norm for step in steps]
    scale = middle(step.scale for step in steps)
    within = scale > 100 and middle(norms) > 0.01 * scale
    return (
        [n / s.scale if s.scale > 0 else n for n, s in zip(norms, steps, strict=True)]
        if within
        else norms
    )


def _usual_norm(norms: Sequence[float], thresholds: Thresholds) -> float:
    """The 90 % quantile of the first half, without what had exploded by then; 1 of nothing."""
    first = finite(norms[: max(10, len(norms) // 2)])
    sound = sorted(norm for norm in first if norm <= thresholds.spike * middle(first[:5]))
    return float(f"{sound[int(0.9 * (len(sound) - 1))]:.1g}") if sound else 1.0


def _died(record: RunRecord) -> Found:
    """A gradient that was no number ended the run; a loss that was none has other rules."""
    if not died_of_gradients(record):
        return None
    last = [step.grad_norm for step in record.steps if not math.isnan(step.grad_norm)][-1:]
    known = "not measured" if not last else last[0] if math.isfinite(last[0]) else "not finite"
    where = f"step {record.steps[-1].step}" if record.steps else ""
    evidence = Evidence("last gradient norm on record", known, None, "", where)
    return evidence, f"the run died of one: {died_of(record)}", False


def _not_finite(record: RunRecord, steps: Sequence[StepSigns]) -> Found:
    """Infinite norms in steps that were taken: without a scaler that would have skipped them."""
    if record.facts.loss_scaled:
        return None
    broken = [step for step in steps if math.isinf(step.grad_norm)]
    if not broken or not finite(step.grad_norm for step in steps):
        return None
    where = f"step {broken[0].step}"
    evidence = Evidence("steps with a gradient that is not finite", len(broken), 0, "", where)
    return evidence, f"from {where} on they are not finite", False


def _large_from_the_start(
    record: RunRecord,
    norms: Sequence[float],
    steps: Sequence[StepSigns],
    thresholds: Thresholds,
) -> Found:
    first, loss = middle(norms[:3]), middle(step.loss for step in steps[:3])
    high = loss > thresholds.loss * (record.chance_loss or math.log(1000))
    if steps[0].step > 1 or not (first > thresholds.first and high):
        return None
    where = f"steps 1 to {steps[2].step}"
    evidence = Evidence("gradient norm of the first steps", first, thresholds.first, "", where)
    return evidence, f"their norm is {first:.1g} before anything was learnt", True


def _growing(norms: Sequence[float], steps: Sequence[StepSigns], thresholds: Thresholds) -> Found:
    first, last = middle(norms[:5]), middle(norms[-max(5, len(norms) // 10) :])
    if not (first > 0 and last > thresholds.growth * first):
        return None
    where = f"step {steps[-1].step}"
    evidence = Evidence("growth of their norm", last / first, thresholds.growth, "times", where)
    return evidence, f"their norm has grown {last / first:.1g} times", False


def _spikes(norms: Sequence[float], steps: Sequence[StepSigns], thresholds: Thresholds) -> Found:
    # Where a run has converged gradients are tiny, and any batch that is not is no explosion.
    least = 10 * middle(norms[:5])
    usual = [max(one, least / thresholds.spike) for one in running_median(norms, 21)]
    spikes = [i for i, norm in enumerate(norms) if norm > thresholds.spike * usual[i] > 0]
    lasting = [i for i in spikes if not _recovers(steps, i, thresholds)]
    many = len(spikes) >= max(3, thresholds.spikes * len(norms))
    if not lasting and not many:
        return None
    worst = max(spikes, key=lambda i: norms[i] / usual[i])
    where = f"step {steps[worst].step}"
    times = norms[worst] / usual[worst]
    evidence = Evidence("largest spike", times, thresholds.spike, "x running median", where)
    return evidence, f"{len(spikes)} steps, such as {where}, are far beyond the usual", False


def _recovers(steps: Sequence[StepSigns], i: int, thresholds: Thresholds) -> bool:
    before = middle(step.loss for step in steps[max(0, i - 5) : i])
    after = middle(step.loss for step in steps[i + 1 : i + 6])
    return not after > thresholds.recovers * before


def _edits(record: RunRecord, clip: float) -> tuple[Edit, ...]:
    if not record.facts.stages:
        return ()
    edits = rate_edits(record, 0.3, "gradients explode at this rate")
    set_clip = record.facts.clip_norm
    if set_clip and set_clip <= clip:
        return edits
    return (Edit("optimizer.clip_norm", "set", clip, "gradients explode"), *edits)

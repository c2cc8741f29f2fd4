"""The loss is not a number any more: the log hides it, or the run died of it.

What it looks at: why the run died; losses of exactly 0 where the gradient norm is no number, or
    validation fell to guessing; losses and norms that are measured for a while and then never
    again.
Why it matters: weights that have met one such number are lost; a log that leaves out NaN shows a
    perfect loss over them, and a run that stops at it leaves nothing to look at but its last words.
When it is wrong: steps that a loss scaler skipped are normal and do not count; a loss of 0 with a
    measured gradient is a loss of 0; a run that died of anything else says nothing of its loss.
What to do: log the raw loss; find the first step at which it stops being a number. Where another
    finding says why (a rate, half precision, pixels), treat that.
Source: fault B8; Hugging Face's `logging_nan_inf_filter` is on by default and logs
    `loss 0.0` beside `grad_norm nan`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from espalier.diagnose.facts import finite, guess_accuracy
from espalier.diagnose.loss_curves import died_of, loss_broke
from espalier.findings import Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import EpochSigns, RunRecord, StepSigns

CODE = "RUN016"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    before: float = threshold(5, "steps", "with a measured loss before it vanished, at least")
    vanished: float = threshold(3, "steps", "without any number at the end, at least")
    errors: float = threshold(3, "standard errors", "above guessing, to count as knowing")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """An error where the loss was lost, and the log shows zeros, nothing, or only the end."""
    died = died_of(subject)
    if died is not None:
        return _died(subject, died)
    steps = [step for step in subject.steps if not step.skipped]
    losses = [loss for loss in subject.column("train_loss") if not math.isnan(loss)]
    if not any(math.isfinite(step.loss) for step in steps) and not losses:
        raise CannotJudge("needs the training loss")
    return (
        _zero_steps(steps)
        or _vanished(steps, thresholds)
        or _zero_epochs(subject, thresholds)
        or _open(subject)
    )


def _died(subject: RunRecord, why: str) -> Finding:
    finite_steps = sum(math.isfinite(step.loss) for step in subject.steps)
    return _finding(
        f"the run died of a number that is none: {why}",
        Evidence("measured steps with a finite loss before it", finite_steps, None, "steps"),
        0.95,
    )


def _open(subject: RunRecord) -> Finding | None:
    """A log that hides nothing: from somewhere on its losses are no numbers."""
    where = loss_broke(subject)
    if where is None:
        return None
    lost = Evidence("training loss", "not finite", None, "nats", where)
    return _finding(f"from {where} on the loss is no number", lost, 0.95)


def _zero_steps(steps: Sequence[StepSigns]) -> Finding | None:
    zeros = [s for s in steps if s.loss == 0.0 and not math.isfinite(s.grad_norm)]
    usual = [s for s in steps if s.loss > 0 and math.isfinite(s.grad_norm)]
    # Infinite stands for a norm that was no number, NaN for one that nobody measured.
    if not zeros or not (usual or any(math.isinf(step.grad_norm) for step in zeros)):
        return None
    return _finding(
        f"the loss is logged as 0 at step {zeros[0].step:,}, where the gradient norm is no number",
        Evidence("steps with loss 0 and no gradient norm", len(zeros), 0, "", "steps"),
        0.95,
    )


def _vanished(steps: Sequence[StepSigns], thresholds: Thresholds) -> Finding | None:
    known = [i for i, step in enumerate(steps) if _has_numbers(step)]
    if len(known) < thresholds.before:
        return None
    last = steps[known[-1]]
    rest = steps[known[-1] + 1 :]
    gone = [step for step in rest if math.isnan(step.loss) and not math.isfinite(step.grad_norm)]
    if len(gone) < max(thresholds.vanished, len(rest)) or gone[0].stage != last.stage:
        return None
    return _finding(
        f"after step {last.step:,} neither the loss nor the gradient norm is a number",
        Evidence("steps without any number", len(gone), thresholds.vanished, "", "at the end"),
        0.9,
    )


def _has_numbers(step: StepSigns) -> bool:
    return math.isfinite(step.loss) and math.isfinite(step.grad_norm)


def _zero_epochs(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """Epochs whose loss is exactly 0 after one that was not, and where all else says lost."""
    earlier: list[EpochSigns] = []
    for epoch in subject.epochs:
        if epoch.train_loss == 0.0 and earlier and _lost(subject, epoch, earlier, thresholds):
            return _finding(
                f"the training loss of epoch {epoch.epoch} is logged as exactly 0, and what else "
                "was measured says that the model is lost",
                Evidence("training loss", 0.0, None, "nats", f"epoch {epoch.epoch}"),
                0.9,
            )
        if epoch.train_loss > 0:
            earlier.append(epoch)
    return None


def _lost(
    subject: RunRecord, epoch: EpochSigns, earlier: list[EpochSigns], thresholds: Thresholds
) -> bool:
    for name in ("val_loss", "mean_grad_norm"):
        measured = finite(getattr(one, name) for one in earlier)
        if measured and not math.isfinite(getattr(epoch, name)):
            return True
    guess = guess_accuracy(subject)
    if guess is None or math.isnan(epoch.val_accuracy):
        return False
    return epoch.val_accuracy <= guess + thresholds.errors * subject.accuracy_noise(guess)


def _finding(cause: str, evidence: Evidence, confidence: float) -> Finding:
    return Finding(
        rule="",
        code="",
        severity="error",
        cause=cause,
        evidence=(evidence,),
        confidence=confidence,
        advice=(
            "Log the raw loss (Hugging Face: logging_nan_inf_filter=False) and stop at the first "
            "that is no number.",
            "Then look at that step: the images of its batch, the learning rate, and half "
            "precision.",
        ),
        consequences=("not_learning", "plateau", "weights_do_not_move", "no_gradient"),
    )

"""The network does not even know its training images.

What it looks at: training and validation images that are told apart equally badly at the end of a
    run that no longer gains, in evaluation mode and without augmentation; and a run that is over
    and has hardly left guessing behind, by accuracy and by loss.
Why it matters: more data or more regularisation cannot help here; more to learn with can.
When it is wrong: a hard task ends the same way when all is done that can be. So it is a warning
    only where a linear head on the same backbone does better, or next to nothing was learned.
What to do: unfreeze more, a larger network, more pixels, more epochs, in this order.
Source: fault F2; playbook of tuning (Godbole et al., 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.diagnose.facts import finite
from espalier.diagnose.fit import Fit, fit_of, settled
from espalier.diagnose.levers import more_to_learn_with
from espalier.diagnose.loss_curves import loss_curve
from espalier.findings import Evidence, Finding, percent
from espalier.rules import threshold
from espalier.run_record import RunRecord

CODE = "RUN220"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    clean: float = threshold(0.8, "accuracy on training images", "below which they are not known")
    gap: float = threshold(0.05, "accuracy", "between training and validation, at most")
    nothing: float = threshold(0.1, "of what guessing leaves to learn", "that is next to nothing")
    epochs: float = threshold(3, "epochs", "from which next to nothing is no beginning")
    baseline: float = threshold(0.03, "macro-F1", "by which a linear head alone does better")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """Information, or a warning where better is known to be possible."""
    fit = fit_of(subject)
    if fit.at_chance():
        return None
    known = fit.clean >= thresholds.clean or fit.gap >= max(thresholds.gap, 2 * fit.noise)
    nothing = _next_to_nothing(subject, fit, thresholds)
    if (known or fit.rising) and not nothing:
        return None
    behind = _behind_baseline(subject)
    better = behind >= max(thresholds.baseline, 3 * subject.accuracy_noise(fit.val))
    return Finding(
        rule="",
        code="",
        severity="warning" if better or nothing else "info",
        cause=f"only {percent(fit.clean)} of the training images are told apart, and "
        f"{percent(fit.val)} of the validation images" + _beside(subject, better),
        evidence=_evidence(subject, fit, thresholds),
        confidence=0.7 if better else 0.5,
        advice=(
            "Let more layers learn, at a tenth of the head's rate; then a larger network, more "
            "pixels, more epochs.",
            "Look at the images that are confused: if a person cannot tell them apart either, "
            "this is what can be had.",
        ),
        prescription=more_to_learn_with(subject),
        consequences=("plateau",),
    )


def _next_to_nothing(subject: RunRecord, fit: Fit, thresholds: Thresholds) -> bool:
    """Whether a run that is over got away from guessing by so little that it is no result."""
    if fit.learned >= thresholds.nothing or subject.ended == "running":
        return False
    curve = loss_curve(subject, columns=("clean_loss",))
    if curve is None or not curve.chance:
        return not fit.rising
    # Of many classes a small accuracy can be much: there the loss tells.
    left = (finite(curve.values)[-1] - curve.floor) / (curve.chance - curve.floor)
    return left > 1 - thresholds.nothing and len(subject.epochs) >= thresholds.epochs


def _behind_baseline(subject: RunRecord) -> float:
    """By how much a linear head on the frozen backbone beats the run; 0 where unknown."""
    score = settled(subject, "val_macro_f1")
    baseline = subject.facts.baseline_macro_f1
    return 0.0 if score is None or baseline is None else baseline - score


def _beside(subject: RunRecord, better: bool) -> str:
    if not better:
        return ""
    return f"; a linear head alone reaches a macro-F1 of {subject.facts.baseline_macro_f1:.2f}"


def _evidence(subject: RunRecord, fit: Fit, thresholds: Thresholds) -> tuple[Evidence, ...]:
    baseline = subject.facts.baseline_macro_f1
    return (
        Evidence("accuracy on training images", fit.clean, thresholds.clean, "share"),
        Evidence("accuracy on validation images", fit.val, None, "share"),
        Evidence("difference", fit.gap, thresholds.gap, "share"),
        *([Evidence("macro-F1 of a linear head", baseline)] if baseline is not None else []),
    )

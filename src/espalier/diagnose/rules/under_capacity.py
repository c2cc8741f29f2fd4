"""The network is too small for what it should tell apart.

What it looks at: runs that end with training and validation images told apart equally badly; of
    these, whether the network failed to fit a single batch of 16 images, or is tiny.
Why it matters: no rate, schedule or regulariser helps a network that cannot even memorise.
When it is wrong: a hard task ends the same way, which is why the trial on one batch decides; a
    rate far too low fails that trial too, so a run at chance counts only where its weights move;
    of many classes few are named right at first, so a loss that falls is a beginning.
What to do: a larger network, more of it trainable, or more pixels.
Source: fault C13; MacKay 2003, ch. 40 (two bits per parameter at most); Karpathy, "A Recipe
    for Training Neural Networks", 2019; DeepChecker.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.diagnose.facts import finite
from espalier.diagnose.fit import Fit, fit_of
from espalier.diagnose.loss_curves import loss_curve
from espalier.diagnose.signals import movement
from espalier.findings import Edit, Evidence, Finding, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN208"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    clean: float = threshold(0.9, "clean accuracy", "that a network of enough size exceeds")
    gap: float = threshold(0.05, "accuracy", "between training and validation, at most")
    overfit: float = threshold(0.95, "accuracy", "on one batch of 16 after 60 steps, at least")
    least_update: float = threshold(1e-4, "update / weight", "of a run at chance, at least")
    most_update: float = threshold(3e-2, "update / weight", "of a run at chance, at most")
    half: float = threshold(0.5, "of what guessing leaves to learn", "of a run that still gains")
    fallen: float = threshold(0.05, "of the loss of guessing", "below it, that is a beginning")
    tiny: float = threshold(20_000, "parameters", "below which a network is tiny")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where the network can do no better."""
    fit = fit_of(subject)
    fitted, size = subject.preflight.overfit_accuracy, subject.facts.parameters
    too_small = fit.clean < thresholds.clean and fit.gap < max(thresholds.gap, 2 * fit.noise)
    if not too_small:
        return None
    if fit.at_chance() and not _moves(subject, thresholds):
        return None
    if fitted is not None:
        if fitted >= thresholds.overfit:
            return None
        cause = f"the network cannot fit one batch of 16 images ({percent(fitted)} after 60 steps)"
        evidence = Evidence("accuracy on one batch", fitted, thresholds.overfit, "share")
        return _finding(fit, cause, evidence, 0.85)
    if size is None:
        raise CannotJudge("needs the trial on one batch of images, or the number of parameters")
    if size >= thresholds.tiny:
        return None
    stuck = fit.at_chance() and not _has_begun(subject, thresholds)
    if fit.rising and not (stuck or _is_hopeless(subject, fit, size, thresholds)):
        return None
    cause = f"the network has only {size:,} parameters, and fits {percent(fit.clean)} of training"
    evidence = Evidence("parameters", float(size), thresholds.tiny)
    return _finding(fit, cause, evidence, 0.6)


def _is_hopeless(subject: RunRecord, fit: Fit, size: int, thresholds: Thresholds) -> bool:
    """Whether a network that still gains has fewer parameters than its labels have bits."""
    counts = subject.facts.train_counts or ()
    bits = sum(counts) * math.log2(max(2, len(counts)))
    return size < bits and fit.learned < thresholds.half


def _has_begun(subject: RunRecord, thresholds: Thresholds) -> bool:
    """Whether the loss has left that of guessing, whatever accuracy says so far."""
    curve = loss_curve(subject, columns=("clean_loss",))
    if curve is None or not curve.chance:
        return False
    return finite(curve.values)[-1] < (1 - thresholds.fallen) * curve.chance


def _moves(subject: RunRecord, thresholds: Thresholds) -> bool:
    """Whether the weights are known to move as they should; at chance this is asked first."""
    update = movement(subject.steps)
    return thresholds.least_update <= update <= thresholds.most_update


def _finding(fit: Fit, cause: str, evidence: Evidence, confidence: float) -> Finding:
    because = "a larger network can fit more"
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=cause,
        evidence=(
            evidence,
            Evidence("accuracy on training images", fit.clean, None, "share"),
            Evidence("accuracy on validation images", fit.val, None, "share"),
        ),
        confidence=confidence,
        advice=(
            "Take a larger network, best a pretrained one, let more of it learn, or give it more "
            "pixels.",
            "In a network of your own, look for layers without an activation between them.",
        ),
        prescription=(
            Edit("model.name", "set", "auto", because, safe=False),
            Edit("model.weights", "set", "pretrained", because, safe=False),
        ),
        consequences=("underfitting", "plateau", "stopped_too_early", "not_learning"),
    )

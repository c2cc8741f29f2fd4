"""The units are driven into the flat ends of their activation.

What it looks at: networks that only have sigmoids or tanh: whether gradients of the first part fell
    against those of the last part since training began, while the loss is still high.
Why it matters: at its flat ends an activation passes hardly any gradient, so all parts below
    stop learning and only the last one goes on.
When it is wrong: gates (in squeeze-and-excitation) are sigmoids by right, which is why a network
    with any other activation is passed over; a network that has converged has small gradients in
    all parts, which is why they are compared.
What to do: normalised inputs and BatchNorm, smaller first weights, or ReLU.
Source: fault C2; DeepDiagnosis (Wardat et al., ICSE 2022); Glorot and Bengio, AISTATS 2010.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from espalier.diagnose.facts import finite, rate_edits
from espalier.diagnose.fit import settled
from espalier.findings import Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord, StepSigns

CODE = "RUN202"
_SATURATING = ("sigmoid", "tanh", "softsign", "hardsigmoid", "hardtanh")
_MEASUREMENTS = 5


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    fall: float = threshold(0.01, "of the ratio of gradients at the start", "left of it, at most")
    learned: float = threshold(0.9, "clean accuracy", "from which the network has converged")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where gradients vanish on the way through saturating activations."""
    kinds = subject.require_fact("activations")
    hidden = [kind for kind in kinds if "softmax" not in kind.lower()]
    if not hidden or not all(_saturates(kind) for kind in hidden):
        return None
    ratios = [ratio for step in subject.steps for ratio in _ratio(step)]
    if len(ratios) < 2 * _MEASUREMENTS:
        raise CannotJudge(f"needs gradient norms per part of {2 * _MEASUREMENTS} steps")
    accuracy = settled(subject, "clean_accuracy")
    accuracy = settled(subject, "train_accuracy") if accuracy is None else accuracy
    if accuracy is None:
        raise CannotJudge("needs accuracy on training images")
    few = max(_MEASUREMENTS, len(ratios) // 10)
    start, end = statistics.median(ratios[:few]), statistics.median(ratios[-few:])
    if accuracy >= thresholds.learned or start <= 0 or end > thresholds.fall * start:
        return None
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=f"the {hidden[0]} units are saturated: gradients of the first part fell from "
        f"{start:.2g} to {end:.2g} of those of the last",
        evidence=(
            Evidence("first part's gradient / last part's, at the start", start),
            Evidence(
                "first part's gradient / last part's, at the end", end, thresholds.fall * start
            ),
        ),
        confidence=0.6,
        advice=(
            "Normalise the inputs, put BatchNorm before the activation, or use ReLU.",
            "Start with smaller weights and a lower rate, so that units stay off the flat ends.",
        ),
        prescription=rate_edits(subject, 0.3, "units saturate at this rate"),
        consequences=(
            "vanishing_gradients",
            "no_gradient",
            "weights_do_not_move",
            "under_capacity",
            "underfitting",
            "plateau",
            "not_learning",
        ),
    )


def _saturates(kind: str) -> bool:
    return any(word in kind.lower().replace("_", "") for word in _SATURATING)


def _ratio(step: StepSigns) -> list[float]:
    """Gradient of the first part over that of the last; nothing where either is unknown."""
    norms = finite(part.grad_norm for part in step.parts.values())
    return [norms[0] / norms[-1]] if len(norms) > 1 and norms[-1] > 0 else []

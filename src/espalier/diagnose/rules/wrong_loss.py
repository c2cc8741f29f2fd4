"""The loss is none for choosing one class of several.

What it looks at: the name of the loss, the number of outputs, and how the run fares with it.
Why it matters: a squared error hardly punishes a sure mistake, and a binary loss without sigmoid
    is not defined for most outputs.
When it is wrong: binary cross-entropy on all classes, and even squared error, can be made to
    work; with a good score the one is passed over, the other only mentioned.
What to do: cross-entropy on logits.
Source: fault C12; AutoTrainer's improper loss; squared error that works: Hui and Belkin 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.diagnose.facts import at_chance, best_accuracy, finite, loss_kind
from espalier.findings import Edit, Evidence, Finding, Severity
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN009"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    good: float = threshold(0.9, "accuracy", "from which an unusual loss evidently works")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where the loss is one of regression, or a binary one that does not work."""
    name = str(subject.require_fact("loss"))
    kind = loss_kind(name)
    if kind == "other":
        raise CannotJudge(f"does not know the loss {name}")
    if kind == "cross-entropy":
        return None
    if kind == "regression":
        accuracy = best_accuracy(subject)
        works = accuracy is not None and accuracy >= thresholds.good
        return _finding(
            f"the loss is {name}, which measures distances and not the choice of a class",
            name,
            "info" if works else "warning",
            0.85,
        )
    trouble = _trouble(subject)
    if not trouble:
        return None
    wants = "log-probabilities" if kind == "likelihood" else "a sigmoid for each class"
    return _finding(f"the loss is {name}, which wants {wants}; {trouble}", name, "warning", 0.7)


def _trouble(subject: RunRecord) -> str:
    """What shows that the outputs do not suit the loss; empty where nothing does."""
    losses = finite(subject.column("train_loss")) + finite(step.loss for step in subject.steps)
    if losses and min(losses) < -1e-6:
        return f"and it falls to {min(losses):.3g}, which it cannot with outputs of that kind"
    chance = at_chance(subject)
    if chance is None and not losses:
        raise CannotJudge("needs a loss or an accuracy to tell whether the loss works")
    return "and no epoch beats guessing" if chance else ""


def _finding(cause: str, name: str, severity: Severity, confidence: float) -> Finding:
    return Finding(
        rule="",
        code="",
        severity=severity,
        cause=cause,
        evidence=(Evidence("loss", name),),
        confidence=confidence,
        advice=("Use cross-entropy on logits, with class indices as labels.",),
        prescription=(
            Edit("loss.name", "set", "cross-entropy", "the loss for one class of several"),
        ),
        consequences=()
        if severity == "info"
        else (
            "bad_first_loss",
            "loss_rises_by_design",
            "learning_rate_too_low",
            "collapsed_to_major_classes",
            "underfitting",
            "plateau",
            "not_learning",
        ),
    )

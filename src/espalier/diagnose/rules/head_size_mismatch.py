"""The model has more or fewer outputs than there are classes.

What it looks at: the number of outputs against the label mapping.
Why it matters: with too many, probability leaks to classes that no image has; with too few, some
    class can never be named.
When it is wrong: two classes are told apart by one output with a binary loss; that stays silent.
What to do: give the head as many outputs as there are classes.
Source: fault C10; timm trains a 1000-way head on six folders without a word.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.findings import Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN007"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    binary: float = threshold(2, "classes", "that a single output can tell apart")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """An error where outputs are missing, a warning where there are too many."""
    facts = subject.facts
    outputs = int(subject.require_fact("head_classes"))
    known = next((k for k in (facts.classes, facts.train_counts, facts.val_counts) if k), None)
    if known is None:
        raise CannotJudge("needs the classes")
    classes = len(known)
    if outputs == classes or (outputs == 1 and classes <= thresholds.binary):
        return None
    few = outputs < classes
    return Finding(
        rule="",
        code="",
        severity="error" if few else "warning",
        cause=f"the model has {outputs:,} outputs for {classes:,} classes"
        + ("" if few else f", so {outputs - classes:,} of them are never right"),
        evidence=(Evidence("outputs", outputs, classes, "classes"),),
        confidence=0.98,
        advice=(f"Give the head {classes:,} outputs (num_classes={classes}).",),
        consequences=("bad_first_loss", "not_learning", "underfitting", "class_order_differs"),
    )

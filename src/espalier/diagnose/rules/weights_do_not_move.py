"""Weights stay exactly as they were, although gradients arrive and the rate is not zero.

What it looks at: in steps with a rate above zero and a gradient, whether any weight of a part
    changed.
Why it matters: what does not change does not learn; the run is spent on evaluation.
When it is wrong: steps that a loss scaler skipped, and parts whose rate is zero on purpose, are not
    counted.
What to do: build the optimizer after the last change to the model, from ``model.parameters()`` of
    the very model that is trained.
Source: fault G1 and A8; TrainCheck (OSDI 2025).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from espalier.diagnose.signals import Stretch, part_names, stepped
from espalier.findings import Evidence, Finding, listed
from espalier.rules import CannotJudge, threshold
from espalier.run_record import PartSigns, RunRecord, StepSigns

CODE = "RUN118"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    steps: float = threshold(3, "steps", "with gradient and rate, in which nothing changed")


def check(record: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding for the first stage with parts that stand still."""
    judged = False
    for stretch in stepped(record):
        known = {
            name: signs
            for name in part_names(stretch.steps)
            if (signs := _signs(stretch, name, thresholds)) and not _rests(stretch, name)
        }
        judged = judged or bool(known)
        still = [name for name, signs in known.items() if not any(map(_moves, signs))]
        if still:
            return _finding(stretch, list(known), still, len(known[still[0]]))
    if not judged:
        raise CannotJudge("needs to know in steps with a gradient whether weights changed")
    return None


def _signs(stretch: Stretch, name: str, thresholds: Thresholds) -> list[PartSigns]:
    """Signs of a part in steps in which it should have moved; none of too few."""
    known = [
        step.parts[name]
        for step in stretch.steps
        if name in step.parts and _should_move(step, step.parts[name])
    ]
    return known if len(known) >= thresholds.steps else []


def _should_move(step: StepSigns, part: PartSigns) -> bool:
    measured = part.changed is not None or not math.isnan(part.update_ratio)
    return measured and part.grad_norm > 0 and step.learning_rate > 0 and not step.skipped


def _rests(stretch: Stretch, name: str) -> bool:
    """Whether a part below the head has no rate by plan."""
    facts = stretch.facts
    below = name not in part_names(stretch.steps)[-1:]
    return facts is not None and facts.backbone_learning_rate == 0 and below


def _moves(part: PartSigns) -> bool:
    return part.changed if part.changed is not None else part.update_ratio > 0


def _finding(stretch: Stretch, known: Sequence[str], still: Sequence[str], steps: int) -> Finding:
    all_of = len(still) == len(known)
    return Finding(
        rule="",
        code="",
        severity="error" if all_of else "warning",
        cause=f"{'No weight changes' if all_of else f'Weights of {listed(still)} never change'}, "
        f"although gradients arrive and the rate is not zero",
        evidence=(
            Evidence("steps without any change", steps, 0, "", stretch.where),
            Evidence("parts that stand still", len(still), 0, f"of {len(known)}"),
        ),
        confidence=0.95,
        advice=(
            "Build the optimizer after the last change to the model, from the parameters of the "
            "model that is trained.",
            "Check that optimizer.step() is called, and not skipped by a loss scaler.",
        ),
        consequences=(
            "gradients_not_cleared",
            "learning_rate_too_low",
            "frozen_by_mistake",
            "under_capacity",
            "underfitting",
            "plateau",
            "not_learning",
        ),
    )

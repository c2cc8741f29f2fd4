"""No gradient reaches layers that are meant to learn.

What it looks at: parts whose parameters require gradients, and whether any gradient other than zero
    ever arrived there.
Why it matters: a layer without gradient never changes, whatever the rate.
When it is wrong: frozen layers have none on purpose and are not looked at; in its first steps a
    head that starts at zero lets nothing through; in fp16 gradients can round to zero.
What to do: look for ``detach``, ``no_grad``, ``argmax`` or a copy of the model above these layers.
Source: fault B7; TrainCheck (OSDI 2025).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from espalier.diagnose.signals import Stretch, part_names, stepped
from espalier.findings import Evidence, Finding, listed
from espalier.rules import CannotJudge, threshold
from espalier.run_record import PartSigns, RunRecord, StepSigns

CODE = "RUN117"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    start: float = threshold(3, "steps", "of a stage, in which a zero head lets nothing through")
    steps: float = threshold(3, "steps", "without any gradient, at least")


def check(record: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding for the first stage that has such parts."""
    judged = False
    for stretch in stepped(record):
        steps = stretch.steps[int(thresholds.start) :]
        names = [name for name in part_names(stretch.steps) if _learns(stretch, name)]
        known = {name: signs for name in names if (signs := _signs(steps, name, thresholds))}
        judged = judged or bool(known)
        without = [name for name, signs in known.items() if not any(map(_arrives, signs))]
        if without:
            return _finding(stretch, known, without)
    if not judged:
        raise CannotJudge("needs gradients of parts in steps beyond the third")
    return None


def _learns(stretch: Stretch, name: str) -> bool:
    """Whether a part is meant to have gradients, as far as anybody said."""
    trainable = stretch.facts.trainable if stretch.facts is not None else {}
    return trainable.get(name, 1) > 0


def _signs(steps: Sequence[StepSigns], name: str, thresholds: Thresholds) -> list[PartSigns]:
    """Signs of a part in the steps that say something of its gradient; none of too few."""
    parts = [step.parts[name] for step in steps if name in step.parts and not step.skipped]
    known = [p for p in parts if not math.isnan(p.grad_norm) or p.has_grad is not None]
    return known if len(known) >= thresholds.steps else []


def _arrives(part: PartSigns) -> bool:
    """A part of which some parameters have gradients has a norm, so the norm decides."""
    if not math.isnan(part.grad_norm):
        return part.grad_norm > 0
    return part.has_grad is not False


def _finding(
    stretch: Stretch, known: Mapping[str, Sequence[PartSigns]], without: Sequence[str]
) -> Finding:
    reached = [name for name in known if name not in without]
    below = f"the lowest part that has one is {reached[0]}" if reached else "no part has one"
    steps = len(known[without[0]])
    return Finding(
        rule="",
        code="",
        severity="error",
        cause=f"No gradient reaches {listed(without)}; {below}",
        evidence=(
            Evidence(f"steps without a gradient in {without[-1]}", steps, 0, "", stretch.where),
            Evidence("parts without a gradient", len(without), 0, f"of {len(known)}"),
        ),
        confidence=0.95,
        advice=(
            "Look between the last layer without a gradient and the first one with it for "
            "detach(), torch.no_grad(), argmax or a second copy of the model.",
            "If these layers are not meant to learn, freeze them (requires_grad_(False)).",
        ),
        consequences=(
            "weights_do_not_move",
            "vanishing_gradients",
            "learning_rate_too_low",
            "frozen_by_mistake",
            "under_capacity",
            "underfitting",
            "not_learning",
        ),
    )

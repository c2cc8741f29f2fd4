"""Gradients get lost on their way down: the first layers learn next to nothing.

What it looks at: the gradient norm of the first trainable part per parameter against that of the
    last, at the start and over the whole run, and against that of the part below the last; how
    far the first part moves; and whether the loss falls.
Why it matters: layers without gradient stay as they were drawn, and the rest sees noise.
When it is wrong: a frozen part has no gradient on purpose, a tiny rate of its own moves it
    little, and a head that starts at nothing lets as little through to all parts alike, for as
    long as the rate is too small to let it grow.
What to do: use normalisation, residual connections and ReLU-like activations; or start from
    pretrained weights.
Source: fault B1; Glorot and Bengio 2010.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from espalier.diagnose.facts import finite
from espalier.diagnose.loss_curves import loss_curve
from espalier.diagnose.signals import (
    Stretch,
    decay_movement,
    middle,
    movements,
    part_names,
    stepped,
)
from espalier.findings import Edit, Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord, StepSigns, part_values

CODE = "RUN112"
_FIRST = 10


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    ratio: float = threshold(1e-3, "first / last part", "gradient norm per root of parameters")
    drift: float = threshold(10.0, "x that ratio", "at the start or over all, whichever is larger")
    body: float = threshold(0.3, "first part / last below the head", "from which nothing vanishes")
    moves: float = threshold(1e-5, "change / weight", "of the first part in a median step")
    lost: float = threshold(1e-4, "first / last part", "from which movement does not matter")
    decay: float = threshold(2.0, "x weight decay", "movement below which decay is all there is")
    gained: float = threshold(0.3, "of the loss of guessing", "from which training works anyway")


def check(record: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding for the first stage whose first part hardly learns, from its start on."""
    judged = False
    for stretch in stepped(record):
        names, steps = part_names(stretch.steps), stretch.steps[3:]
        if len(names) < 2 or len(steps) < 5 or _meant(stretch):
            continue
        judged = True
        ratio = _lost_on_the_way(stretch, steps, names, thresholds)
        if ratio is None:
            continue
        moved = movements(stretch.at_speed()).get(names[0], math.nan)
        # What weight decay moves is no learning.
        decayed = moved < thresholds.decay * decay_movement(record, stretch)
        still = moved < thresholds.moves or decayed or ratio < thresholds.lost
        if still and not _learns(record, stretch, thresholds):
            return _finding(stretch, names, ratio, moved, thresholds)
    if not judged:
        raise CannotJudge("needs gradient norms of two or more parts in steps beyond the third")
    return None


def _lost_on_the_way(
    stretch: Stretch, steps: Sequence[StepSigns], names: Sequence[str], thresholds: Thresholds
) -> float | None:
    """The share of the last part's gradient that arrives at the first one, if it is too small.

    At the end of a run that learned nothing gradients are those of noise and decay, so the start
    or the whole may be the smaller one; but the other must not be sound.
    """
    ratio, other = sorted(_ratios(stretch, steps, (names[0], names[-1])))
    if not (0 < ratio < thresholds.ratio and other < thresholds.drift * thresholds.ratio):
        return None
    # A head that starts at nothing weakens what arrives at all parts alike.
    if len(names) > 2 and _ratios(stretch, steps, (names[0], names[-2]))[0] > thresholds.body:
        return None
    return ratio


def _meant(stretch: Stretch) -> bool:
    """Whether the backbone rests, or crawls, by plan."""
    facts = stretch.facts
    if facts is None or facts.backbone_learning_rate is None or not facts.learning_rate:
        return False
    return facts.backbone_learning_rate < 1e-2 * facts.learning_rate


def _ratios(
    stretch: Stretch, steps: Sequence[StepSigns], parts: tuple[str, str]
) -> tuple[float, float]:
    """Gradient of one part over that of another: in the first steps, and in all of them."""
    found = []
    for few in (steps[:_FIRST], steps):
        first, last = (_norm(stretch, few, name) for name in parts)
        found.append(first / last if last > 0 else math.nan)
    return found[0], found[1]


def _norm(stretch: Stretch, steps: Sequence[StepSigns], name: str) -> float:
    """Median gradient norm of a part, per square root of its parameters where that is known."""
    size = stretch.facts.parts.get(name, 0) if stretch.facts is not None else 0
    return middle(part_values(steps, name, lambda part: part.grad_norm)) / math.sqrt(size or 1)


def _learns(record: RunRecord, stretch: Stretch, thresholds: Thresholds) -> bool:
    curve = loss_curve(record, stretch.epochs)
    if curve is None or curve.chance is None:
        return False
    return curve.chance - min(finite(curve.values)) > thresholds.gained * curve.chance


def _finding(
    stretch: Stretch, names: Sequence[str], ratio: float, moved: float, thresholds: Thresholds
) -> Finding:
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=f"Gradients vanish on their way from {names[-1]} to {names[0]}: per parameter "
        f"{ratio:.1g} of them arrives",
        evidence=(
            Evidence("gradient, first part / last", ratio, thresholds.ratio, "", stretch.where),
            Evidence(
                f"change of {names[0]} in a median step",
                moved if math.isfinite(moved) else "not measured",
                thresholds.moves,
                "change / weight",
                stretch.where,
            ),
        ),
        confidence=0.8,
        advice=(
            "Put normalisation layers and residual connections between the layers, and ReLU or "
            "GELU instead of sigmoid and tanh.",
            "Start from pretrained weights where there are any.",
        ),
        prescription=(
            Edit("model.weights", "set", "pretrained", "gradients vanish from scratch", safe=False),
        )
        if stretch.facts is not None
        else (),
        consequences=(
            "weights_do_not_move",
            "labels_shuffled",
            "under_capacity",
            "collapsed_to_major_classes",
            "underfitting",
            "plateau",
            "not_learning",
        ),
    )

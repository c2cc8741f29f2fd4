"""Many units have died: they give nothing for any image, so they learn nothing either.

What it looks at: per part, the share of channels that are hardly ever active on a probe of training
    images, against the same share at the start; twice in a row; and whether its gradients were
    there in the first steps. A network made from nothing has no sparsity by right, and nearly a
    whole part may never be silent.
Why it matters: a rectifier whose input is negative for every image passes no gradient, so it
    stays as it is, and the network is as small as what is left.
When it is wrong: pretrained networks are sparse from the start, which is why the rise counts; wide
    layers can afford dead units: where training images are told apart, it is only worth knowing.
What to do: units that lived in the first steps died of steps too large: a lower rate. Those that
    never lived need other first weights: no rate wakes them. BatchNorm before the activation,
    or one that leaks, helps in both cases.
Source: fault C1; AutoTrainer's dying ReLU (Zhang et al., ICSE 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.diagnose.facts import finite, rate_edits
from espalier.diagnose.fit import settled
from espalier.diagnose.signals import middle
from espalier.findings import Evidence, Finding, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord, part_values

CODE = "RUN201"
_FIRST = 5
_RECTIFIERS = ("relu", "swish", "threshold")
_LEAKING = ("leaky", "prelu", "rrelu")


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    share: float = threshold(0.5, "share of a part's channels", "dead, at least")
    rise: float = threshold(0.25, "share of a part's channels", "more than at the start")
    whole: float = threshold(0.9, "share of a part's channels", "too many even from the start")
    stillborn: float = threshold(
        0.9, "share of channels, or of zero gradients", "of a part that never lived"
    )
    living: float = threshold(0.5, "share of zero gradients", "of a part that lives")
    harmless: float = threshold(0.95, "clean accuracy", "from which nothing was lost by it")


@dataclass(frozen=True)
class Dead:
    """Dead channels of one part: share at the start, and the smaller of the last two.

    The start is before the first step where somebody looked then, else after the first epoch.
    """

    part: str
    start: float
    now: float
    looked_before: bool


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where units died in training, or were dead before it began."""
    kinds = subject.facts.activations
    if kinds is not None and not any(map(_can_die, kinds)):
        return None
    parts = _dead_parts(subject)
    if not parts:
        raise CannotJudge("needs the share of dead channels")
    dead = [part for part in parts if _is_dead(part, subject, thresholds)]
    if not dead:
        return None
    worst = max(dead, key=lambda part: (part.now, part.part))
    clean = settled(subject, "clean_accuracy")
    harmless = clean is not None and clean >= thresholds.harmless
    never_lived = _never_lived(subject, worst, thresholds)
    return Finding(
        rule="",
        code="",
        severity="info" if harmless else "warning",
        cause=f"{percent(worst.now)} of the channels of {worst.part} are dead "
        f"({_since(subject, worst, thresholds)})",
        evidence=tuple(
            Evidence("dead channels", part.now, thresholds.share, "share", f"part {part.part}")
            for part in dead
        ),
        confidence=0.75 if kinds is not None else 0.6,
        advice=(
            "Look at the first weights: biases and BatchNorm weights far below zero, or inputs of "
            "another scale, silence units before the first step."
            if never_lived
            else "Train again with a third of the learning rate, from weights in which they still "
            "live.",
            "In a network of your own: BatchNorm before the activation, or LeakyReLU or GELU.",
        ),
        prescription=()
        if harmless or never_lived
        else rate_edits(subject, 0.3, "units die at this rate"),
        consequences=(
            "vanishing_gradients",
            "no_gradient",
            "weights_do_not_move",
            "under_capacity",
            "underfitting",
            "plateau",
            "collapsed_to_major_classes",
            "not_learning",
        ),
    )


def _never_lived(subject: RunRecord, part: Dead, thresholds: Thresholds) -> bool:
    if part.looked_before:
        return part.start > thresholds.stillborn
    return _zeros_at_first(subject, part.part) > thresholds.stillborn


def _since(subject: RunRecord, part: Dead, thresholds: Thresholds) -> str:
    """Since when, as far as anybody looked."""
    if part.looked_before:
        return f"{percent(part.start)} before the first step"
    zeros = _zeros_at_first(subject, part.part)
    if zeros > thresholds.stillborn:
        return "no gradient was there in the first steps either"
    lived = "alive in the first steps, " if zeros < thresholds.living else ""
    return f"{lived}{percent(part.start)} after the first epoch"


def _zeros_at_first(subject: RunRecord, part: str) -> float:
    """Share of the gradients of a part that are zero in the first steps; NaN if unknown."""
    steps = [step for step in subject.steps if step.step <= _FIRST]
    return middle(part_values(steps, part, lambda signs: signs.zero_share))


def _can_die(activation: str) -> bool:
    name = activation.lower()
    return any(word in name for word in _RECTIFIERS) and not any(w in name for w in _LEAKING)


def _dead_parts(subject: RunRecord) -> list[Dead]:
    """Of each part with a measurement; a single one is its start and its end."""
    columns: dict[str, list[float]] = {}
    for epoch in subject.epochs:
        for part, share in epoch.dead.items():
            columns.setdefault(part, []).extend(finite([share]))
    before = subject.start_dead
    return [
        Dead(part, before.get(part, values[0]), min(values[-2:]), part in before)
        for part, values in columns.items()
        if values
    ]


def _is_dead(part: Dead, subject: RunRecord, thresholds: Thresholds) -> bool:
    if part.now < thresholds.share:
        return False
    from_nothing = subject.facts.pretrained is False
    return from_nothing or part.now >= thresholds.whole or part.now - part.start >= thresholds.rise

"""The optimizer remembers too long or too short, or hardly adapts.

What it looks at: momentum of SGD, the betas and the epsilon of Adam, and the length of the run.
Why it matters: momentum m lets a gradient act for 1 / (1 - m) steps: at 0.999 a run of 500 steps
    is over before the first gradient is forgotten; a large epsilon makes Adam an SGD with a
    tiny rate.
When it is wrong: very long runs carry long memory; other optimizers have other usual values and
    are not judged.
What to do: momentum 0.9, betas 0.9 and 0.999, epsilon 1e-8.
Source: fault A11; DeepChecker's low epsilon rule, turned to the side that harms.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.diagnose.facts import total_steps
from espalier.findings import Edit, Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN003"
_ADAM = ("adam", "adamw", "nadam", "radam", "adamax", "nadamw")


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    momentum: float = threshold(0.98, "momentum or first beta", "above which memory is long")
    pathological: float = threshold(0.995, "momentum or first beta", "too long for any run")
    memory: float = threshold(0.1, "share of the run's steps", "that one gradient may act")
    beta2: float = threshold(0.9, "second beta", "below which steps jump with single gradients")
    eps: float = threshold(1e-4, "epsilon", "above which small gradients are not scaled up")
    large_eps: float = threshold(1e-2, "epsilon", "from which it is a warning")


@dataclass(frozen=True)
class Odd:
    """One odd value: how it reads, what it rests on, and whether it will hurt."""

    text: str
    evidence: Evidence
    hurts: bool
    edit: Edit | None = None


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where a value will hurt, a note where it is merely unusual."""
    name = str(subject.require_fact("optimizer")).lower()
    adam = name in _ADAM
    if not adam and not name.startswith("sgd"):
        raise CannotJudge(f"knows the usual values of Adam and SGD, not of {name}")
    odd = _of_adam(subject, thresholds) if adam else _of_sgd(subject, thresholds)
    if not odd:
        return None
    hurts = any(one.hurts for one in odd)
    return Finding(
        rule="",
        code="",
        severity="warning" if hurts else "info",
        cause=" and ".join(one.text for one in odd),
        evidence=tuple(one.evidence for one in odd),
        confidence=0.85 if hurts else 0.6,
        advice=("Use the usual values: momentum 0.9, betas 0.9 and 0.999, epsilon 1e-8.",),
        prescription=tuple(one.edit for one in odd if one.edit is not None),
        consequences=(
            "learning_rate_noisy",
            "learning_rate_too_high",
            "learning_rate_too_low",
            "exploding_gradients",
            "dead_units",
            "plateau",
            "underfitting",
            "not_learning",
        )
        if hurts
        else (),
    )


def _of_sgd(subject: RunRecord, thresholds: Thresholds) -> list[Odd]:
    momentum = subject.require_fact("momentum")
    edit = Edit("optimizer.momentum", "set", 0.9, "the usual memory, ten steps")
    return _long_memory("momentum", momentum, edit, subject, thresholds)


def _of_adam(subject: RunRecord, thresholds: Thresholds) -> list[Odd]:
    betas, eps = subject.facts.betas, subject.facts.eps
    if betas is None and eps is None:
        raise CannotJudge("needs the betas or the epsilon of Adam")
    odd = []
    if betas is not None:
        edit = Edit("optimizer.betas", "unset", None, "0.9 and 0.999 are the usual memory")
        odd += _long_memory("the first beta", betas[0], edit, subject, thresholds)
        if betas[1] < thresholds.beta2:
            evidence = Evidence("second beta", betas[1], thresholds.beta2)
            odd.append(Odd(f"the second beta is {betas[1]:g}", evidence, True, edit))
    if eps is not None and eps > thresholds.eps:
        evidence = Evidence("epsilon", eps, thresholds.eps)
        odd.append(Odd(f"the epsilon of Adam is {eps:g}", evidence, eps >= thresholds.large_eps))
    return odd


def _long_memory(
    what: str, value: float, edit: Edit, subject: RunRecord, thresholds: Thresholds
) -> list[Odd]:
    if not value > thresholds.momentum:
        return []
    acts = 1 / max(1 - value, 1e-9)
    steps = total_steps(subject)
    too_long = steps is not None and acts > thresholds.memory * steps
    text = f"{what} is {value:g}: each gradient acts for {acts:,.0f} steps"
    if steps:
        text += f" of {steps:,}"
    hurts = value >= thresholds.pathological or too_long
    return [Odd(text, Evidence(what, value, thresholds.momentum), hurts, edit)]

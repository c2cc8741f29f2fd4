"""Classes with many times more training images than others.

What it looks at: the largest over the smallest class in train; where a linear head has judged the
    images, whether it finds those of the rarest third of the classes as often as the others.
Why it matters: a loss that sees one class fifty times as often can afford to forget the rare one.
When it is wrong: rare classes can be easy, so a linear head is asked where there is one.
What to do: judge by macro-F1; from 10 : 1 on, weigh by square roots, and cap from 100 : 1 on.
Source: fault E1 to E3 and E5. Square-root weights: Mahajan et al. 2018; weights above 10 : 1
    make single images dominate the loss; weights and a sampler at once compensate twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from espalier.audited import Audited
from espalier.findings import Case, Edit, Evidence, Finding, percent
from espalier.rules import CannotJudge, threshold

CODE = "AUD022"
_STRATEGY = "class_weighting.strategy"
_CAP = "class_weighting.cap"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    clear: float = threshold(3.0, "largest : smallest class", "below which nothing is said")
    weigh: float = threshold(10.0, "largest : smallest class", "from which weights are advised")
    strong: float = threshold(20.0, "largest : smallest class", "a warning, unless a head copes")
    cap: float = threshold(10.0, "largest : smallest weight", "that weights should not exceed")
    gap: float = threshold(0.1, "recall", "of the rarest third below the others, to suffer")
    errors: float = threshold(3.0, "standard errors", "by which it must be below as well")
    major: float = threshold(1000, "training images", "above which a class is a major one")
    rare: float = threshold(50, "training images", "below which a class is a rare one")


@dataclass(frozen=True)
class Suffering:
    """Recall of the rarest third of the classes and of the others, by a linear head.

    Attributes:
        rare: Mean recall of the rarest third, in [0, 1].
        rest: Mean recall of the others.
        error: Standard error of their difference.
    """

    rare: float
    rest: float
    error: float

    def shows(self, thresholds: Thresholds) -> bool:
        """Whether rare classes are found less often by more than chance."""
        return self.rest - self.rare > max(thresholds.gap, thresholds.errors * self.error)


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding from 3 : 1 on; a warning where rare classes suffer, or must be expected to."""
    counts = {name: n for name, n in subject.catalog.counts("train").items() if n}
    if len(counts) < 2:
        raise CannotJudge("fewer than two classes have training images")
    ratio = max(counts.values()) / min(counts.values())
    if ratio < thresholds.clear:
        return None
    suffering = _suffering(subject, counts)
    if suffering is None:
        warned = ratio >= thresholds.strong
    else:
        warned = ratio >= thresholds.weigh and suffering.shows(thresholds)
    return Finding(
        rule="class_imbalance",
        code=CODE,
        severity="warning" if warned else "info",
        cause=_cause(counts, ratio, suffering, thresholds),
        evidence=_evidence(counts, ratio, suffering, thresholds),
        confidence=0.9 if suffering else 0.7,
        advice=_advice(ratio, suffering, thresholds),
        prescription=weights_for(ratio, thresholds),
        cases=_cases(counts, thresholds),
    )


def weights_for(ratio: float, thresholds: Thresholds) -> tuple[Edit, ...]:
    """What to change for such a ratio: nothing, square-root weights, or the same with a cap."""
    if ratio < thresholds.weigh:
        return ()
    moderate = math.sqrt(ratio) <= thresholds.cap
    root = Edit(
        _STRATEGY,
        "set",
        "sqrt",
        f"weights of {math.sqrt(ratio):.1f} : 1 for {ratio:.0f} : 1",
        safe=moderate,
    )
    if moderate:
        return (root,)
    because = "larger weights make single images dominate the loss"
    return (root, Edit(_CAP, "set", thresholds.cap, because, safe=False))


def _suffering(subject: Audited, counts: dict[str, int]) -> Suffering | None:
    """None where no head has judged images of both rare and other classes."""
    embedded = subject.embedded
    if embedded is None or embedded.probabilities is None:
        return None
    judged = embedded.judged
    labels = embedded.labels[judged]
    right = embedded.probabilities[judged].argmax(axis=1) == labels
    by_size = sorted(counts, key=lambda name: counts[name])
    third = max(1, len(by_size) // 3)
    index = {name: i for i, name in enumerate(subject.catalog.classes)}
    groups = [
        [right[labels == index[name]] for name in names]
        for names in (by_size[:third], by_size[third:])
    ]
    known = [[hits for hits in group if len(hits)] for group in groups]
    if not all(known):
        return None
    (rare, rare_error), (rest, rest_error) = (_recall(group) for group in known)
    return Suffering(rare, rest, math.hypot(rare_error, rest_error))


def _recall(hits: list[np.ndarray]) -> tuple[float, float]:
    """Mean recall over classes, and its standard error."""
    recalls = np.array([one.mean() for one in hits])
    sizes = np.array([len(one) for one in hits])
    # One image counted as half right on either side, so that 3 of 3 is not taken for certain.
    smoothed = (recalls * sizes + 1) / (sizes + 2)
    error = math.sqrt(float((smoothed * (1 - smoothed) / sizes).sum())) / len(hits)
    return float(recalls.mean()), error


def _cause(
    counts: dict[str, int], ratio: float, suffering: Suffering | None, thresholds: Thresholds
) -> str:
    ordered = sorted(counts, key=lambda name: counts[name])
    cause = (
        f"{ordered[-1]} has {counts[ordered[-1]]:,} training images, {ordered[0]} "
        f"{counts[ordered[0]]:,}: {ratio:.1f} : 1"
    )
    if suffering is None:
        return cause
    verdict = "rare classes suffer" if suffering.shows(thresholds) else "rare classes hold"
    return (
        f"{cause}; {verdict}: a linear head finds {percent(suffering.rare)} of the rarest third, "
        f"{percent(suffering.rest)} of the others"
    )


def _evidence(
    counts: dict[str, int], ratio: float, suffering: Suffering | None, thresholds: Thresholds
) -> tuple[Evidence, ...]:
    major = [n for n in counts.values() if n > thresholds.major]
    rare = [n for n in counts.values() if n < thresholds.rare]
    evidence = [
        Evidence("imbalance", round(ratio, 2), thresholds.clear, "largest : smallest class"),
        Evidence(f"major classes, above {thresholds.major:,.0f} images", len(major)),
        Evidence(f"rare classes, below {thresholds.rare:.0f} images", len(rare)),
        Evidence("images in major classes", sum(major) / sum(counts.values()), None, "share"),
    ]
    if suffering is not None:
        noise = max(thresholds.gap, thresholds.errors * suffering.error)
        gap = suffering.rest - suffering.rare
        evidence.append(Evidence("recall of the rarest third below the others", gap, noise))
    return tuple(evidence)


def _advice(ratio: float, suffering: Suffering | None, thresholds: Thresholds) -> tuple[str, ...]:
    advice = ["Judge by macro-F1, in which every class counts the same, and not by accuracy."]
    if ratio < thresholds.weigh:
        advice.append(
            "Leave the loss as it is: after training, an adjustment for rare classes is tried "
            "anyway and kept where validation gains."
        )
        return tuple(advice)
    edits = " ".join(f"--set {e.key}={_plain(e.value)}" for e in weights_for(ratio, thresholds))
    advice.append(f"Compare a run with {edits} against one without, by macro-F1 in validation.")
    if suffering is not None and not suffering.shows(thresholds):
        advice.append("It may not be needed: a linear head without weights copes already.")
    advice.append("Do not add class_weighting.sampler to weights: both at once is twice too much.")
    return tuple(advice)


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cases(counts: dict[str, int], thresholds: Thresholds) -> tuple[Case, ...]:
    """Rare classes, the fewest images first; then major ones."""
    most = max(counts.values())
    rare = [
        Case(
            (),
            f"rare: {n:,} training images, the largest class has {most / n:.1f} times as many",
            most / n,
            label=name,
        )
        for name, n in counts.items()
        if n < thresholds.rare
    ]
    major = [
        Case((), f"major: {n:,} training images", n / most, label=name)
        for name, n in counts.items()
        if n > thresholds.major
    ]
    return tuple(sorted([*rare, *major], key=lambda case: -case.score))

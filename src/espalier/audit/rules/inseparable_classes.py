"""Pairs of classes that a linear head on frozen features cannot tell apart.

What it looks at: for every two classes, how often the head ranks an image of each rightly, when it
    has seen neither: 50 of 100 is a coin toss, 100 is never wrong.
Why it matters: no amount of training repairs labels that the pictures do not show.
When it is wrong: fine-tuning finds detail that frozen features do not have; so does a higher
    resolution. A hard pair is a hint, not a verdict.
What to do: look at the two side by side; use more pixels; merge what nobody needs apart.
Source: fault D3; area under the ROC curve with the interval of Hanley and McNeil 1982.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from espalier.audit.groups import in_turn
from espalier.audit.separation import auc, auc_interval
from espalier.audited import Audited, Embedded
from espalier.findings import Case, Evidence, Finding, listed
from espalier.rules import CannotJudge, threshold

CODE = "AUD031"
_SHOWN = 6
_SMALLEST = 1e-300
# 128 becomes 160, 160 becomes 224, and 224 becomes 288: half as many pixels again, or more.
_ENLARGED = 1.25


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    hard: float = threshold(90, "of 100 pairs", "ranked rightly; surely fewer is a hard pair")
    inseparable: float = threshold(65, "of 100 pairs", "surely fewer are not told apart")
    images: float = threshold(10, "judged images", "of each class, at least")


@dataclass(frozen=True)
class Twins:
    """Two classes and how well they are told apart.

    Attributes:
        first: Class index.
        second: Class index.
        right: Pairs of images ranked rightly, of 100.
        low: Lower bound of it, 95 %.
        high: Upper bound of it.
        mistaken: Share of the images of the first that look more like the second, and the reverse.
        prior: Share of mistakes if all were called as the more frequent of the two.
        error: Share of mistakes that the head makes between the two.
    """

    first: int
    second: int
    right: float
    low: float
    high: float
    mistaken: tuple[float, float]
    prior: float
    error: float

    def lost(self, thresholds: Thresholds) -> bool:
        """Whether nothing tells the two apart but how frequent they are."""
        return self.high < thresholds.inseparable and self.error >= self.prior


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding for hard pairs; a warning where the head is no better than their frequencies."""
    embedded, probabilities = subject.require_probabilities()
    labels = np.where(embedded.judged, embedded.labels, -1)
    counts = np.bincount(labels[labels >= 0], minlength=probabilities.shape[1])
    known = np.flatnonzero(counts >= thresholds.images).tolist()
    if len(known) < 2:
        raise CannotJudge(f"fewer than two classes have {thresholds.images:.0f} judged images")
    logs = np.log(np.maximum(probabilities, _SMALLEST))
    # Looked up once: 1,000 classes are half a million pairs.
    of_class = {k: logs[labels == k] for k in known}
    pairs = [_twins(of_class, a, b) for a, b in itertools.combinations(known, 2)]
    hard = sorted((p for p in pairs if p.high < thresholds.hard), key=lambda pair: pair.right)
    if not hard:
        return None
    lost = [pair for pair in hard if pair.lost(thresholds)]
    names = [_names(pair, subject.catalog.classes) for pair in hard]
    return Finding(
        rule="inseparable_classes",
        code=CODE,
        severity="warning" if lost else "info",
        cause=_cause(hard[0], names, lost=bool(lost)),
        evidence=tuple(
            e for pair, n in zip(hard, names, strict=True) for e in _of(pair, n, thresholds)
        ),
        confidence=0.8 if lost else 0.6,
        advice=_advice(names[0], subject.imgsz),
        cases=tuple(
            _case(pair, name, embedded, logs, labels)
            for pair, name in zip(hard, names, strict=True)
        ),
    )


def _twins(of_class: Mapping[int, npt.NDArray[np.float64]], first: int, second: int) -> Twins:
    of_first, of_second = (
        of_class[label][:, first] - of_class[label][:, second] for label in (first, second)
    )
    right = auc(of_first, of_second)
    low, high = auc_interval(right, len(of_first), len(of_second))
    mistaken = float((of_first < 0).mean()), float((of_second >= 0).mean())
    of_both = len(of_first) + len(of_second)
    wrong = int((of_first < 0).sum() + (of_second >= 0).sum())
    prior = min(len(of_first), len(of_second)) / of_both
    return Twins(
        first, second, 100 * right, 100 * low, 100 * high, mistaken, prior, wrong / of_both
    )


def _names(pair: Twins, classes: tuple[str, ...]) -> tuple[str, str]:
    return classes[pair.first], classes[pair.second]


def _text(pair: Twins, names: tuple[str, str]) -> str:
    return (
        f"{names[0]} and {names[1]}: {pair.right:.0f} of 100 pairs ranked rightly "
        f"({pair.low:.0f} to {pair.high:.0f})"
    )


def _cause(worst: Twins, names: list[tuple[str, str]], *, lost: bool) -> str:
    verdict = "cannot be told apart" if lost else "are hard to tell apart"
    pairs = listed([" / ".join(pair) for pair in names], 3)
    return f"{pairs} {verdict}: {_text(worst, names[0])}; a coin toss gives 50"


def _of(pair: Twins, names: tuple[str, str], thresholds: Thresholds) -> tuple[Evidence, ...]:
    where, share = " / ".join(names), "share of the images"
    return (
        Evidence("pairs ranked rightly, of 100", round(pair.right, 1), thresholds.hard, "", where),
        Evidence(f"{names[0]} taken for {names[1]}", pair.mistaken[0], None, share, where),
        Evidence(f"{names[1]} taken for {names[0]}", pair.mistaken[1], None, share, where),
        Evidence("mistakes between the two", pair.error, pair.prior, share, where),
    )


def _advice(names: tuple[str, str], imgsz: int) -> tuple[str, ...]:
    larger = 32 * math.ceil(_ENLARGED * imgsz / 32)
    return (
        f"Look at pictures of {names[0]} and {names[1]} side by side: can you tell which is which?",
        f"If you can, what tells them apart may be small: try --imgsz {larger} and full training.",
        "If nobody can, or needs to, make one class of the two.",
    )


def _case(
    pair: Twins,
    names: tuple[str, str],
    embedded: Embedded,
    logs: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
) -> Case:
    """The pair with the images of either class that look most like the other."""
    lead = logs[:, pair.first] - logs[:, pair.second]
    worst = _worst(lead, labels == pair.first), _worst(-lead, labels == pair.second)
    shown = in_turn(itertools.chain(*worst), lambda row: int(labels[row]))
    samples = tuple(embedded.sample_ids[row] for row in shown)
    return Case(samples, _text(pair, names), 100 - pair.right, label=names[0])


def _worst(lead: npt.NDArray[np.float64], among: npt.NDArray[np.bool_]) -> list[int]:
    rows = np.flatnonzero(among & (lead < 0))
    worst: list[int] = rows[np.argsort(lead[rows])][: _SHOWN // 2].tolist()
    return worst

"""Accuracy looks fine while some classes fail.

What it looks at: validation accuracy against macro-F1 in the last two epochs that have both.
Why it matters: where classes are unequal, accuracy is the score of the large ones; weights chosen
    by it neglect the rest.
When it is wrong: in a first epoch rare classes are not yet learned, so it must last; with few
    validation images per class macro-F1 is noise, so the gap must exceed that noise.
What to do: choose the weights by macro-F1 and look at recall per class.
Source: fault E5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.diagnose.facts import class_name, finite
from espalier.findings import Case, Edit, Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import EpochSigns, RunRecord

CODE = "RUN020"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    gap: float = threshold(0.15, "accuracy - macro-F1", "above which classes fail unseen")
    errors: float = threshold(3.0, "standard errors", "by which macro-F1 must be below as well")
    recall: float = threshold(0.5, "recall", "below which a class is named as failing")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where accuracy decides, a note where macro-F1 does already."""
    both = [e for e in subject.epochs if len(finite([e.val_accuracy, e.val_macro_f1])) == 2]
    if not both:
        raise CannotJudge("needs validation accuracy and macro-F1")
    recent = both[-2:]
    allowed = max(thresholds.gap, thresholds.errors * _noise(subject, recent[-1]))
    if any(e.val_accuracy - e.val_macro_f1 <= allowed for e in recent):
        return None
    last = recent[-1]
    monitored = (subject.facts.monitor or "").lower()
    by_f1 = "f1" in monitored or "macro" in monitored
    return Finding(
        rule="",
        code="",
        severity="info" if by_f1 else "warning",
        cause=f"accuracy is {last.val_accuracy:.3f} and macro-F1 only {last.val_macro_f1:.3f}: "
        "some classes fail behind a good average",
        evidence=(
            Evidence(
                "accuracy - macro-F1",
                last.val_accuracy - last.val_macro_f1,
                allowed,
                "",
                f"epoch {last.epoch}",
            ),
        ),
        confidence=0.9,
        advice=(
            "Choose the weights and stop by macro-F1 (checkpointing.monitor=macro_f1), and look "
            "at recall per class.",
        ),
        prescription=() if by_f1 else _EDITS,
        cases=_failing(subject, last, thresholds),
    )


_EDITS = tuple(
    Edit(f"{section}.monitor", "set", "macro_f1", "every class counts the same")
    for section in ("checkpointing", "early_stopping")
)


def _noise(subject: RunRecord, epoch: EpochSigns) -> float:
    """Standard error of macro-F1, about that of mean recall; of accuracy where counts are unknown.

    One image counts as half right, so that a class with a single image is not taken for certain.
    """
    counts, recall = subject.facts.val_counts, epoch.recall
    noise = subject.accuracy_noise(epoch.val_accuracy)
    if counts is None or recall is None or len(recall) != len(counts):
        return noise
    known = [(r, n) for r, n in zip(recall, counts, strict=True) if n and math.isfinite(r)]
    smoothed = [((r * n + 0.5) / (n + 1), n) for r, n in known]
    of_classes = math.sqrt(sum(r * (1 - r) / n for r, n in smoothed)) / max(1, len(known))
    return max(noise, of_classes)


def _failing(subject: RunRecord, epoch: EpochSigns, thresholds: Thresholds) -> tuple[Case, ...]:
    """Classes with low recall, the lowest first."""
    low = [(r, i) for i, r in enumerate(epoch.recall or ()) if r < thresholds.recall]
    return tuple(
        Case((), f"recall {recall:.2f}", 1 - recall, label=class_name(subject, i))
        for recall, i in sorted(low)
    )

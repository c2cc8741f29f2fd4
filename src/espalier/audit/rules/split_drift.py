"""Validation or test pictures that look different from training pictures of the same class.

What it looks at: how well a linear classifier on frozen features tells train from val and from
    test, class by class, so that other shares of the classes are no drift.
Why it matters: scores then say how the model does on other pictures than it was trained on, and
    the weights that are kept are chosen on those.
When it is wrong: the difference is meant (another camera, field or season is what you test for).
    Painted pictures train only, so they are not compared.
What to do: look at the pictures that are most unlike; mix the parts, by group, if it is not meant.
Source: fault D16; classifier two-sample test (Lopez-Paz and Oquab 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from espalier.audit.drift import Drift, measure_drift
from espalier.audited import Audited, Embedded
from espalier.findings import Case, Evidence, Finding
from espalier.records import Split
from espalier.rules import CannotJudge, threshold

CODE = "AUD024"
_SHOWN = 10


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    suspicious: float = threshold(0.65, "AUC", "surely above which there is something to see")
    different: float = threshold(0.8, "AUC", "surely above which the parts are different")
    images: float = threshold(20, "images", "of a part, at least")


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding where val or test can be told from train; a warning where nearly always."""
    embedded = subject.require_embedded()
    drifts = _drifts(subject, embedded, thresholds)
    if not drifts:
        raise CannotJudge("there are too few images of train and of another part to compare")
    drifted = {s: d for s, d in drifts.items() if d.interval[0] > thresholds.suspicious}
    if not drifted:
        return None
    worst = max(drifted, key=lambda split: drifted[split].auc)
    surely = drifted[worst].interval[0] > thresholds.different
    return Finding(
        rule="split_drift",
        code=CODE,
        severity="warning" if surely else "info",
        cause="; ".join(_cause(split, drift) for split, drift in drifted.items()),
        evidence=tuple(
            Evidence("AUC of telling it from train", drift.auc, thresholds.different, "", split)
            for split, drift in drifts.items()
        ),
        confidence=0.9 if surely else 0.6,
        advice=_advice(worst, given=subject.given_split),
        cases=_cases(subject, embedded, drifted),
    )


def _drifts(subject: Audited, embedded: Embedded, thresholds: Thresholds) -> dict[Split, Drift]:
    samples = [subject.samples[sample_id] for sample_id in embedded.sample_ids]
    splits = np.array([sample.split or "" for sample in samples])
    painted = np.array([bool(sample.origin) for sample in samples], dtype=np.bool_)
    usable = (embedded.labels >= 0) & ~painted
    groups = [sample.group or sample.content for sample in samples]
    found: dict[Split, Drift] = {}
    parts: tuple[Split, ...] = ("val", "test")
    for split in parts:
        rows = np.flatnonzero(usable & ((splits == "train") | (splits == split)))
        drift = measure_drift(
            embedded.features[rows],
            embedded.labels[rows],
            splits[rows] == split,
            [groups[row] for row in rows.tolist()],
        )
        if drift is not None and min(drift.images) >= thresholds.images:
            found[split] = _placed(drift, rows)
    return found


def _placed(drift: Drift, rows: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Drift:
    """The same, with positions among all images."""
    return Drift(drift.auc, drift.interval, drift.images, rows[drift.rows], drift.scores)


def _cause(split: Split, drift: Drift) -> str:
    low, high = drift.interval
    return (
        f"{split} can be told from train: {100 * drift.auc:.0f} of 100 pairs of one class are "
        f"ranked rightly ({100 * low:.0f} to {100 * high:.0f}); 50 if they looked the same"
    )


def _advice(split: Split, *, given: bool) -> tuple[str, ...]:
    look = f"Look at the {split} pictures that are most unlike train: light, camera, background?"
    if not given:
        return (look, "Name what belongs together with --group-by, so that it is not divided.")
    return (
        look,
        "If the difference is meant (another field, another camera), leave it: the score is then "
        "about such pictures.",
        "If not, put all pictures into one folder per class and let Espalier make the split.",
    )


def _cases(subject: Audited, embedded: Embedded, drifted: dict[Split, Drift]) -> tuple[Case, ...]:
    classes = subject.catalog.classes
    cases = [
        Case(
            (embedded.sample_ids[row],),
            f"{split}: {score:.1f} standard deviations from train",
            score,
            label=classes[int(embedded.labels[row])],
        )
        for split, drift in drifted.items()
        for row, score in zip(
            drift.rows[:_SHOWN].tolist(), drift.scores[:_SHOWN].tolist(), strict=True
        )
    ]
    return tuple(sorted(cases, key=lambda case: -case.score))

"""Images that look firmly like another class than the one they were given.

What it looks at: probabilities of a linear head that has not seen the image, tempered until they
    fit the labels together with a few wrong ones.
Why it matters: wrong labels are learnt by heart, and in validation and test they falsify scores.
When it is wrong: odd views of the right class; a model that never saw such pictures. Classes that
    resemble each other are discounted, so errors between such twins are missed.
What to do: look at each, the first ones first, and accept the new label, another, or none.
Source: Northcutt, Jiang and Chuang 2021, confident learning; fault D2 and D3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from espalier.audit.confident import Suspects, find_suspects
from espalier.audit.robust import share_of
from espalier.audited import AT_LEAST, Audited, Embedded
from espalier.findings import Case, Correction, Evidence, Finding, percent
from espalier.rules import CannotJudge, threshold

CODE = "AUD030"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    share: float = threshold(
        0.03, "share of the labels", "surely wrong, from which it is a warning"
    )
    fewest: float = threshold(50, "judged images", "of fewer nothing can be said")


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding where labels are more likely wrong than right."""
    embedded, probabilities = subject.require_probabilities()
    judged = int(embedded.judged.sum())
    if judged < thresholds.fewest:
        raise CannotJudge(
            f"{judged} images were judged by a head that has not seen them; "
            f"{thresholds.fewest:.0f} are needed"
        )
    suspects = find_suspects(embedded.labels, probabilities, embedded.judged)
    if not len(suspects.indices):
        return None
    low, high = suspects.noise_interval
    return Finding(
        rule="label_suspects",
        code=CODE,
        severity="warning" if low > thresholds.share else "info",
        cause=f"{share_of(len(suspects.indices), judged)} look like another class than their "
        f"label says; about {percent(suspects.noise_share)} of all labels are wrong "
        f"({percent(low)} to {percent(high)})",
        evidence=_evidence(suspects, low, thresholds),
        confidence=round(float(suspects.scores.mean()), 2),
        advice=(
            "Look at them, the first ones first, and write yes beside what is right in "
            "corrections.csv; nothing is changed before that.",
            "Where many are of one pair of classes, agree on how to tell the two apart first.",
        ),
        cases=_cases(subject.catalog.classes, embedded, suspects),
    )


def _evidence(suspects: Suspects, low: float, thresholds: Thresholds) -> tuple[Evidence, ...]:
    share = "share of the labels"
    return (
        Evidence(
            "wrong labels that hard classes do not explain", suspects.noise_share, None, share
        ),
        Evidence(AT_LEAST, low, thresholds.share, share),
        Evidence(
            "the same by confident learning, hard classes too",
            suspects.confident_share,
            None,
            share,
        ),
    )


def _cases(classes: tuple[str, ...], embedded: Embedded, suspects: Suspects) -> tuple[Case, ...]:
    rows = np.column_stack([suspects.indices, suspects.suggested]).tolist()
    cases = []
    for (row, suggested), score in zip(rows, suspects.scores.tolist(), strict=True):
        sample, given = embedded.sample_ids[row], int(embedded.labels[row])
        chances = suspects.probabilities[row]
        text = (
            f"given {classes[given]}, looks like {classes[suggested]} "
            f"({chances[suggested]:.2f} against {chances[given]:.2f})"
        )
        relabel = Correction(sample, "relabel", classes[suggested], text)
        cases.append(Case((sample,), text, score, (relabel,), classes[given]))
    return tuple(cases)

"""What would still improve the score most.

What it looks at: classes that fall behind, the gap between training and validation, how much of the
    network is frozen, pixels, and whether validation still gained at the end; each with an
    estimate of the macro-F1 that it could win.
Why it matters: when nothing is wrong, this is the question that is left.
When it is wrong: the estimates are shares of what is missing, made to be compared with each other
    and not to be believed; try one thing at a time, on the same split.
What to do: what it names, then look again.
Source: playbook of tuning (Godbole et al., 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.diagnose.fit import fit_of
from espalier.diagnose.levers import levers
from espalier.findings import Evidence, Finding, percent
from espalier.rules import threshold
from espalier.run_record import RunRecord

CODE = "RUN230"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    gain: float = threshold(0.01, "macro-F1", "below which a lever is not worth naming")
    done: float = threshold(0.99, "accuracy on validation images", "from which little is left")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """Always information; nothing of a run that guesses, or has little left to gain."""
    fit = fit_of(subject)
    if fit.at_chance() or fit.val >= thresholds.done:
        return None
    worth = [lever for lever in levers(subject, fit) if lever.gain >= thresholds.gain]
    if not worth:
        return None
    first = worth[0]
    return Finding(
        rule="",
        code="",
        severity="info",
        cause=f"what would still improve the score most: {first.name} ({first.why})",
        evidence=(
            *(
                Evidence(f"estimated gain: {lever.name}", lever.gain, thresholds.gain, "macro-F1")
                for lever in worth
            ),
            Evidence("accuracy on validation images", fit.val, thresholds.done, "share"),
        ),
        confidence=0.5,
        advice=(
            *first.advice,
            *(f"Then {lever.name}: {lever.why}." for lever in worth[1:3]),
            f"Now {percent(fit.val)} of the validation images are right; change one thing at a "
            "time, on the same split.",
        ),
        prescription=first.edits,
        cases=first.cases,
    )

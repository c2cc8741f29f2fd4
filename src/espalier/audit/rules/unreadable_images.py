"""Files that look like pictures by their name but cannot be decoded.

What it looks at: whether each file decodes, whole, and why it does not.
Why it matters: training leaves such files out, so a class may be smaller than its folder, or gone.
When it is wrong: the format is one that this installation cannot read (HEIC), though others can.
What to do: copy the files again from where they came from, convert them, or leave them out.
Source: cleanvision and deepchecks have the same rule; a file is read here as training reads it.
"""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass

from espalier.audit.robust import share_of
from espalier.audited import Audited
from espalier.findings import Case, Correction, Evidence, Finding, Severity, listed
from espalier.records import Sample
from espalier.rules import CannotJudge, threshold

CODE = "AUD001"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    share: float = threshold(0.01, "share of all files", "unreadable, from which it is a warning")
    class_share: float = threshold(0.1, "share of a class", "unreadable, the same for one class")


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding where a file cannot be read; an error where a whole class is lost by it."""
    every, broken = subject.catalog.samples, subject.catalog.unreadable
    if not every:
        raise CannotJudge("there are no image files")
    if not broken:
        return None
    of_class = Counter(s.label for s in every if s.label)
    bad_of_class = Counter(s.label for s in broken if s.label)
    lost = sorted(name for name, bad in bad_of_class.items() if bad == of_class[name])
    worst = max((bad / of_class[name] for name, bad in bad_of_class.items()), default=0.0)
    severity: Severity = "info"
    if len(broken) > thresholds.share * len(every) or worst > thresholds.class_share:
        severity = "warning"
    reasons = [reason for reason, _ in Counter(s.reason for s in broken).most_common()]
    return Finding(
        rule="unreadable_images",
        code=CODE,
        severity="error" if lost else severity,
        cause=f"{share_of(len(broken), len(every), 'image files')} cannot be read"
        + (f"; nothing is left of {listed(lost)}" if lost else f": {listed(reasons, 3)}"),
        evidence=(
            Evidence("unreadable files", len(broken) / len(every), thresholds.share, "share"),
            Evidence("most of one class", worst, thresholds.class_share, "share"),
        ),
        advice=_advice(lost, reasons, subject.catalog.source),
        cases=tuple(_case(sample) for sample in broken),
    )


def _advice(lost: list[str], reasons: list[str], source: str) -> tuple[str, ...]:
    advice = [
        "Copy them again from where they came from; training leaves them out until then.",
        f"`espalier audit {shlex.quote(source)} --quarantine unreadable.csv` lists them.",
    ]
    if any("HEIC" in reason for reason in reasons):
        advice.append("Convert HEIC photographs to JPEG.")
    if lost:
        advice.append(f"Without new files the model will not know {listed(lost)}.")
    return tuple(advice)


def _case(sample: Sample) -> Case:
    drop = Correction(sample.sample_id, "drop", "", f"cannot be read: {sample.reason}")
    return Case((sample.sample_id,), sample.reason, 1.0, (drop,), sample.label or "")

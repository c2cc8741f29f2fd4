"""Pictures of one tone: black frames, blank pages, failed exposures.

What it looks at: the contrast of each picture, the standard deviation of its luma; in pictures near
    black or white also how much of their light it is, because those may be dark photographs.
Why it matters: such a picture has a label but nothing to see, so only memorising can learn it.
When it is wrong: the class is "nothing there", and an empty picture is its right example.
What to do: leave them out; where most are so, see whether the folder holds masks and not photos.
Source: fault D12 (constant share above 1 %); the bound is 2.5 of 255 steps of gray.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.audit.robust import (
    CONSTANT_CONTRAST,
    looked_at,
    severity_by_share,
    share_of,
    shows_nothing,
)
from espalier.audited import Audited, Look
from espalier.findings import Case, Correction, Evidence, Finding
from espalier.records import Sample
from espalier.rules import threshold

CODE = "AUD003"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    contrast: float = threshold(
        CONSTANT_CONTRAST, "standard deviation of luma", "below which a picture shows nothing"
    )
    share: float = threshold(0.01, "share of the images", "from which it is a warning")


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding where a picture has one tone only."""
    known = looked_at(subject)
    flat = [(s, look) for s, look in known if shows_nothing(look, thresholds.contrast)]
    if not flat:
        return None
    flat.sort(key=lambda one: one[1].contrast)
    advice = "Leave them out: there is nothing on them to learn from."
    if len(flat) > len(known) / 2:
        advice = "See whether this is the right folder: masks look like this, photographs do not."
    return Finding(
        rule="constant_images",
        code=CODE,
        severity=severity_by_share(len(flat), len(known), thresholds.share),
        cause=f"{share_of(len(flat), len(known))} show one tone and nothing else",
        evidence=(
            Evidence("pictures of one tone", len(flat) / len(known), thresholds.share, "share"),
        ),
        confidence=0.95,
        advice=(advice,),
        cases=tuple(_case(sample, look, thresholds) for sample, look in flat),
    )


def _case(sample: Sample, look: Look, thresholds: Thresholds) -> Case:
    text = f"brightness {look.brightness:.2f} all over, contrast {look.contrast:.3f}"
    drop = Correction(sample.sample_id, "drop", "", "one tone and nothing else")
    score = 1 - look.contrast / thresholds.contrast
    return Case((sample.sample_id,), text, score, (drop,), sample.label or "")

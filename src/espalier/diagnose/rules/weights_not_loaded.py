"""The backbone was meant to start from trained weights, and much of it did not.

What it looks at: the share of the backbone's tensors that were found in the weights file.
Why it matters: what is not loaded is random, and a loader that is not strict says nothing: the
    run looks like a slow one from scratch.
When it is wrong: heads, and layers that were added on purpose, are not in any file; that is why
    a tenth may be missing.
What to do: let the names match, most often by a prefix (`module.`, `backbone.`).
Source: fault C9.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.findings import Evidence, Finding, percent
from espalier.rules import threshold
from espalier.run_record import RunRecord

CODE = "RUN006"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    share: float = threshold(0.9, "share of the backbone's tensors", "found, at least")
    half: float = threshold(0.5, "share of the backbone's tensors", "below which it is an error")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding where tensors of the backbone were not in the weights file."""
    if not subject.require_fact("pretrained"):
        return None
    found = float(subject.require_fact("loaded_share"))
    if found >= thresholds.share:
        return None
    return Finding(
        rule="",
        code="",
        severity="error" if found < thresholds.half else "warning",
        cause=f"only {percent(found)} of the backbone's tensors were found in its weights file; "
        "the rest is random",
        evidence=(Evidence("tensors found", found, thresholds.share, "share"),),
        confidence=0.97,
        advice=(
            "Print the keys of the file beside those of the model, and rename until they match; "
            "then load with strict=True.",
            "If the backbone is meant to start from nothing, say so (model.weights=none).",
        ),
        consequences=(
            "bad_first_loss",
            "learning_rate_too_low",
            "backbone_rate_erases",
            "frozen_by_mistake",
            "under_capacity",
            "underfitting",
            "stopped_too_early",
            "plateau",
            "not_learning",
        ),
    )

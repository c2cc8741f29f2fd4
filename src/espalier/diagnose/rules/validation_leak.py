"""Validation images are also training images.

What it looks at: validation images that are training images byte for byte, or nearly.
Why it matters: what was trained on is recognised, not understood: scores are too good, the wrong
    weights are kept, and overfitting does not show.
When it is wrong: near equality is judged on small thumbnails, and pictures of one object before
    a plain ground look alike; so it weighs less.
What to do: leave out the copies in training; split by group where images come in series.
Source: fault D5 and D6; CIFAR-10 and -100 have 3.3 % and 10 % (Barz and Denzler 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.diagnose.facts import of_all
from espalier.findings import Evidence, Finding, Severity
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN011"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    exact: float = threshold(0.005, "share of validation", "above which copies are a warning")
    error: float = threshold(0.05, "share of validation", "above which the score is wrong")
    all: float = threshold(0.95, "share of validation", "in training, that is one set read twice")
    near: float = threshold(0.01, "share of validation", "above which likenesses are mentioned")
    many: float = threshold(0.05, "share of validation", "above which they are a warning")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """An error, a warning or a note, by the share of validation that is known from training."""
    data = subject.data
    if data.overlap is None and data.near_overlap is None:
        raise CannotJudge("needs a comparison of training and validation files")
    images = data.val_images or subject.val_images
    if not images:
        raise CannotJudge("needs the number of validation images")
    exact, near = (data.overlap or 0) / images, (data.near_overlap or 0) / images
    severity = _severity(exact, near, thresholds)
    if severity is None:
        return None
    copies = exact > 0
    count = data.overlap if copies else data.near_overlap
    what = "are training images as well" if copies else "nearly equal a training image"
    return Finding(
        rule="",
        code="",
        severity=severity,
        cause=f"{of_all(count or 0, images, 'validation images')} {what}",
        evidence=(
            Evidence("validation images in training", exact, thresholds.exact, "share"),
            Evidence("nearly equal to training images", near, thresholds.near, "share"),
        ),
        confidence=0.95 if copies else 0.6,
        advice=(
            _ALL_OF_THEM
            if exact >= thresholds.all
            else "Leave out the copies in training, so that the images that judge stay as they "
            "are: `espalier audit` lists them as corrections.",
            "Where images come in series, keep each series in one split (data.group_by).",
        ),
    )


_ALL_OF_THEM = (
    "Both splits seem to be read from the same place: give validation images of its own, which "
    "training never sees."
)


def _severity(exact: float, near: float, thresholds: Thresholds) -> Severity | None:
    if exact > thresholds.error:
        return "error"
    if exact > thresholds.exact or near > thresholds.many:
        return "warning"
    return "info" if exact > 0 or near > thresholds.near else None

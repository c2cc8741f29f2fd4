"""Many training images are copies of others.

What it looks at: training images that equal another one byte for byte.
Why it matters: copies count several times and hold nothing new; if they were made before the
    split, they also leak into validation.
When it is wrong: rare classes are copied on purpose, to be seen more often. It is never more than
    a note.
What to do: drop the copies, and let class weights or a sampler help rare classes instead.
Source: fault D18.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.diagnose.facts import of_all
from espalier.findings import Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN026"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    share: float = threshold(0.05, "share of the training images", "that may be copies")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A note where many training images are copies."""
    copies, images = subject.data.train_copies, subject.data.train_images
    if copies is None or not images:
        raise CannotJudge("needs a comparison of the training files")
    if copies <= thresholds.share * images:
        return None
    return Finding(
        rule="",
        code="",
        severity="info",
        cause=f"{of_all(copies, images, 'training images')} are copies of others",
        evidence=(Evidence("copies", copies / images, thresholds.share, "share"),),
        confidence=0.95,
        advice=(
            "Drop the copies (`espalier audit` lists them), and help rare classes by weights or "
            "a sampler.",
        ),
    )

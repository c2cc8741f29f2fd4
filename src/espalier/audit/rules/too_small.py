"""Pictures with far fewer pixels than the others, or than training will use.

What it looks at: the short side, against that of the other pictures and the training size.
Why it matters: enlarging adds no detail: a thumbnail among photographs is a blurred photograph.
When it is wrong: pretrained networks can gain from enlarged pictures where all are small.
What to do: find the originals of thumbnails; where all are small, try a smaller training size.
Source: relative to the set, because a set of 32-pixel pictures is in order; fault D17.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from espalier.audit.robust import severity_by_share, share_of
from espalier.audited import Audited
from espalier.findings import Case, Edit, Evidence, Finding
from espalier.records import Sample
from espalier.rules import CannotJudge, threshold

CODE = "AUD004"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    of_usual: float = threshold(0.5, "x usual short side", "below which a picture is a small one")
    of_imgsz: float = threshold(0.5, "x training size", "below which it also loses by that")
    all_of_imgsz: float = threshold(0.33, "x training size", "usual short side, at least")
    share: float = threshold(0.05, "share of the images", "small, from which it is a warning")


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding where single pictures are small, or else where all are."""
    known = subject.readable
    if not known:
        raise CannotJudge("no image can be read")
    normal = statistics.median(_short(sample) for sample in known)
    bound = min(thresholds.of_usual * normal, thresholds.of_imgsz * subject.imgsz)
    small = sorted((s for s in known if _short(s) < bound), key=_short)
    if small:
        return _some_small(small, len(known), normal, bound, thresholds)
    if normal < thresholds.all_of_imgsz * subject.imgsz:
        return _all_small(normal, subject.imgsz, thresholds)
    return None


def _some_small(
    small: list[Sample], of: int, normal: float, bound: float, thresholds: Thresholds
) -> Finding:
    return Finding(
        rule="too_small",
        code=CODE,
        severity=severity_by_share(len(small), of, thresholds.share),
        cause=f"{share_of(len(small), of)} are far smaller than the others: "
        f"down to {_short(small[0])} pixels on the short side, usual {normal:.0f}",
        evidence=(
            Evidence("smallest short side", _short(small[0]), round(bound, 1), "pixels"),
            Evidence("small pictures", len(small) / of, thresholds.share, "share"),
        ),
        advice=(
            "Use the originals if these are thumbnails; else see whether one can tell what "
            "is on them.",
        ),
        cases=tuple(
            Case(
                (s.sample_id,),
                f"{s.width} x {s.height} pixels; usual short side {normal:.0f}",
                1 - _short(s) / bound,
                label=s.label or "",
            )
            for s in small
        ),
    )


def _all_small(normal: float, imgsz: int, thresholds: Thresholds) -> Finding:
    size = 32 * max(1, round(2 * normal / 32))
    bound = round(thresholds.all_of_imgsz * imgsz)
    return Finding(
        rule="too_small",
        code=CODE,
        severity="info",
        cause=f"the usual picture has {normal:.0f} pixels on the short side, "
        f"training enlarges it to {imgsz}",
        evidence=(Evidence("usual short side", normal, bound, "pixels"),),
        confidence=0.5,
        advice=(
            f"Try --imgsz {size}: about {(imgsz / size) ** 2:.0f} times less to compute; "
            "compare macro-F1, because pretrained networks may like large pictures better.",
        ),
        prescription=(
            Edit("training.imgsz", "set", size, "the pictures have no more detail", safe=False),
        ),
    )


def _short(sample: Sample) -> int:
    return min(sample.width, sample.height)

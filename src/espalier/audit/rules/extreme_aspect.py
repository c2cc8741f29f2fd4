"""Pictures far longer than wide, or wider than long: strips and panoramas.

What it looks at: the long side over the short side, against that of the other pictures.
Why it matters: the square that the network sees shows the middle of a strip only (``data.fit``
    crop), or a thin band of it (pad).
When it is wrong: what matters is in the middle of each strip; or the recipe pads already.
What to do: cut strips into several pictures, or train with ``data.fit: pad``.
Source: cleanvision's odd aspect ratio; here relative to the set, and with what a crop keeps.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from espalier.audit.robust import severity_by_share, share_of
from espalier.audited import Audited
from espalier.findings import Case, Edit, Evidence, Finding, percent
from espalier.records import Sample
from espalier.rules import CannotJudge, threshold

CODE = "AUD005"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    aspect: float = threshold(3.0, "long : short side", "from which a picture is a strip")
    of_usual: float = threshold(1.8, "x usual long : short side", "by which it also differs")
    all_aspect: float = threshold(2.0, "long : short side", "usual one that a crop still suits")
    share: float = threshold(0.05, "share of the images", "strips, from which it is a warning")


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding where single pictures are strips, or where the usual picture is long."""
    known = [s for s in subject.readable if s.width and s.height]
    if not known:
        raise CannotJudge("no image can be read")
    normal = statistics.median(_aspect(sample) for sample in known)
    if normal >= thresholds.all_aspect:
        return _all_long(normal, thresholds)
    bound = max(thresholds.aspect, thresholds.of_usual * normal)
    strips = sorted((s for s in known if _aspect(s) >= bound), key=_aspect, reverse=True)
    return _some_long(strips, len(known), normal, bound, thresholds) if strips else None


def _some_long(
    strips: list[Sample], of: int, normal: float, bound: float, thresholds: Thresholds
) -> Finding:
    severity = severity_by_share(len(strips), of, thresholds.share)
    return Finding(
        rule="extreme_aspect",
        code=CODE,
        severity=severity,
        cause=f"{share_of(len(strips), of)} are strips, up to {_aspect(strips[0]):.1f} : 1; "
        f"usual {normal:.1f} : 1",
        evidence=(
            Evidence("longest picture", round(_aspect(strips[0]), 2), bound, "long : short side"),
            Evidence("strips", len(strips) / of, thresholds.share, "share"),
        ),
        advice=(
            "See whether the middle square still shows what the label says; if not, cut the "
            "strip into several pictures.",
        ),
        prescription=(_pad(),) if severity == "warning" else (),
        cases=tuple(_case(sample, bound) for sample in strips),
    )


def _all_long(normal: float, thresholds: Thresholds) -> Finding:
    return Finding(
        rule="extreme_aspect",
        code=CODE,
        severity="warning",
        cause=f"the usual picture is {normal:.1f} : 1, so a square crop shows "
        f"{percent(1 / normal)} of it",
        evidence=(
            Evidence("usual picture", round(normal, 2), thresholds.all_aspect, "long : short side"),
        ),
        confidence=0.7,
        advice=(
            "Train with --set data.fit=pad, which shows the whole picture, or cut each "
            "picture into squares.",
        ),
        prescription=(_pad(),),
    )


def _pad() -> Edit:
    return Edit("data.fit", "set", "pad", "a crop would cut most of long pictures", safe=False)


def _case(sample: Sample, bound: float) -> Case:
    text = (
        f"{sample.width} x {sample.height}, {_aspect(sample):.1f} : 1; "
        f"a square crop shows {percent(1 / _aspect(sample))} of it"
    )
    return Case((sample.sample_id,), text, _aspect(sample) / bound, label=sample.label or "")


def _aspect(sample: Sample) -> float:
    return max(sample.width, sample.height) / min(sample.width, sample.height)

"""Pictures far less sharp than the rest of their set.

What it looks at: fine detail (the Laplacian of the luma at 128 pixels, lightly smoothed, over the
    contrast), on a logarithmic scale, against the median of the set and its spread.
Why it matters: where the detail is gone, labels that rest on it cannot be learnt.
When it is wrong: smooth things in focus (paper, sky, a close view of one leaf) have no detail.
What to do: look at them; leave out those on which you cannot tell the class yourself.
Source: variance of the Laplacian (Pech-Pacheco et al. 2000), made relative to contrast and set.
    Blurred on purpose by 5 % of their short side, 82 to 100 % of five sets are named, and 0 to 7
    of their 276 to 4,750 pictures as they are: soft ones, and smooth paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.audit.robust import severity_by_share, share_of, textured, usual
from espalier.audited import Audited, Look
from espalier.findings import Case, Correction, Evidence, Finding
from espalier.records import Sample
from espalier.rules import threshold

CODE = "AUD007"

_FINEST_LOG_SHARPNESS = 0.15
# A picture without any edge has sharpness 0, which has no logarithm.
_LEAST = 1e-4


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    distance: float = threshold(3.3, "spreads from the median", "of the logarithm, at least")
    of_usual: float = threshold(1 / 4, "x usual sharpness", "below which a picture is blurred")
    sharpness: float = threshold(0.25, "sharpness", "above which no picture is blurred")
    hopeless: float = threshold(0.012, "sharpness", "below which it is to be left out")
    share: float = threshold(0.05, "share of the images", "blurred, from which it is a warning")


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding where pictures are blurred and the set is not."""
    known = textured(subject)
    detail = usual([_log(look) for _, look in known], finest=_FINEST_LOG_SHARPNESS)
    normal = math.exp(detail.median)
    bound = min(
        thresholds.sharpness,
        thresholds.of_usual * normal,
        math.exp(detail.median - thresholds.distance * detail.spread),
    )
    blurred = [(s, look) for s, look in known if look.sharpness < bound]
    if not blurred:
        return None
    blurred.sort(key=lambda one: one[1].sharpness)
    return Finding(
        rule="blurred",
        code=CODE,
        severity=severity_by_share(len(blurred), len(known), thresholds.share),
        cause=f"{share_of(len(blurred), len(known))} are far less sharp than the others: "
        f"down to {blurred[0][1].sharpness:.3f}, usual {normal:.2f}",
        evidence=(
            Evidence("least sharpness", round(blurred[0][1].sharpness, 4), round(bound, 4)),
            Evidence("blurred pictures", len(blurred) / len(known), thresholds.share, "share"),
        ),
        confidence=0.7,
        advice=(
            "Look at them; leave out those on which you cannot tell the class yourself.",
            "Smooth things in focus look like this too: keep those.",
        ),
        cases=tuple(_case(s, look, normal, bound, thresholds) for s, look in blurred),
    )


def _case(sample: Sample, look: Look, normal: float, bound: float, thresholds: Thresholds) -> Case:
    text = f"sharpness {look.sharpness:.3f}, usual {normal:.2f}"
    hopeless = look.sharpness < thresholds.hopeless
    drop = Correction(sample.sample_id, "drop", "", f"blurred: {text}")
    return Case(
        (sample.sample_id,),
        text,
        math.log(bound) - _log(look),
        (drop,) if hopeless else (),
        sample.label or "",
    )


def _log(look: Look) -> float:
    return math.log(max(_LEAST, look.sharpness))

"""Pictures far darker, brighter or paler than the rest of their set.

What it looks at: mean luma and its standard deviation, against the median of the set and its
    spread, and against a bound that no ordinary photograph reaches; not pictures of one tone.
Why it matters: what cannot be seen cannot be learnt; a few such pictures cost little, many a lot.
When it is wrong: night or studio pictures that belong to the set, as long as they are few.
What to do: look at them; leave out those on which you cannot tell the class yourself.
Source: cleanvision's dark and light, made relative to the set: night cameras, X-rays and white
    backgrounds are usual in their own sets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.audit.robust import (
    Usual,
    looked_at,
    severity_by_share,
    share_of,
    shows_nothing,
    textured,
    usual,
)
from espalier.audited import Audited, Look
from espalier.findings import Case, Correction, Evidence, Finding
from espalier.records import Sample
from espalier.rules import threshold

CODE = "AUD006"

# Sets that were all taken in one light differ by less than this without any picture being odd.
_FINEST_BRIGHTNESS = 0.03
_FINEST_LOG_CONTRAST = 0.1


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    distance: float = threshold(3.0, "spreads from the median", "by which a picture differs")
    dark: float = threshold(0.08, "brightness", "below which a picture is dark")
    bright: float = threshold(0.94, "brightness", "above which a picture is bright")
    pale: float = threshold(0.025, "contrast", "below which a picture is pale")
    hopeless: float = threshold(0.025, "brightness from black or white", "to leave out, within")
    share: float = threshold(0.05, "share of the images", "odd, from which it is a warning")


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding where pictures are dark, bright or pale, and the set is not."""
    known = textured(subject)
    light = usual([look.brightness for _, look in known], finest=_FINEST_BRIGHTNESS)
    depth = usual([math.log(look.contrast) for _, look in known], finest=_FINEST_LOG_CONTRAST)
    shown = [one for one in looked_at(subject) if not shows_nothing(one[1])]
    cases = [_case(s, look, light, depth, thresholds) for s, look in shown]
    odd = sorted((case for case in cases if case is not None), key=lambda case: -case.score)
    if not odd:
        return None
    kinds = [case.text.partition(":")[0] for case in odd]
    parts = [f"{kinds.count(kind):,} {kind}" for kind in ("dark", "bright", "pale")]
    return Finding(
        rule="odd_exposure",
        code=CODE,
        severity=severity_by_share(len(odd), len(shown), thresholds.share),
        cause=f"{share_of(len(odd), len(shown))} differ in light from all others: "
        + ", ".join(part for part in parts if not part.startswith("0 ")),
        evidence=(
            Evidence("odd pictures", len(odd) / len(shown), thresholds.share, "share"),
            Evidence("usual brightness", round(light.median, 3)),
            Evidence("usual contrast", round(math.exp(depth.median), 3)),
        ),
        confidence=0.8,
        advice=(
            "Look at them; leave out those on which you cannot tell the class yourself.",
            "Keep the others if such pictures will come up in use.",
        ),
        cases=tuple(odd),
    )


def _case(
    sample: Sample, look: Look, light: Usual, depth: Usual, thresholds: Thresholds
) -> Case | None:
    brighter = light.distance(look.brightness)
    paler = -depth.distance(math.log(look.contrast))
    figure = f"brightness {look.brightness:.2f}, usual {light.median:.2f}"
    if brighter < -thresholds.distance and look.brightness < thresholds.dark:
        text, score = f"dark: {figure}", -brighter
    elif brighter > thresholds.distance and look.brightness > thresholds.bright:
        text, score = f"bright: {figure}", brighter
    elif paler > thresholds.distance and look.contrast < thresholds.pale:
        text = f"pale: contrast {look.contrast:.3f}, usual {math.exp(depth.median):.3f}"
        score = paler
    else:
        return None
    return Case(
        (sample.sample_id,), text, score, _drop(sample, look, text, thresholds), sample.label or ""
    )


def _drop(sample: Sample, look: Look, text: str, thresholds: Thresholds) -> tuple[Correction, ...]:
    """Only what is all but black or white: the rest is for a person to judge."""
    from_end = min(look.brightness, 1 - look.brightness)
    if from_end > thresholds.hopeless:
        return ()
    return (Correction(sample.sample_id, "drop", "", text),)

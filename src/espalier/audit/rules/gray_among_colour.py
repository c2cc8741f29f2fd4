"""Gray pictures in a set of coloured ones, or a few coloured ones in a gray set.

What it looks at: whether the pixels of a picture have any colour, per picture and per class.
Why it matters: where the gray ones gather in one class, the network learns "gray" and not the
    class; where they do not, they are merely a few pictures without one clue.
When it is wrong: gray is what the class looks like, and it will be so in use.
What to do: where one class is grayer, gather coloured pictures of it, or make all pictures gray.
Source: cleanvision's grayscale; the tie to a class is what makes it a shortcut (Geirhos 2020).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from espalier.audit.robust import looked_at, share_of
from espalier.audited import Audited
from espalier.findings import Case, Evidence, Finding, percent
from espalier.rules import threshold

CODE = "AUD008"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    colour: float = threshold(0.003, "distance from gray", "below which a picture is gray")
    tied: float = threshold(0.3, "difference of shares", "of one class and the others, a shortcut")
    errors: float = threshold(3.0, "standard errors", "by which the two shares differ at least")


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding where a set is gray and coloured; a warning where the class tells which."""
    known = looked_at(subject)
    gray = [s for s, look in known if look.colour < thresholds.colour]
    coloured = [s for s, look in known if look.colour >= thresholds.colour]
    if not gray or not coloured:
        return None
    word, few = ("coloured", coloured) if len(coloured) < len(gray) else ("gray", gray)
    totals = Counter(s.label for s, _ in known if s.label)
    found = Counter(s.label for s in few if s.label)
    name, gap = _most_tied(found, totals, thresholds.errors)
    tied = gap > thresholds.tied
    return Finding(
        rule="gray_among_colour",
        code=CODE,
        severity="warning" if tied else "info",
        cause=f"{share_of(len(few), len(known))} are {word}, the others are not"
        + (f"; of {name} it is {percent(found[name] / totals[name])}" if tied else ""),
        evidence=(
            Evidence(f"{word} pictures", len(few) / len(known), None, "share"),
            Evidence("most in one class, above the others", gap, thresholds.tied, "share", name),
        ),
        confidence=0.9,
        advice=_advice(word, name if tied else ""),
        cases=tuple(
            Case((s.sample_id,), f"{word}, class {s.label or 'unknown'}", label=s.label or "")
            for s in few
        ),
    )


def _most_tied(found: Counter[str], totals: Counter[str], errors: float) -> tuple[str, float]:
    """The class with the largest share above that of all others; 0 where that can be chance."""
    everything, every = sum(found.values()), sum(totals.values())
    best = ("", 0.0)
    for name, total in totals.items():
        rest = every - total
        if rest == 0:
            continue
        gap = found[name] / total - (everything - found[name]) / rest
        share = everything / every
        error = math.sqrt(share * (1 - share) * (1 / total + 1 / rest))
        if gap > max(best[1], errors * error):
            best = (name, gap)
    return best


def _advice(word: str, name: str) -> tuple[str, ...]:
    if not name:
        return ("Nothing, if such pictures will come up in use; else leave them out.",)
    return (
        f"The network can tell {name} by its being {word}: gather pictures of it like the others, "
        "or turn all pictures gray, until both kinds are in every class.",
    )

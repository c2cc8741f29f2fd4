"""Photographs that are stored sideways, with a note in the file on how to turn them.

What it looks at: the EXIF orientation of each file.
Why it matters: Espalier turns them upright; programs that ignore the note show them sideways,
    and a model that is used there sees pictures it was not trained on.
When it is wrong: the note itself is wrong, as some editors leave it behind after turning the file.
What to do: look at a few; where they are sideways here, remove the note or turn the file.
Source: EXIF 2.32, tag 274; it is ``info`` always, for training is not harmed by it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from espalier.audit.robust import looked_at, share_of
from espalier.audited import Audited
from espalier.findings import Case, Evidence, Finding
from espalier.rules import CannotJudge, threshold

CODE = "AUD009"

_WORDS = {
    2: "mirrored",
    3: "upside down",
    4: "mirrored and upside down",
    5: "mirrored and sideways",
    6: "turned to the left",
    7: "mirrored and sideways",
    8: "turned to the right",
}


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    files: float = threshold(0, "files", "that are stored turned, at most")


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding where files are stored turned or mirrored."""
    known = looked_at(subject)
    if all(not look.form for _, look in known):
        raise CannotJudge("these images are no files of their own, so they have no EXIF")
    turned = [(s, _WORDS[look.orientation]) for s, look in known if look.orientation in _WORDS]
    if len(turned) <= thresholds.files:
        return None
    kinds = Counter(word for _, word in turned)
    # A camera turns, but it does not mirror: mirrored ones are odd, so they come first.
    turned.sort(key=lambda one: not one[1].startswith("mirrored"))
    return Finding(
        rule="rotated_by_exif",
        code=CODE,
        severity="info",
        cause=f"{share_of(len(turned), len(known))} are stored turned and are put upright here: "
        + ", ".join(f"{n:,} {word}" for word, n in kinds.most_common()),
        evidence=(Evidence("files stored turned", len(turned), thresholds.files),),
        advice=(
            "Nothing, for Espalier; where the model is used elsewhere, turn pictures there too.",
        ),
        cases=tuple(
            Case(
                (s.sample_id,),
                f"stored {word}",
                2.0 if word.startswith("mirrored") else 1.0,
                label=s.label or "",
            )
            for s, word in turned
        ),
    )

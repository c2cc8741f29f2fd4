"""Files whose name says another format than their bytes.

What it looks at: the end of each file name, against the format that the bytes declare.
Why it matters: Espalier goes by the bytes and reads them; other programs go by the name and fail.
When it is wrong: never about the bytes; it is harmless as long as only Espalier reads the files.
What to do: rename the files where other programs must read them.
Source: the format as Pillow recognises it; it is ``info`` always, for no score suffers from it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import PurePath

from espalier.audit.robust import looked_at, share_of
from espalier.audited import Audited, Look
from espalier.findings import Case, Evidence, Finding, listed
from espalier.records import Sample
from espalier.rules import CannotJudge, threshold

CODE = "AUD002"

_ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k"),
    "HEIF": (".heic", ".heif"),
}
# Phones write several pictures into one JPEG file, which Pillow calls MPO.
_SAME = {"MPO": "JPEG", "DIB": "BMP"}


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    files: float = threshold(0, "files", "with another format than their name says, at most")


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding where a file is not what its name says."""
    named = [(s, look) for s, look in looked_at(subject) if look.form and _ending(s)]
    if not named:
        raise CannotJudge("these images are no files of their own, so they have no endings")
    wrong = [(s, _form(look)) for s, look in named if _is_wrong(s, look)]
    if len(wrong) <= thresholds.files:
        return None
    kinds = Counter(f"{_ending(s)} that is {form}" for s, form in wrong)
    return Finding(
        rule="wrong_extension",
        code=CODE,
        severity="info",
        cause=f"{share_of(len(wrong), len(named), 'files')} have another format than their name "
        f"says: {listed([f'{n:,} {kind}' for kind, n in kinds.most_common()], 3)}",
        evidence=(Evidence("files with a wrong ending", len(wrong), thresholds.files),),
        advice=("Nothing, for Espalier; rename them where other programs must read them.",),
        cases=tuple(
            Case((s.sample_id,), f"named {_ending(s)}, holds {form}", 1.0, label=s.label or "")
            for s, form in wrong
        ),
    )


def _ending(sample: Sample) -> str:
    return PurePath(sample.path).suffix.lower()


def _form(look: Look) -> str:
    return _SAME.get(look.form, look.form)


def _is_wrong(sample: Sample, look: Look) -> bool:
    """Endings and formats that are not in the list are left alone."""
    ending, form = _ending(sample), _form(look)
    known = any(ending in endings for endings in _ENDINGS.values())
    return known and form in _ENDINGS and ending not in _ENDINGS[form]

"""``audit.html``: one page that holds all that an audit found, pictures included."""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template

from espalier.audited import Audited
from espalier.files import write_text
from espalier.findings import Report
from espalier.records import Sample
from espalier.report.audit_cases import THUMBNAIL_SIDE, Gallery
from espalier.report.audit_data import data_section, difficulty_section, map_section
from espalier.report.audit_findings import findings_section, found_section
from espalier.report.audit_galleries import Thumbnail, fitted
from espalier.report.findings_text import rule_text, skipped_by_reason, verdict_text
from espalier.report.markup import Markup, bullets, data_uri, element, escaped, joined, path_name

# Of all findings together: at 5 to 8 kB each the page stays below 5 MB with its pictures.
MOST_THUMBNAILS = 320
_QUALITY = 72
_VERDICTS = {
    "error": "Something is wrong: see to it before training",
    "warning": "Results will suffer from what was found",
    "info": "Nothing serious was found",
    "clear": "Nothing was found",
}


def write_page(
    audited: Audited,
    report: Report,
    pictures: Mapping[str, Path],
    thumbnail: Thumbnail,
    path: Path,
) -> Path:
    """Write an audit as one HTML file that needs no network, no script and no other file.

    Args:
        audited: What was looked at.
        report: What was found.
        pictures: PNG or JPEG files by name: ``classes``, ``weights``, ``augmented``, ``map``,
            ``difficulty``; those that are missing are left out.
        thumbnail: Gives the pixels of an image; None where it cannot be read.
        path: The file to write, whole.

    Raises:
        DiskError: The file could not be written; what was there before is untouched.
    """
    gallery = Gallery(
        audited.samples, audited.catalog.source, _Thumbnails(thumbnail).uri, MOST_THUMBNAILS
    )
    body = joined(
        found_section(report),
        findings_section(report, gallery),
        data_section(audited, pictures),
        map_section(audited, pictures),
        difficulty_section(audited, pictures),
        _order_section(report),
        _skipped_section(report),
        _notes_section(report, audited),
    )
    source = audited.catalog.source
    write_text(
        path,
        _template().substitute(
            title=escaped(f"Audit of {Path(source).name or source}"),
            head=_head(report, source),
            body=body,
            foot=escaped("Written by espalier audit. Nothing of your data was changed."),
        ),
    )
    return path


def _template() -> Template:
    file = resources.files("espalier.report") / "templates" / "audit.html"
    return Template(file.read_text(encoding="utf-8"))


class _Thumbnails:
    """Small JPEG pictures as addresses, each made once."""

    def __init__(self, thumbnail: Thumbnail) -> None:
        self.thumbnail = thumbnail
        self.made: dict[str, str | None] = {}

    def uri(self, sample: Sample) -> str | None:
        """The picture of an image; None where it cannot be read."""
        if sample.sample_id not in self.made:
            self.made[sample.sample_id] = self._make(sample)
        return self.made[sample.sample_id]

    def _make(self, sample: Sample) -> str | None:
        from PIL import Image

        pixels = self.thumbnail(sample) if sample.status == "ok" else None
        if pixels is None:
            return None
        encoded = io.BytesIO()
        image = Image.fromarray(fitted(pixels, THUMBNAIL_SIDE))
        image.save(encoded, "JPEG", quality=_QUALITY, optimize=True)
        return data_uri("image/jpeg", encoded.getvalue())


def _head(report: Report, source: str) -> Markup:
    sections = (
        ("found", "What was found"),
        ("findings", "One by one"),
        ("data", "The data"),
        ("map", "Map"),
        ("difficulty", "Hard classes"),
        ("order", "In order"),
        ("skipped", "Not judged"),
    )
    links = [
        element("a", text, href=f"#{place}")
        for place, text in sections
        if report.findings or place != "findings"
    ]
    verdict = element(
        "div",
        element("strong", _VERDICTS[report.verdict]),
        verdict_text(report) + ".",
        class_=f"verdict {report.verdict}",
    )
    title = element("h1", "Audit of ", path_name(source))
    return joined(title, verdict, element("nav", bullets(links), aria_label="Sections"))


def _order_section(report: Report) -> Markup:
    items = [escaped(rule_text(rule)) for rule in report.clear]
    text = "These were looked for and not found." if items else "Every check found something."
    if not items and not report.findings:
        text = "No check could judge."
    parts = (element("h2", "Looked at and in order"), element("p", text), bullets(items))
    return element("section", *parts, id="order")


def _skipped_section(report: Report) -> Markup:
    items = [
        joined(element("strong", ", ".join(rules)), ": ", reason)
        for reason, rules in skipped_by_reason(report).items()
    ]
    content = bullets(items) if items else element("p", "All checks could judge.")
    title = element("h2", "What could not be judged, and why")
    return element("section", title, content, id="skipped")


def _notes_section(report: Report, audited: Audited) -> Markup:
    notes = dict.fromkeys((*report.notes, *audited.catalog.notes))
    if not notes:
        return Markup()
    items = [escaped(note) for note in notes]
    return element("section", element("h2", "How the data was read"), bullets(items), id="notes")

"""The cases of a finding as HTML: what belongs together side by side, classes as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espalier.findings import Case, Finding
from espalier.records import Sample
from espalier.report.audit_galleries import (
    MOST_OF_CASE,
    Shown,
    cases_with_images,
    relative_path,
    shown_images,
)
from espalier.report.markup import (
    Markup,
    bullets,
    element,
    escaped,
    html_table,
    joined,
    name,
    path_name,
)

THUMBNAIL_SIDE = 160
MOST_CASES, FEWEST_CASES = 24, 4
MOST_LISTED = 200


@dataclass(frozen=True)
class Gallery:
    """What thumbnails are made from.

    Attributes:
        samples: ``sample_id`` -> sample.
        source: What the user named; paths are shown as seen from there.
        uri: Address of the thumbnail of an image; None where it cannot be read.
        most: Thumbnails of all findings together.
    """

    samples: Mapping[str, Sample]
    source: str
    uri: Callable[[Sample], str | None]
    most: int

    def cases_each(self, findings: Sequence[Finding]) -> int:
        """How many cases of each finding are shown, so that all together stay small."""
        wanted = sum(_thumbnails(cases_with_images(f, self.samples)) for f in findings)
        share = min(1.0, self.most / max(1, wanted))
        return max(FEWEST_CASES, int(MOST_CASES * share))


def _thumbnails(cases: Sequence[Case]) -> int:
    return sum(min(len(case.samples), MOST_OF_CASE) for case in cases[:MOST_CASES])


def cases_of(finding: Finding, gallery: Gallery, limit: int) -> Markup:
    """All cases: the strongest with thumbnails, the others in words, classes as a table."""
    cases = cases_with_images(finding, gallery.samples)
    parts = [_class_table([case for case in finding.cases if not case.samples])]
    if cases:
        items = [_case(case, gallery) for case in cases[:limit]]
        parts.append(element("ul", *items, class_="cases"))
    return joined(*parts, _listed(cases[limit:], gallery))


def _class_table(cases: Sequence[Case]) -> Markup:
    if not cases:
        return Markup()
    rows: list[list[str]] = [[name(c.label or "all"), c.text] for c in cases[:MOST_LISTED]]
    more = f", {MOST_LISTED} of {len(cases):,}" if len(cases) > MOST_LISTED else ""
    return html_table(f"The classes concerned{more}", ["class", "what"], rows, class_="small")


def _case(case: Case, gallery: Gallery) -> Markup:
    images = shown_images(case, gallery.samples, gallery.source)
    figures = element("div", *(_figure(image, gallery) for image in images), class_="images")
    more = _names(case, gallery) if len(case.samples) > len(images) else Markup()
    text = element("p", case.text) if case.text else Markup()
    return element("li", text, figures, more, class_="case")


def _figure(image: Shown, gallery: Gallery) -> Markup:
    uri = gallery.uri(image.sample) if image.sample else None
    if uri is None:
        reason = image.sample.reason if image.sample else ""
        picture = element("div", reason or "cannot be shown", class_="absent")
    else:
        alt = f"{image.name} ({image.facts})"
        shown = element("img", src=uri, alt=alt, loading="lazy")
        address = _address(image.sample)
        picture = element("a" if address else "div", shown, href=address)
    caption = [
        element("span", path_name(image.name), class_="quiet"),
        element("span", name(image.facts)),
    ]
    if image.action:
        caption.append(element("span", name(image.action), class_="todo"))
    return element("figure", picture, element("figcaption", *caption))


def _address(sample: Sample | None) -> str | None:
    """Where a click leads: the photograph itself, where it is a file."""
    path = Path(sample.path) if sample else None
    return path.as_uri() if path and path.is_absolute() else None


def _names(case: Case, gallery: Gallery) -> Markup:
    """All images of a large group by name."""
    paths = [_path(sample, gallery) for sample in case.samples]
    summary = element("summary", f"all {len(paths):,} images")
    return element("details", summary, bullets([path_name(path) for path in paths[:MOST_LISTED]]))


def _path(sample: str, gallery: Gallery) -> str:
    found = gallery.samples.get(sample)
    return relative_path(found.path, gallery.source) if found else sample


def _listed(cases: Sequence[Case], gallery: Gallery) -> Markup:
    """Weaker cases, in words alone."""
    if not cases:
        return Markup()
    items = []
    for case in cases[:MOST_LISTED]:
        paths = [_path(sample, gallery) for sample in case.samples[:MOST_OF_CASE]]
        named = [part for path in paths for part in (path_name(path), ", ")][:-1]
        items.append(joined(*named, ": " if case.text else "", case.text))
    if len(cases) > MOST_LISTED:
        items.append(escaped(f"and {len(cases) - MOST_LISTED:,} more"))
    summary = element("summary", f"{len(cases):,} more, by name")
    return element("details", summary, bullets(items))

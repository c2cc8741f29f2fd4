"""What the data is, as HTML: counts, sizes, formats and their pictures; the map; hard classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from espalier.audited import Audited
from espalier.records import SPLITS, Sample, counts_line
from espalier.report.audit_difficulty import class_difficulty, confused_text, difficulty_words
from espalier.report.audit_pictures import distribution_words
from espalier.report.markup import Markup, data_uri, element, html_table, joined, name
from espalier.report.numbers import score_text

_TITLES = {
    "classes": "Images per class",
    "weights": "Class weights",
    "augmented": "Augmented photographs",
}
_KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


def data_section(audited: Audited, pictures: Mapping[str, Path]) -> Markup:
    """Counts, sizes and formats; the pictures of classes, weights and augmentation."""
    counts = audited.catalog.counts()
    alts = {
        "classes": "Bars: " + "; ".join(distribution_words(counts)) if counts else "No classes",
        "weights": "Bars: the weight that each strategy gives each class",
        "augmented": "The same photographs as each augmentation policy may show them",
    }
    drawn = [
        joined(element("h3", title, class_="unseen"), picture(pictures[key], alts[key]))
        for key, title in _TITLES.items()
        if key in pictures
    ]
    facts = html_table("In figures", ["what", "how much"], facts_rows(audited), class_="small")
    parts = (element("h2", "The data"), facts, *drawn, _counts_table(audited))
    return element("section", *parts, id="data")


def facts_rows(audited: Audited) -> list[list[str]]:
    """What the data is, in figures: name and value."""
    catalog = audited.catalog
    rows = [["all", counts_line(catalog.counts())]]
    rows += [
        [split, counts_line(catalog.counts(split))] for split in SPLITS if catalog.in_split(split)
    ]
    rows.append(["split", "as you made it" if audited.given_split else "made by us"])
    unlabelled = sum(sample.label is None for sample in audited.readable)
    if unlabelled:
        rows.append(["images without a label", f"{unlabelled:,}"])
    rows.append(["files that cannot be read", f"{len(catalog.unreadable):,}"])
    groups = len({sample.group for sample in audited.readable if sample.group})
    if groups:
        rows.append(["groups", f"{groups:,}"])
    forms = Counter(look.form for look in audited.looks.values())
    if forms:
        rows.append(["formats", ", ".join(f"{f} {n:,}" for f, n in forms.most_common(6))])
    return rows + _size_rows(audited.readable, audited.imgsz)


def _size_rows(readable: tuple[Sample, ...], imgsz: int) -> list[list[str]]:
    sized = sorted((s for s in readable if s.width and s.height), key=lambda s: s.width * s.height)
    if not sized:
        return []
    places = {"smallest": sized[0], "middle": sized[len(sized) // 2], "largest": sized[-1]}
    text = "; ".join(f"{word} {s.width:,} x {s.height:,}" for word, s in places.items())
    return [["pixels", text], ["trained on at", f"{imgsz} x {imgsz} pixels"]]


def _counts_table(audited: Audited) -> Markup:
    catalog = audited.catalog
    if not catalog.classes:
        return Markup()
    splits = [split for split in SPLITS if catalog.in_split(split)]
    columns = [catalog.counts(), *(catalog.counts(split) for split in splits)]
    rows = [[name(label), *(f"{c[label]:,}" for c in columns)] for label in catalog.classes]
    heads = ["class", "all", *splits]
    table = html_table("Images per class", heads, [[*row] for row in rows], class_="small")
    return element("details", element("summary", "Images per class as a table"), table)


def map_section(audited: Audited, pictures: Mapping[str, Path]) -> Markup:
    """The map of the images, or why there is none."""
    title = element("h2", "Map of the images")
    if "map" not in pictures:
        reason = audited.unknown.get("embedded", "it was not drawn")
        return element("section", title, element("p", f"There is no map: {reason}."), id="map")
    text = element(
        "p",
        "Each point is an image. Points of another colour in the midst of a group may be labelled "
        "wrongly; groups of one split alone say that the splits differ.",
    )
    alt = "Scatter plot of the images, coloured by class and, beside it, by split"
    return element("section", title, text, picture(pictures["map"], alt), id="map")


def difficulty_section(audited: Audited, pictures: Mapping[str, Path]) -> Markup:
    """How hard each class is by a linear head, as picture and table, or why that is not known."""
    title = element("h2", "How hard each class is")
    embedded = audited.embedded
    found = class_difficulty(embedded, audited.catalog.classes) if embedded else ()
    if not found:
        reason = audited.unknown.get("embedded", "too few images to judge")
        return element("section", title, element("p", f"Not known: {reason}."), id="difficulty")
    alt = "Bars: " + "; ".join(difficulty_words(found))
    drawn = picture(pictures["difficulty"], alt) if "difficulty" in pictures else Markup()
    rows: list[list[str]] = [
        [name(d.name), f"{d.support:,}", score_text(d.recall), name(confused_text(d))]
        for d in found
    ]
    heads = ["class", "images", "recognised, with 95 % interval", "taken for"]
    table = html_table("By a linear head, hardest first", heads, rows, class_="small")
    details = element("details", element("summary", "As a table"), table)
    return element("section", title, drawn, details, id="difficulty")


def picture(path: Path, alt: str) -> Markup:
    """A picture file within the page; it scrolls by itself on narrow screens."""
    data = path.read_bytes()
    with Image.open(path) as opened:
        width, height = opened.size
    uri = data_uri(_KINDS[path.suffix.lower()], data)
    image = element("img", src=uri, alt=alt, width=width, height=height)
    frame = element("div", image, class_="wide", tabindex=0, role="region", aria_label=alt)
    return element("figure", frame, class_="picture")

"""``report.html``: one page about a run: verdict, causes, curves with findings on them, scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template

from espalier.files import write_text
from espalier.findings import Evidence, Finding, Report
from espalier.metrics import ClassScore
from espalier.report.audit_findings import number_text
from espalier.report.diagnosis_curves import Panel, draw_panel, panels_of
from espalier.report.diagnosis_places import Place, place_of
from espalier.report.diagnosis_text import (
    ENDED,
    RECORD_MORE,
    causes_of,
    counted_text,
    following,
    recipe_words,
    shown_edits,
    sure_text,
)
from espalier.report.findings_text import rule_text, skipped_by_reason
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
from espalier.report.numbers import score_text
from espalier.report.text import METRIC_NAMES
from espalier.report.worth import Judged
from espalier.run_record import RunRecord

MOST_CLASSES = 200
_BADGES = {"error": "Error", "warning": "Warning", "info": "Note"}
_VERDICTS = {
    "error": "Something is wrong",
    "warning": "The result suffers from what was found",
    "info": "Nothing wrong was found",
    "clear": "Too little is on record to call it healthy",
}


def write_page(
    record: RunRecord,
    report: Report,
    path: Path,
    *,
    families: Mapping[str, Sequence[str]],
    commands: Mapping[str, str],
    judged: Sequence[Judged] = (),
) -> Path:
    """Write a diagnosis as one HTML file that needs no network, no script and no other file.

    Args:
        record: The run.
        report: What the doctor found in it: causes first.
        path: The file to write, whole.
        families: What rules look at -> names of those that are in order.
        commands: Rule -> the command that does what its finding prescribes; empty where none does,
            and no entry for a run that has no recipe.
        judged: Scores of validation and test, where they are on record.

    Raises:
        DiskError: The file could not be written; what was there before is untouched.
    """
    places = {
        finding.rule: place
        for number, finding in enumerate(report.findings, start=1)
        if (place := place_of(record, finding, number)) is not None
    }
    panels = panels_of(record)
    body = joined(
        _found_section(record, report, panels, places, commands),
        _curves_section(record, report, panels, places),
        _scores_section(record, judged),
        _order_section(report, families),
        _skipped_section(report),
        _notes_section(report),
    )
    run = Path(record.path).name or record.path
    page = _template().substitute(
        title=escaped(f"Run {run}"),
        head=_head(record, report),
        body=body,
        foot=escaped("Written by espalier diagnose. Nothing of the run was changed."),
    )
    write_text(path, page)
    return path


def _template() -> Template:
    file = resources.files("espalier.report") / "templates" / "audit.html"
    return Template(file.read_text(encoding="utf-8"))


def _head(record: RunRecord, report: Report) -> Markup:
    sections = (
        ("found", "What was found"),
        ("curves", "Curves"),
        ("scores", "Scores"),
        ("order", "In order"),
        ("skipped", "Not judged"),
    )
    links = [element("a", text, href=f"#{place}") for place, text in sections]
    text = _sentence(counted_text(report)) + "."
    severity = "clear" if report.verdict == "info" else report.verdict
    strong = element("strong", _VERDICTS[report.verdict])
    verdict = element("div", strong, text, class_=f"verdict {severity}")
    epochs = f"{len(record.epochs)} epoch{'' if len(record.epochs) == 1 else 's'}"
    about = f"{record.tool}, {epochs}, {ENDED[record.ended]}"
    return joined(
        element("h1", "Run ", path_name(record.path)),
        element("p", about, class_="quiet"),
        verdict,
        element("nav", bullets(links), aria_label="Sections"),
    )


def _found_section(
    record: RunRecord,
    report: Report,
    panels: Sequence[Panel],
    places: Mapping[str, Place],
    commands: Mapping[str, str],
) -> Markup:
    title = element("h2", "What was found")
    causes = causes_of(report)
    if not causes:
        text = element("p", "Nothing that you need to see to, and too little to call it healthy.")
        return element("section", title, text, element("p", RECORD_MORE), id="found")
    articles = [
        _cause(record, report, finding, panels, places, commands.get(finding.rule))
        for finding in causes
    ]
    return element("section", title, *articles, id="found")


def _cause(
    record: RunRecord,
    report: Report,
    finding: Finding,
    panels: Sequence[Panel],
    places: Mapping[str, Place],
    command: str | None,
) -> Markup:
    """One cause: what to do first, then what it rests on, where it is seen, what follows."""
    number = report.findings.index(finding) + 1
    healthy = finding.rule == "healthy"
    badge = "Healthy" if healthy else _BADGES[finding.severity]
    mark = "clear" if healthy else finding.severity
    sure = f"; {sure_text(finding)}"
    about = f" {number} · {rule_text(finding.rule)} {finding.code}"
    place = f"finding-{number}"
    return element(
        "article",
        element("h3", _sentence(finding.cause), id=f"{place}-title"),
        element(
            "p", element("span", badge, class_=f"badge {mark}"), about,
            "" if healthy or finding.confidence >= 1 else sure, class_="quiet",
        ),
        _treatment(finding, command, healthy),
        _evidence(finding),
        _seen(record, panels, places.get(finding.rule)),
        _following(report, finding, healthy),
        class_=f"finding {mark}",
        id=place,
        aria_labelledby=f"{place}-title",
    )  # fmt: skip


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _treatment(finding: Finding, command: str | None, healthy: bool) -> Markup:
    items = [escaped(text) for text in finding.advice]
    where = f"{_sentence(recipe_words(command))}: "
    items += [joined(where, element("code", text)) for text in shown_edits(finding, command)]
    if command:
        items.append(joined("A new run with that: ", element("code", command)))
    if not items:
        return Markup()
    title = "What would still improve it most" if healthy else "Do this"
    return joined(element("h4", title), bullets(items, class_="advice"))


def _evidence(finding: Finding) -> Markup:
    if not finding.evidence:
        return Markup()
    rows = [_evidence_row(entry) for entry in finding.evidence]
    heads = ["measured", "value", "compared with", "where"]
    shown = [i for i in range(4) if any(row[i] for row in rows)]
    cut = [[row[i] for i in shown] for row in rows]
    return html_table("Evidence", [heads[i] for i in shown], cut, class_="small")


def _evidence_row(entry: Evidence) -> list[str]:
    limit = "" if entry.threshold is None else number_text(entry.threshold, entry.unit)
    return [entry.name, number_text(entry.value, entry.unit), limit, entry.where]


def _seen(record: RunRecord, panels: Sequence[Panel], place: Place | None) -> Markup:
    """The curve that a finding speaks of, with nothing but it on it."""
    panel = next((p for p in panels if place is not None and p.key == place.curve), None)
    if panel is None or place is None:
        return Markup()
    words = place.text or "It is about the whole run."
    picture = draw_panel(panel, [place], _last_epoch(record))
    caption = element("figcaption", f"Seen here: {words}" if place.text else words)
    return element("figure", picture, caption, style="max-width:620px;margin:14px 0")


def _following(report: Report, finding: Finding, healthy: bool) -> Markup:
    found = () if healthy else following(report, finding)
    if not found:
        return Markup()
    items = [
        element("span", joined(_sentence(one.cause), f" ({one.code})"),
                id=f"finding-{report.findings.index(one) + 1}")
        for one in found
    ]  # fmt: skip
    return joined(element("h4", "What follows from it"), bullets(items))


def _last_epoch(record: RunRecord) -> float:
    return float(record.epochs[-1].epoch) if record.epochs else 1.0


def _curves_section(
    record: RunRecord, report: Report, panels: Sequence[Panel], places: Mapping[str, Place]
) -> Markup:
    title = element("h2", "Curves, with the findings on them")
    if not panels:
        text = element("p", "No figure of any epoch is on record.")
        return element("section", title, text, id="curves")
    figures = []
    for panel in panels:
        own = [place for place in places.values() if place.curve == panel.key]
        picture = draw_panel(panel, own, _last_epoch(record))
        links = [_link(report.findings[place.number - 1], place) for place in own]
        caption = [element("figcaption", bullets(links))] if links else []
        figures.append(
            element("figure", picture, *caption, style="flex:1 1 460px;max-width:620px;margin:0")
        )
    grid = element("div", *figures, style="display:flex;flex-wrap:wrap;gap:28px")
    return element("section", title, grid, id="curves")


def _link(finding: Finding, place: Place) -> Markup:
    cause = element("a", _sentence(finding.cause), href=f"#finding-{place.number}")
    return joined(f"{place.number}: ", cause, f" ({place.text})" if place.text else "")


def _scores_section(record: RunRecord, judged: Sequence[Judged]) -> Markup:
    title = element("h2", "Scores")
    parts = []
    if judged:
        names = list(judged[0].scores)
        rows = [
            [f"{j.split} ({j.images:,} images)", *(score_text(j.scores[n]) for n in names)]
            for j in judged
        ]
        heads = ["images", *(METRIC_NAMES.get(n, n) for n in names)]
        parts.append(html_table("Best weights, with 95 % intervals", heads, rows, class_="small"))
        classes: Sequence[ClassScore] = judged[-1].per_class
        where = judged[-1].split
    else:
        classes, where = _of_confusion(record), "validation, last epoch"
    if not parts and not classes:
        parts.append(element("p", "No predictions are on record."))
    return element("section", title, *parts, _classes_table(classes, where), id="scores")


def _of_confusion(record: RunRecord) -> list[ClassScore]:
    """Scores of each class from the confusion matrix of the record; none without one."""
    counts = record.confusion or ()
    names = record.facts.val_classes or record.facts.classes
    scores = []
    for i, row in enumerate(counts):
        support, called = sum(row), sum(other[i] for other in counts)
        hits = row[i]
        label = names[i] if names and i < len(names) else f"class {i}"
        f1 = 2 * hits / (support + called) if support + called else 0.0
        scores.append(ClassScore(label, hits / called if called else 0.0,
                                 hits / support if support else 0.0, f1, support))  # fmt: skip
    return scores


def _classes_table(classes: Sequence[ClassScore], where: str) -> Markup:
    known = sorted((c for c in classes if c.support), key=lambda c: (c.f1, c.name))
    if not known:
        return Markup()
    rows: list[list[str]] = [
        [name(c.name), f"{c.f1:.3f}", f"{c.recall:.3f}", f"{c.precision:.3f}", f"{c.support:,}"]
        for c in known[:MOST_CLASSES]
    ]
    more = f", {MOST_CLASSES} of {len(known):,}" if len(known) > MOST_CLASSES else ""
    heads = ["class", "F1", "recall", "precision", "images"]
    return html_table(f"Classes, the worst first ({where}{more})", heads, rows, class_="small")


def _order_section(report: Report, families: Mapping[str, Sequence[str]]) -> Markup:
    items = [
        joined(element("strong", _sentence(family)), ": ", ", ".join(map(rule_text, rules)))
        for family, rules in families.items()
        if rules
    ]
    text = "These were looked for and not found." if items else "No check found things in order."
    parts = (element("h2", "Looked at and in order"), element("p", text), bullets(items))
    return element("section", *parts, id="order")


def _skipped_section(report: Report) -> Markup:
    items = [
        joined(element("strong", _sentence(reason)), ": ", ", ".join(rules))
        for reason, rules in skipped_by_reason(report).items()
    ]
    content = bullets(items) if items else element("p", "All checks could judge.")
    title = element("h2", "What could not be judged, and why")
    return element("section", title, content, id="skipped")


def _notes_section(report: Report) -> Markup:
    if not report.notes:
        return Markup()
    items = [escaped(note) for note in report.notes]
    return element("section", element("h2", "How the run was read"), bullets(items), id="notes")

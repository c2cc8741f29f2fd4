"""Findings as HTML: all in one table by severity, then one by one with evidence and advice."""

from __future__ import annotations

from espalier.findings import Evidence, Finding, Report
from espalier.report.audit_cases import Gallery, cases_of
from espalier.report.findings_text import concerned_text, edit_text, rule_text
from espalier.report.markup import Markup, bullets, element, escaped, html_table, joined

_WORDS = {"error": "Error", "warning": "Warning", "info": "Note"}


def found_section(report: Report) -> Markup:
    """All findings in one table: how bad, what, how many, what to do first."""
    title = element("h2", "What was found")
    if not report.findings:
        text = element("p", "Nothing that you need to see to.")
        return element("section", title, text, id="found")
    rows: list[list[str]] = [
        [
            element("span", _WORDS[finding.severity], class_=f"badge {finding.severity}"),
            element("a", finding.cause, href=f"#finding-{number}"),
            concerned_text(finding) or "the whole set",
            finding.advice[0] if finding.advice else "",
        ]
        for number, finding in enumerate(report.findings, start=1)
    ]
    heads = ["how bad", "what", "how many", "what to do"]
    return element("section", title, html_table("The worst first", heads, rows, class_="found"),
                   id="found")  # fmt: skip


def findings_section(report: Report, gallery: Gallery) -> Markup:
    """Every finding with what it rests on, what to do, and the images concerned."""
    if not report.findings:
        return Markup()
    limit = gallery.cases_each(report.findings)
    articles = [
        _finding(number, finding, gallery, limit)
        for number, finding in enumerate(report.findings, start=1)
    ]
    return element("section", element("h2", "The findings, one by one"), *articles, id="findings")


def _finding(number: int, finding: Finding, gallery: Gallery, limit: int) -> Markup:
    place = f"finding-{number}"
    badge = element("span", _WORDS[finding.severity], class_=f"badge {finding.severity}")
    about = " ".join(filter(None, (rule_text(finding.rule), finding.code)))
    line = element("p", badge, " ", about, class_="quiet")
    return element(
        "article",
        element("h3", finding.cause, id=f"{place}-title"),
        line,
        _advice(finding),
        _evidence(finding),
        _consequences(finding),
        cases_of(finding, gallery, limit),
        class_=f"finding {finding.severity}",
        id=place,
        aria_labelledby=f"{place}-title",
    )


def _advice(finding: Finding) -> Markup:
    items = [escaped(text) for text in finding.advice]
    items += [
        joined("In the recipe: ", element("code", edit_text(e))) for e in finding.prescription
    ]
    return (
        joined(element("h4", "What to do"), bullets(items, class_="advice")) if items else Markup()
    )


def _evidence(finding: Finding) -> Markup:
    if not finding.evidence:
        return Markup()
    columns: list[tuple[str, list[str]]] = [
        ("measured", [entry.name for entry in finding.evidence]),
        ("value", [number_text(entry.value, entry.unit) for entry in finding.evidence]),
        ("compared with", [_compared(entry) for entry in finding.evidence]),
        ("where", [entry.where for entry in finding.evidence]),
    ]
    filled = [(head, cells) for head, cells in columns if any(cells)]
    rows = [list(row) for row in zip(*(cells for _, cells in filled), strict=True)]
    return html_table("Evidence", [head for head, _ in filled], rows, class_="small")


def _compared(entry: Evidence) -> str:
    return "" if entry.threshold is None else number_text(entry.threshold, entry.unit)


def number_text(value: float | str, unit: str = "") -> str:
    """A measured value with its unit: ``12``, ``0.832 nats``, ``2.7 %``, ``1.6 % of the labels``.

    Counts are whole, others have three digits, shares below 10 % two; words stay as they are.
    """
    if isinstance(value, str):
        return f"{value} {unit}".strip()
    if unit.partition(" ")[0] == "share":
        return f"{_percent(value)}{unit.removeprefix('share')}"
    whole = float(value).is_integer() or 999.5 <= abs(value) < 1e15
    text = f"{value:,.0f}" if whole else f"{value:.3g}"
    return f"{text} {unit}".strip()


def _percent(share: float) -> str:
    return f"{100 * share:.{2 if abs(share) < 0.0995 else 3}g} %"


def _consequences(finding: Finding) -> Markup:
    if not finding.consequences:
        return Markup()
    named = ", ".join(map(rule_text, finding.consequences))
    return element("p", f"From this follows: {named}.")

"""What rules found, as a person reads it at a terminal: the verdict, what to do, examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from espalier.findings import SEVERITIES, Case, Edit, Finding, Report, Severity
from espalier.report.names import one_line
from espalier.report.paragraphs import wrapped
from espalier.report.tables import WIDTH

EXAMPLES = 3
IMAGES_OF_CASE = 3
MARKS: Mapping[Severity, str] = {"error": "ERROR", "warning": "warning", "info": "note"}
_NOUNS: Mapping[Severity, tuple[str, str]] = {
    "error": ("error", "errors"),
    "warning": ("warning", "warnings"),
    "info": ("note", "notes"),
}
_COLUMN = 9
"""Where the text begins that stands beside the mark of a severity."""


def findings_lines(
    report: Report, *, paths: Mapping[str, str] | None = None, limit: int = EXAMPLES
) -> list[str]:
    """A report in lines of at most 80 columns; only a path may be longer, to be copied whole.

    Args:
        report: Of an audit or a diagnosis.
        paths: ``sample_id`` -> path; an image without one is named by its id.
        limit: Most examples of each finding.
    """
    lines = wrapped(verdict_text(report))
    for finding in report.findings:
        lines += ["", *_finding_lines(finding, paths or {}, limit)]
    closing = _closing_lines(report)
    return lines + ([""] if report.findings and closing else []) + closing


def verdict_text(report: Report) -> str:
    """``2 errors, 1 warning; 12 checks found nothing, 2 could not judge``."""
    parts = []
    for severity in reversed(SEVERITIES):
        found = sum(finding.severity == severity for finding in report.findings)
        if found:
            parts.append(f"{found:,} {_NOUNS[severity][found > 1]}")
    checks = _count(len(report.clear), "check", "checks")
    text = (", ".join(parts) or "nothing found") + f"; {checks} in order"
    return text + (f", {len(report.skipped):,} could not judge" if report.skipped else "")


def concerned_text(finding: Finding) -> str:
    """How much a finding is about: ``23 pairs (46 images)``, ``12 images``, ``3 classes``.

    Empty where it is about the whole.
    """
    images = len({sample for case in finding.cases for sample in case.samples})
    pairs = [case for case in finding.cases if len(case.samples) == 2]
    groups = [case for case in finding.cases if len(case.samples) > 1]
    if not images:
        return _count(len({c.label for c in finding.cases if c.label}), "class", "classes", "")
    named = _count(images, "image", "images")
    if not groups:
        return named
    if len(pairs) == len(finding.cases):
        return f"{_count(len(pairs), 'pair', 'pairs')} ({named})"
    return f"{_count(len(finding.cases), 'group', 'groups')} ({named})"


def edit_text(edit: Edit) -> str:
    """A prescribed change of the recipe: ``stages.head.lr x 0.1``, with its reason."""
    change = {
        "set": f"{edit.key} = {edit.value}",
        "multiply": f"{edit.key} x {edit.value}",
        "unset": f"{edit.key} back to its default",
    }
    reason = f" ({edit.because})" if edit.because else ""
    return change[edit.action] + reason


def rule_text(rule: str) -> str:
    """The name of a rule in words."""
    return one_line(rule).replace("_", " ")


def skipped_by_reason(report: Report) -> dict[str, list[str]]:
    """Why rules could not judge -> their names in words; the reason of most rules first."""
    by_reason: dict[str, list[str]] = {}
    for skipped in report.skipped:
        by_reason.setdefault(one_line(skipped.reason), []).append(rule_text(skipped.rule))
    return dict(sorted(by_reason.items(), key=lambda entry: -len(entry[1])))


def skipped_lines(report: Report) -> list[str]:
    """What could not be judged: the rules of one reason together, that of most rules first."""
    lines = ["not judged:"] if report.skipped else []
    for reason, rules in skipped_by_reason(report).items():
        lines += wrapped(f"  {', '.join(rules)} ({reason})")
    return lines


def _count(number: int, one: str, many: str, none: str | None = None) -> str:
    if not number and none is not None:
        return none
    return f"{number:,} {one if number == 1 else many}"


def _finding_lines(finding: Finding, paths: Mapping[str, str], limit: int) -> list[str]:
    code = f" [{finding.code}]" if finding.code else ""
    lines = _beside(MARKS[finding.severity], one_line(finding.cause) + code)
    for text in finding.advice:
        lines += _beside("", f"do: {one_line(text)}")
    for edit in finding.prescription:
        lines += _beside("", f"recipe: {one_line(edit_text(edit))}")
    cases = sorted(finding.cases, key=lambda case: -case.score)
    for case in cases[:limit]:
        lines += _case_lines(case, paths)
    if len(cases) > limit > 0:
        lines += _beside("", f"and {len(cases) - limit:,} more")
    if finding.consequences:
        named = ", ".join(map(rule_text, finding.consequences))
        lines += _beside("", f"from this follows: {named}")
    return lines


def _case_lines(case: Case, paths: Mapping[str, str]) -> list[str]:
    text = one_line(case.text)
    named = [one_line(paths.get(sample, sample)) for sample in case.samples[:IMAGES_OF_CASE]]
    if not named:
        return _beside("", _joined(case.label, text, "- "))
    if len(named) == 1:
        return _beside("", _joined(named[0], text, "- "))
    lines = _beside("", f"- {text}" if text else "- together:")
    for path in named:
        lines += _beside("", f"    {path}")
    hidden = len(case.samples) - len(named)
    return lines + (_beside("", f"    and {hidden:,} more images") if hidden > 0 else [])


def _joined(name: str, text: str, mark: str) -> str:
    return mark + ": ".join(part for part in (one_line(name), text) if part)


def _beside(mark: str, text: str) -> list[str]:
    """The text in its column, the mark before its first line."""
    lines = wrapped(text, WIDTH - _COLUMN)
    return [
        f"{mark if number == 0 else '':<{_COLUMN}}{line}".rstrip()
        for number, line in enumerate(lines)
    ]


def _closing_lines(report: Report) -> list[str]:
    lines: list[str] = []
    if report.clear:
        lines += wrapped(f"in order: {_named(report.clear)}")
    lines += skipped_lines(report)
    for note in report.notes:
        lines += wrapped(one_line(note))
    return lines


def _named(rules: Sequence[str]) -> str:
    return ", ".join(map(rule_text, rules))

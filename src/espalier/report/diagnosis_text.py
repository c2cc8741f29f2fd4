"""A diagnosis as a person reads it: verdict, cause, what to do; then what it rests on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from espalier.findings import Evidence, Finding, Report, listed
from espalier.report.audit_findings import number_text
from espalier.report.findings_text import (
    MARKS,
    edit_text,
    rule_text,
    skipped_by_reason,
    skipped_lines,
)
from espalier.report.names import one_line
from espalier.report.paragraphs import wrapped
from espalier.report.tables import WIDTH
from espalier.run_record import RunRecord, measured

REASONS = 4
"""Most reasons for not judging that the short text names."""
_COLUMN = 9
ENDED: Mapping[str, str] = {
    "finished": "finished",
    "stopped": "stopped before its end",
    "died": "died",
    "running": "still running",
    "unknown": "as far as it is on record",
}
_HEALTHY = "healthy"
# How finely scores can be told apart, which is no ill of the run: a line, wherever it stands.
_ASIDES = ("validation_too_small",)
OWN_LOOP = "own loop"
RECORD_MORE = (
    "Record more of the next run: `from espalier import Vitals` and three lines in a loop of your "
    "own write what the checks need."
)
_VERDICTS: Mapping[str, str] = {
    "error": "something is wrong",
    "warning": "the result suffers",
    "info": "nothing wrong was found",
    "clear": "too little is on record to call it healthy",
}


def causes_of(report: Report) -> tuple[Finding, ...]:
    """The findings that follow from no other one, in the order of the report."""
    named = {rule for finding in report.findings for rule in finding.consequences}
    return tuple(finding for finding in report.findings if finding.rule not in named)


def following(report: Report, finding: Finding) -> tuple[Finding, ...]:
    """All that follows from a finding, also by way of another one."""
    known = {found.rule: found for found in report.findings}
    direct = [known[rule] for rule in finding.consequences if rule in known]
    return tuple(f for found in direct for f in (found, *following(report, found)))


def diagnosis_verdict(report: Report) -> str:
    """``something is wrong: 1 cause, 3 findings follow from it; 41 checks in order``."""
    return f"{_VERDICTS[report.verdict]}: {counted_text(report)}"


def counted_text(report: Report) -> str:
    """``1 cause, 3 findings follow from it; 41 checks in order, 12 could not judge``.

    Each check is counted once: causes, what follows, those in order, those ``with remarks``,
    and those that could not judge are all that were asked.
    """
    alarms = [finding for finding in causes_of(report) if finding.severity != "info"]
    followers = {f.rule for cause in alarms for f in following(report, cause)}
    behind = len(followers)
    counted = {_HEALTHY, *followers, *(finding.rule for finding in alarms)}
    remarks = sum(finding.rule not in counted for finding in report.findings)
    text = f"{_count(len(alarms), 'cause')}; " if alarms else ""
    if behind:
        verb = "follows" if behind == 1 else "follow"
        from_what = "it" if len(alarms) == 1 else "them"
        text = f"{text[:-2]}, {_count(behind, 'finding')} {verb} from {from_what}; "
    text += f"{_count(len(report.clear), 'check')} in order"
    if remarks:
        text += f", {remarks:,} with {'a remark' if remarks == 1 else 'remarks'}"
    return text + (f", {len(report.skipped):,} could not judge" if report.skipped else "")


def diagnosis_lines(
    report: Report,
    *,
    about: str,
    families: Mapping[str, Sequence[str]],
    commands: Mapping[str, str],
    everything: bool = False,
) -> list[str]:
    """A diagnosis in lines of at most 80 columns; only paths and commands may be longer.

    Args:
        report: As the doctor gives it: causes first.
        about: What was looked at, in a line.
        families: What rules look at -> names of those that are in order.
        commands: Rule -> the command that does what its finding prescribes; empty where none does,
            and no entry for a run that has no recipe.
        everything: Name every check, also those in order, and what remarks rest on.
    """
    lines = [*wrapped(about), *wrapped(diagnosis_verdict(report))]
    if report.verdict == "clear":
        lines += _column("do this", [RECORD_MORE])
    ill = report.verdict in ("error", "warning")
    for finding in causes_of(report):
        # Beside what is wrong, a remark is a line: what to do must be seen at once.
        aside = finding.severity == "info" and (ill or finding.rule in _ASIDES)
        if aside and not everything:
            lines += ["", *_column(MARKS["info"], [cause_text(finding)])]
        else:
            lines += ["", *cause_lines(report, finding, commands.get(finding.rule))]
    closing = _in_order(report, families, everything) + _not_judged(report, everything)
    for note in report.notes:
        closing += wrapped(one_line(note))
    return lines + ([""] if closing else []) + closing


def short_lines(report: Report, *, about: str, commands: Mapping[str, str]) -> list[str]:
    """Verdict, causes and what to do, and nothing else; remarks only where nothing is wrong."""
    lines = [*wrapped(about), *wrapped(diagnosis_verdict(report))]
    least = "" if report.verdict in ("info", "clear") else "info"
    for finding in causes_of(report):
        if finding.severity == least:
            continue
        if finding.rule in _ASIDES and finding.severity == "info":
            lines += _column(MARKS["info"], [cause_text(finding)])
        else:
            lines += _head_lines(finding, commands.get(finding.rule))
    return lines


def cause_lines(report: Report, finding: Finding, command: str | None = None) -> list[str]:
    """One cause: what is wrong, what to do, what it rests on, what follows from it."""
    lines = _head_lines(finding, command)
    rests = [evidence_text(entry) for entry in finding.evidence]
    if finding.confidence < 1 and finding.rule != _HEALTHY:
        rests.append(sure_text(finding))
    lines += _column("looked at" if finding.rule == _HEALTHY else "because", rests)
    if finding.rule != _HEALTHY:
        lines += _column("so also", [cause_text(found) for found in following(report, finding)])
    return lines


def sure_text(finding: Finding) -> str:
    """``how sure: 93 %``."""
    return f"how sure: {100 * finding.confidence:.0f} %"


def recipe_words(command: str | None) -> str:
    """What leads in changes of a recipe; without an entry in commands the run has none."""
    return "in a recipe of Espalier's" if command is None else "in the recipe"


def shown_edits(finding: Finding, command: str | None) -> list[str]:
    """Changes of the recipe; of a run without one only where advice in words is wanting."""
    return [] if command is None and finding.advice else edits_text(finding)


def loop_text(record: RunRecord) -> str:
    """What a loop of one's own may tell ``Vitals`` so that more checks judge; empty for nothing."""
    if record.tool != OWN_LOOP:
        return ""
    data = record.data
    # A loader whose pixels cannot be read is counted all the same, and need not be given again.
    wanted = {
        "train_loader=": data.train is None and data.train_images is None,
        "val_loader=": data.val is None and data.val_images is None,
        "probe=": not measured(record.column("clean_accuracy")),
        'facts={"pretrained": True or False}': record.facts.pretrained is None,
    }
    named = [name for name, missing in wanted.items() if missing]
    return f"for more checks, give Vitals {listed(named)}" if named else ""


def evidence_text(entry: Evidence) -> str:
    """``training loss: 7.21 nats, compared with 2.48 (epoch 3)``."""
    text = f"{entry.name}: {number_text(entry.value, entry.unit)}"
    if entry.threshold is not None:
        # The unit is said once; a share reads as percent on both sides.
        unit = entry.unit if entry.unit == "share" else ""
        text += f", compared with {number_text(entry.threshold, unit)}"
    return one_line(text + (f" ({entry.where})" if entry.where else ""))


def edits_text(finding: Finding) -> list[str]:
    """``a.lr x 0.1, b.lr x 0.1 (it diverges)``: the changes of one reason together."""
    by_reason: dict[str, list[str]] = {}
    for edit in finding.prescription:
        change = edit_text(dataclasses.replace(edit, because=""))
        by_reason.setdefault(one_line(edit.because), []).append(one_line(change))
    return [
        ", ".join(changes) + (f" ({reason})" if reason else "")
        for reason, changes in by_reason.items()
    ]


def _head_lines(finding: Finding, command: str | None) -> list[str]:
    mark = _HEALTHY if finding.rule == _HEALTHY else MARKS[finding.severity]
    todo = [one_line(text) for text in finding.advice]
    todo += [f"{recipe_words(command)}: {text}" for text in shown_edits(finding, command)]
    lines = _column(mark, [cause_text(finding)])
    lines += _column("do this" if finding.rule != _HEALTHY else "next", todo)
    return lines + ([f"{'':<{_COLUMN}} {one_line(command)}"] if command else [])


def cause_text(finding: Finding) -> str:
    """``The learning rate is too high [RUN101]``."""
    cause = one_line(finding.cause)
    return cause[:1].upper() + cause[1:] + (f" [{finding.code}]" if finding.code else "")


def _column(mark: str, texts: Sequence[str]) -> list[str]:
    """Texts below each other, with the mark before the first of them."""
    # A mark as wide as the column still keeps its distance from the text.
    broken = [line for text in texts for line in wrapped(text, WIDTH - _COLUMN - 1)]
    return [
        f"{mark if number == 0 else '':<{_COLUMN}} {line}".rstrip()
        for number, line in enumerate(broken)
    ]


def _in_order(report: Report, families: Mapping[str, Sequence[str]], everything: bool) -> list[str]:
    healthy = any(finding.rule == _HEALTHY for finding in report.findings)
    if not report.clear or (healthy and not everything):
        # What a healthy run was asked stands beside its verdict.
        return []
    if not everything:
        counts = [f"{name} ({len(rules)})" for name, rules in families.items() if rules]
        return wrapped(f"in order: {', '.join(counts)}")
    lines = ["in order:"]
    for name, rules in families.items():
        if rules:
            lines += wrapped(f"  {name}: {', '.join(map(rule_text, rules))}")
    return lines


def _not_judged(report: Report, everything: bool) -> list[str]:
    if everything or not report.skipped:
        return skipped_lines(report)
    reasons = skipped_by_reason(report)
    named = list(reasons)[:REASONS]
    left = len(reasons) - len(named)
    text = f"not judged: {_count(len(report.skipped), 'check')}: {'; '.join(named)}"
    return wrapped(
        text + (f"; and {_count(left, 'other reason')} (--all names them)" if left else "")
    )


def _count(number: int, one: str) -> str:
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def alarm_text(finding: Finding) -> str:
    """A finding for a screen on which the run still goes on: what is wrong, and what to do."""
    todo = f"\n  do this: {one_line(finding.advice[0])}" if finding.advice else ""
    return f"{MARKS[finding.severity]}: {cause_text(finding)}{todo}"

"""The doctor: asks every rule, puts causes before what follows from them, says when all is well."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from espalier.diagnose.earned import read_earned
from espalier.diagnose.loss_curves import died_of
from espalier.diagnose.ranks import (
    BY_EXCLUSION,
    EXPLAINED_BY,
    FAMILIES,
    HEALTHY,
    JUDGED_FIRST,
    NEXT_LEVER,
    family_of,
    rank,
)
from espalier.findings import SEVERITIES, Evidence, Finding, Report, Severity, Skipped
from espalier.rules import Rule, rules_in, run_rules
from espalier.run_record import EpochSigns, RunRecord

# With fewer checks in order than this, silence says nothing about health.
FEWEST_IN_ORDER = 5


def known_rules() -> tuple[Rule[RunRecord], ...]:
    """All rules on runs, in the order in which their findings are read."""
    import espalier.diagnose.rules

    return tuple(sorted(rules_in(espalier.diagnose.rules), key=lambda r: rank(r.name, r.code)))


def examine(
    record: RunRecord,
    rules: Sequence[Rule[RunRecord]] | None = None,
    earned: Mapping[str, Severity] | None = None,
) -> Report:
    """What is wrong with a run, the cause first, and what was in order.

    Causes come first, the worst and most upstream before the others; behind them comes what follows
    from them. The ``consequences`` of a finding name the findings of this report that follow from
    it: each is named once. The same record gives the same report.

    Args:
        record: The run.
        rules: Those to ask; None: all there are.
        earned: The most severe word that each rule may say; None: what they earned in the
            benchmark of faults.
    """
    chosen = known_rules() if rules is None else rules
    asked = _without_guesses(run_rules(chosen, record))
    levels = earned_levels() if earned is None else earned
    found = [_gated(finding, levels) for finding in asked.findings]
    found.sort(key=_place)
    arranged = Report(_arranged(found), asked.clear, asked.skipped, record.notes)
    codes = {rule.name: rule.code for rule in chosen}
    return _with_health(record, arranged, codes)


def alarms(findings: Iterable[Finding]) -> list[Finding]:
    """Those that say that something is wrong: warnings and errors."""
    return [finding for finding in findings if finding.severity != "info"]


def earned_levels() -> Mapping[str, Severity]:
    """The most severe word that each rule has earned in the benchmark of faults."""
    return {name: earned.most for name, earned in read_earned().items()}


def _gated(finding: Finding, earned: Mapping[str, Severity]) -> Finding:
    most = earned.get(finding.rule, "error")
    if SEVERITIES.index(finding.severity) <= SEVERITIES.index(most):
        return finding
    return dataclasses.replace(finding, severity=most)


def _without_guesses(report: Report) -> Report:
    """Without findings by exclusion where another explains the same, or nobody looked for it."""
    fired = {finding.rule for finding in alarms(report.findings)}
    unjudged = {entry.rule for entry in report.skipped}
    kept, skipped = [], list(report.skipped)
    for finding in report.findings:
        reason = None
        if finding.confidence <= BY_EXCLUSION:
            reason = _why_not(finding.rule, fired, unjudged)
        if reason is None:
            kept.append(finding)
        else:
            skipped.append(Skipped(finding.rule, reason))
    return dataclasses.replace(report, findings=tuple(kept), skipped=tuple(skipped))


def _why_not(rule: str, fired: set[str], unjudged: set[str]) -> str | None:
    """Why a guess by exclusion is not made; None where it may be."""
    others = [name for name in EXPLAINED_BY.get(rule, ()) if name in fired]
    if others:
        return f"what was seen is explained by {', '.join(others)}"
    missing = [name for name in JUDGED_FIRST.get(rule, ()) if name in unjudged]
    return f"needs judgement of {', '.join(missing)} first" if missing else None


def _place(finding: Finding) -> tuple[Any, ...]:
    """Where a finding stands as long as nothing is known of the others: the most upstream first."""
    family, place = rank(finding.rule, finding.code)
    alarm = finding.severity != "info"
    return (not alarm, family, -finding.confidence, place, finding.code, finding.rule)


def _arranged(found: Sequence[Finding]) -> tuple[Finding, ...]:
    """Causes by how bad it is with them, then what follows, in the same order."""
    cause_of = _causes(found)
    named = {
        finding.rule: tuple(f.rule for f in found if cause_of.get(f.rule) == finding.rule)
        for finding in found
    }
    worst = _worst_below(found, cause_of)
    causes = [finding for finding in found if finding.rule not in cause_of]
    causes.sort(key=lambda finding: -worst[finding.rule])
    followers = [finding for finding in found if finding.rule in cause_of]
    return tuple(
        dataclasses.replace(finding, consequences=named[finding.rule])
        for finding in (*causes, *followers)
    )


def _causes(found: Sequence[Finding]) -> dict[str, str]:
    """Rule of each finding that follows from another one -> rule of that one."""
    cause_of: dict[str, str] = {}
    # From the last on: where two name each other, the one further upstream is the cause.
    worst_first = sorted(found, key=lambda finding: -SEVERITIES.index(finding.severity))
    for finding in reversed(found):
        for other in worst_first:
            if _explains(other, finding, found) and not _reaches(
                other.rule, finding.rule, cause_of
            ):
                cause_of[finding.rule] = other.rule
                break
    return cause_of


def _explains(cause: Finding, effect: Finding, found: Sequence[Finding]) -> bool:
    """Whether one finding says why there is the other, or says the same further upstream."""
    if cause is effect or (cause.severity == "info" and effect.severity != "info"):
        return False
    if effect.rule in cause.consequences:
        return True
    return found.index(cause) < found.index(effect) and _same_treatment(cause, effect)


def _same_treatment(one: Finding, other: Finding) -> bool:
    """Whether two findings of one family prescribe the very same: then they mean the same."""
    edits = [
        {(edit.key, edit.action, edit.value) for edit in finding.prescription}
        for finding in (one, other)
    ]
    return edits[0] == edits[1] != set() and _family(one) == _family(other)


def _family(finding: Finding) -> str:
    return family_of(finding.rule, finding.code)


def _reaches(start: str, goal: str, cause_of: Mapping[str, str]) -> bool:
    """Whether the chain of causes above ``start`` contains ``goal``."""
    place: str | None = start
    while place is not None and place != goal:
        place = cause_of.get(place)
    return place == goal


def _worst_below(found: Sequence[Finding], cause_of: Mapping[str, str]) -> dict[str, int]:
    """Rule of each finding -> the worst severity of it and of all that follows from it."""
    worst = {finding.rule: SEVERITIES.index(finding.severity) for finding in found}
    for finding in found:
        place = cause_of.get(finding.rule)
        while place is not None:
            worst[place] = max(worst[place], SEVERITIES.index(finding.severity))
            place = cause_of.get(place)
    return worst


def _with_health(record: RunRecord, report: Report, codes: Mapping[str, str]) -> Report:
    """The report with its own word on health, and no lever pulled on what is ill."""
    if alarms(report.findings):
        return _without_lever(report)
    died = died_of(record)
    if died is not None:
        note = f"the run died: {died}; nothing else that was judged is wrong"
        return dataclasses.replace(_without_lever(report), notes=(*report.notes, note))
    judged = len(report.clear) + len(report.findings)
    if not record.epochs or judged < FEWEST_IN_ORDER:
        note = (
            f"too little is on record to call this run healthy: {judged} of "
            f"{judged + len(report.skipped)} checks could judge"
        )
        return dataclasses.replace(report, notes=(*report.notes, note))
    lever = tuple(finding for finding in report.findings if finding.rule == NEXT_LEVER)
    others = tuple(finding for finding in report.findings if finding.rule != NEXT_LEVER)
    healthy = _healthy(record, report, codes)
    return dataclasses.replace(report, findings=(healthy, *others, *lever))


def _without_lever(report: Report) -> Report:
    kept = tuple(finding for finding in report.findings if finding.rule != NEXT_LEVER)
    if len(kept) == len(report.findings):
        return report
    skipped = Skipped(NEXT_LEVER, "asked only where nothing is wrong")
    return dataclasses.replace(report, findings=kept, skipped=(*report.skipped, skipped))


def _healthy(record: RunRecord, report: Report, codes: Mapping[str, str]) -> Finding:
    """Nothing wrong, as a finding: what was looked at, and what would still improve the score."""
    lever = next((f for f in report.findings if f.rule == NEXT_LEVER), None)
    judged = len(report.clear) + len(report.findings)
    asked = judged + len(report.skipped)
    so_far = " so far" if record.ended == "running" else ""
    best = _best_epoch(record)
    score = (
        f"; the best epoch is {best[0].epoch}, with a {best[1]} of {best[2]:.3f}" if best else ""
    )
    return Finding(
        rule=HEALTHY,
        code="RUN000",
        severity="info",
        cause=f"nothing wrong was found{so_far}: {judged} of {asked} checks could judge{score}",
        evidence=tuple(_looked_at(report, codes)),
        confidence=round(judged / asked, 2),
        advice=lever.advice if lever else (),
        prescription=lever.prescription if lever else (),
        consequences=(NEXT_LEVER,) if lever else (),
    )


def _looked_at(report: Report, codes: Mapping[str, str]) -> Iterable[Evidence]:
    """How many checks of each family could judge."""
    skipped = [entry.rule for entry in report.skipped]
    for family in FAMILIES:
        names = [name for name, code in codes.items() if family_of(name, code) == family.name]
        if names:
            judged = sum(name not in skipped for name in names)
            yield Evidence(f"checks of {family.name}", judged, None, f"of {len(names)}")


def _best_epoch(record: RunRecord) -> tuple[EpochSigns, str, float] | None:
    for name, words in (("val_macro_f1", "macro-F1"), ("val_accuracy", "validation accuracy")):
        scored = [e for e in record.epochs if math.isfinite(getattr(e, name))]
        if scored:
            best = max(scored, key=lambda epoch: float(getattr(epoch, name)))
            return best, words, float(getattr(best, name))
    return None

"""From kept runs to verdicts: the truth of each run, and what every set of rules said of it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.faults import healthy, injections
from benchmarks.faults.baselines import autotrainer, mldoct, sagemaker, umlaut
from benchmarks.faults.runs import Case, Kept
from benchmarks.faults.score import Truth, Verdict, detection_time, truth_of
from espalier.diagnose.doctor import alarms, examine
from espalier.diagnose.readers import read_record
from espalier.errors import EspalierError
from espalier.findings import Finding, Report
from espalier.run_record import RunRecord

OURS = "espalier"
OTHERS = {"AutoTrainer": autotrainer, "UMLAUT": umlaut, "SageMaker Debugger": sagemaker}
# Runs that serve as their own truth: nothing was done to the recipe.
PLAIN = healthy.PLAIN.name


@dataclass(frozen=True)
class Examined:
    """A kept run with its record and our report on it.

    Attributes:
        same: A second examination of a second reading said the same, to the byte.
        unread: Why there is no record; empty where there is one.
    """

    kept: Kept
    record: RunRecord | None
    report: Report | None
    same: bool = True
    unread: str = ""

    @property
    def case(self) -> Case:
        """What was run."""
        return self.kept.case

    @property
    def said(self) -> list[Finding]:
        """Our alarms, the first guess first."""
        return alarms(self.report.findings) if self.report is not None else []


def examined(kept: Kept) -> Examined:
    """Read and examine a run, twice."""
    try:
        record = read_record(kept.folder)
    except EspalierError as error:
        return Examined(kept, None, None, unread=str(error))
    report = examine(record)
    again = examine(read_record(kept.folder))
    same = json.dumps(report.to_json()) == json.dumps(again.to_json())
    return Examined(kept, record, report, same)


def truths(runs: Sequence[Kept]) -> dict[tuple[str, str, int], Truth]:
    """(recipe, name, severity) -> what the injected change was worth over all its seeds."""
    groups: dict[tuple[str, str, int], list[Kept]] = defaultdict(list)
    for kept in runs:
        groups[kept.case.recipe, kept.case.name, kept.case.severity].append(kept)
    found: dict[tuple[str, str, int], Truth] = {}
    for key, members in groups.items():
        if members[0].case.kind == "healthy":
            found[key] = "healthy"
            continue
        reference = _scores(groups.get((key[0], PLAIN, 0), []))
        died = all(member.outcome is None for member in members)
        found[key] = truth_of(_scores(members), reference, died=died)
    return found


def _scores(runs: Sequence[Kept]) -> list[tuple[float, float, float]]:
    return [
        (kept.outcome.test_macro_f1, kept.outcome.test_accuracy, kept.outcome.reported)
        for kept in runs
        if kept.outcome is not None
    ]


def our_verdicts(
    runs: Sequence[Examined], truth: Mapping[tuple[str, str, int], Truth], *, times: bool
) -> list[Verdict]:
    """What the doctor said of each run."""
    return [
        _verdict(
            run,
            truth,
            tuple(finding.rule for finding in run.said),
            run.case.causes,
            _first_of_ours if times else None,
        )
        for run in runs
    ]


def their_verdicts(
    name: str, runs: Sequence[Examined], truth: Mapping[tuple[str, str, int], Truth]
) -> list[Verdict]:
    """What another tool's rules say of the same records.

    A symptom counts as naming the cause if any of the rules of ours that it could mean would.
    """
    tool = OTHERS[name]
    found = []
    for run in runs:
        said = tool.alarms(run.record) if run.record is not None else []
        right = tuple(
            symptom for symptom, rules in tool.MEANS.items() if set(rules) & set(run.case.causes)
        )
        found.append(_verdict(run, truth, tuple(said), right, None))
    return found


def mldoct_verdicts(
    python: str, runs: Sequence[Examined], truth: Mapping[tuple[str, str, int], Truth]
) -> list[Verdict]:
    """What mldoct says; where it fails on a record, it says nothing."""
    found = []
    words = mldoct.diagnoses(python, [run.record for run in runs])
    for run, word in zip(runs, words, strict=True):
        quiet = word in ("", mldoct.HEALTHY) or word.startswith("error: ")
        right = tuple(w for w, rules in mldoct.MEANS.items() if set(rules) & set(run.case.causes))
        found.append(_verdict(run, truth, () if quiet else (word,), right, None))
    return found


def _verdict(
    run: Examined,
    truth: Mapping[tuple[str, str, int], Truth],
    said: tuple[str, ...],
    causes: tuple[str, ...],
    first: Callable[[RunRecord], str | None] | None,
) -> Verdict:
    case = run.case
    worth = truth[case.recipe, case.name, case.severity]
    time = None
    if first is not None and run.record is not None and worth in ("killed", "invalid"):
        time = detection_time(run.record, causes, first)
    return Verdict(
        run=case.title,
        recipe=case.recipe,
        fault=case.name,
        truth=worth,
        tricky=case.kind == "healthy" and case.name != PLAIN,
        causes=causes,
        alarms=said,
        detected_at=time,
        compound=case.kind == "compound",
    )


def _first_of_ours(record: RunRecord) -> str | None:
    said = alarms(examine(record).findings)
    return said[0].rule if said else None


def unknown_causes(known: Sequence[str]) -> list[str]:
    """Names in the frozen table that are no rule."""
    named = {cause for fault in injections.INJECTIONS for cause in fault.causes}
    return sorted(named - set(known))

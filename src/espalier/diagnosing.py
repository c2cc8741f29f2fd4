"""A diagnosis from beginning to end: read a run, ask every rule, write findings and the page."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalier import files, runs
from espalier.active_tests.results import (
    ActiveTests,
    with_earlier,
    with_results,
    write_results,
)
from espalier.diagnose import readers
from espalier.diagnose.doctor import alarms, examine, known_rules
from espalier.diagnose.ranks import FAMILIES, family_of
from espalier.diagnose.treat import CannotChange, change_of, lower_floor
from espalier.errors import EspalierError, RunError
from espalier.evaluate.evaluation import Evaluation, evaluate_predictions, read_predictions
from espalier.findings import Finding, Report
from espalier.recipe.schema import Recipe
from espalier.records import SPLITS, History
from espalier.report.diagnosis_page import write_page
from espalier.report.diagnosis_text import ENDED, causes_of, loop_text
from espalier.run_record import RunRecord
from espalier.runs import RunDir

if TYPE_CHECKING:
    from espalier.train.live import LiveFindings

FINDINGS, PAGE = "findings.json", "report.html"
# What speaks of the end of a run, or of what comes after it, is not said while it still trains.
_LATE = FAMILIES[-1].name


@dataclass(frozen=True)
class Diagnosis:
    """What was found in a run.

    Attributes:
        record: The run, as rules see it.
        report: What they said: causes first.
        run: Its folder, where Espalier trained it; None for the record of another tool.
        tests: What was tried now; None where that was not asked for.
        decided: Rules that say something else, or are surer, because of what was tried.
    """

    record: RunRecord
    report: Report
    run: RunDir | None
    tests: ActiveTests | None = None
    decided: tuple[str, ...] = ()

    @property
    def about(self) -> str:
        """``runs/train/first (espalier, 12 epochs, finished)``."""
        count = len(self.record.epochs)
        epochs = f"{count} epoch{'' if count == 1 else 's'}"
        return f"{self.record.path} ({self.record.tool}, {epochs}, {ENDED[self.record.ended]})"

    @property
    def families(self) -> dict[str, list[str]]:
        """What rules look at -> names of those that are in order."""
        codes = {rule.name: rule.code for rule in known_rules()}
        grouped: dict[str, list[str]] = {family.name: [] for family in FAMILIES}
        for name in self.report.clear:
            grouped.setdefault(family_of(name, codes.get(name, "")), []).append(name)
        return grouped

    @property
    def commands(self) -> dict[str, str]:
        """Rule -> the command that trains anew with what its finding prescribes.

        Empty where no command can; without any entry where there is no recipe.
        """
        if self.run is None:
            return {}
        with contextlib.suppress(EspalierError):
            recipe = self.run.recipe()
            return {f.rule: command_for(self.run, recipe, f) for f in causes_of(self.report)}
        return {}

    def to_json(self) -> dict[str, Any]:
        """The object of ``findings.json`` and ``--json``.

        Beside what a report says, each finding has ``follows``: the rule of the finding that it
        follows from, or null for a cause.
        """
        record = self.report.to_json()
        cause_of = {rule: f.rule for f in self.report.findings for rule in f.consequences}
        for finding in record["findings"]:
            finding["follows"] = cause_of.get(finding["rule"])
        if self.tests is not None:
            record["tried"] = {**self.tests.to_json(), "decided": list(self.decided)}
        return {"run": self.record.path, "tool": self.record.tool,
                "ended": self.record.ended, **record}  # fmt: skip


def diagnose(
    path: Path | str,
    mapping: Mapping[str, str] | None = None,
    *,
    probe: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Diagnosis:
    """Say what is wrong with a run, living, finished or dead, ours or another tool's.

    Args:
        path: A run folder, or the record of another tool.
        mapping: Sign -> column of the record that holds it, where its name does not say so.
        probe: Whether to try what the record cannot decide, with model and photographs; else what
            was tried earlier is read, as long as it is of the run as it stands.
        tell: Told what is tried next.

    Raises:
        EspalierError: There is no run, or nothing in it that can be read.
    """
    record, run = readers.read_record(Path(path), mapping), own_run(path)
    if not probe:
        record = record if run is None else with_earlier(record, run.diagnostics)
        return Diagnosis(record, _examined(record), run)
    tests = tried(run, record, tell)
    known = with_results(record, tests.preflight)
    before, report = _examined(record), _examined(known)
    said, says = words_of(before), words_of(report)
    decided = tuple(r.name for r in known_rules() if said.get(r.name) != says.get(r.name))
    return Diagnosis(known, report, run, tests, decided)


def _examined(record: RunRecord) -> Report:
    report, more = examine(record), loop_text(record)
    return dataclasses.replace(report, notes=(*report.notes, more)) if more else report


def words_of(report: Report) -> dict[str, float | str]:
    """Rule -> how sure its finding is, or whether it found things in order or could not judge."""
    return {
        **{finding.rule: finding.confidence for finding in report.findings},
        **dict.fromkeys(report.clear, "clear"),
        **{entry.rule: "skipped" for entry in report.skipped},
    }


def tried(
    run: RunDir | None, record: RunRecord, tell: Callable[[str], None] | None = None
) -> ActiveTests:
    """Active tests of a run; why there are none, where Espalier did not train it."""
    if run is None:
        return ActiveTests(
            epochs=len(record.epochs),
            reason="model and photographs are known of runs that Espalier trained, and this is "
            f"the record of {record.tool}",
        )
    # They need torch, which a diagnosis without them does not wait for.
    from espalier.active_tests.sequence import try_run

    return try_run(run, record, tell=tell)


def own_run(path: Path | str) -> RunDir | None:
    """The run folder at a path; None where Espalier trained nothing there."""
    with contextlib.suppress(RunError):
        return runs.find_run(path)
    return None


def changed_since(now: Report, before: Report) -> dict[str, list[str]]:
    """Rules of alarms that are ``gone`` since another report, ``new``, or ``still`` there."""
    present = [finding.rule for finding in alarms(now.findings)]
    past = [finding.rule for finding in alarms(before.findings)]
    return {
        "gone": [rule for rule in past if rule not in present],
        "new": [rule for rule in present if rule not in past],
        "still": [rule for rule in present if rule in past],
    }


def write_diagnosis(diagnosis: Diagnosis, out: Path | None = None) -> tuple[Path, ...]:
    """Write ``findings.json`` and ``report.html``, and ``probe.json`` where something was tried.

    Args:
        diagnosis: What was found.
        out: The folder; None: into the run's own, and nothing beside the record of another tool.

    Returns:
        The files, in this order; none where there was no place for them.

    Raises:
        RunError: The folder holds files of these names that no diagnosis wrote.
        DiskError: A file could not be written.
    """
    if out is None and diagnosis.run is None:
        return ()
    folder = out if out is not None else diagnosis.run.path if diagnosis.run else Path()
    findings, page = folder / FINDINGS, folder / PAGE
    _require_ours(findings, page)
    text = json.dumps(diagnosis.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    files.write_text(findings, text + "\n")
    write_page(
        diagnosis.record,
        diagnosis.report,
        page,
        families=diagnosis.families,
        commands=diagnosis.commands,
        judged=judged(diagnosis.run),
    )
    if diagnosis.tests is None or diagnosis.tests.reason:
        return findings, page
    place = diagnosis.run.diagnostics if out is None and diagnosis.run else folder
    return findings, page, write_results(diagnosis.tests, place)


def _require_ours(findings: Path, page: Path) -> None:
    """Refuse to write over what is not ours: an earlier diagnosis has both a verdict and a tool."""
    if not findings.exists() and not page.exists():
        return
    with contextlib.suppress(OSError, ValueError):
        if {"verdict", "tool"} <= json.loads(findings.read_text(encoding="utf-8")).keys():
            return
    taken = findings if findings.exists() else page
    raise RunError(
        f"{taken} is there already, no diagnosis wrote it, and nothing is overwritten",
        hint=f"--out {findings.parent / 'diagnosis'}",
    )


def judged(run: RunDir | None) -> list[Evaluation]:
    """Scores of the best weights on validation and test, as far as predictions are on record."""
    found: list[Evaluation] = []
    if run is None:
        return found
    for split in SPLITS[1:]:
        # A file that is missing, or damaged, leaves its scores out of the page and no more.
        with contextlib.suppress(OSError, ValueError, KeyError, EspalierError):
            predictions = read_predictions(run.predictions(split))
            found.append(evaluate_predictions(predictions, split))
    return found


def command_for(run: RunDir, recipe: Recipe, finding: Finding) -> str:
    """The command that trains anew as a finding prescribes; empty where no recipe value says it."""
    values = recipe.model_dump(mode="json")
    try:
        changes = [change_of(values, edit, finding.rule) for edit in finding.prescription]
    except CannotChange:
        return ""
    if not changes:
        return ""
    words = ["espalier", "train", "--config", str(run.recipe_file)]
    for change in [*changes, *lower_floor(values, changes)]:
        words += ["--set", change.word]
    return shlex.join(words)


def live_findings(
    out: Path, tell: Callable[[Finding], None], *, stop: bool = False
) -> LiveFindings:
    """A watch that looks at a run of Espalier's own while it trains.

    Args:
        out: Folder of the runs; a run is found in it by the name of its history.
        tell: Told each finding once, when it is certain.
        stop: Whether a certain finding that harms the result ends the run.
    """
    from espalier.train.live import LiveFindings

    def look(history: History) -> list[Finding]:
        return findings_so_far(out / history.name)

    return LiveFindings(look, tell, stop=stop)


def findings_so_far(path: Path) -> list[Finding]:
    """Causes of what goes wrong in a run that still trains; nothing that only its end can tell."""
    record = dataclasses.replace(readers.read_record(path), ended="running")
    rules = [rule for rule in known_rules() if family_of(rule.name, rule.code) != _LATE]
    return alarms(causes_of(examine(record, rules)))

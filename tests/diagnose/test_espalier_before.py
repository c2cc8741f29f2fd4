"""What a diagnosis learns from the baseline and the audit that a run made before its first step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from espalier.audited import AT_LEAST, WRONG_LABELS
from espalier.diagnose.readers.espalier_before import start_dead, suspect_share, with_baseline
from espalier.run_record import Preflight
from espalier.runs import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def audit(run: RunDir, **report: Any) -> RunDir:
    run.audit_file.write_text(json.dumps(report))
    return run


def test_the_baseline_of_a_run_is_its_linear_head(run: RunDir) -> None:
    per_class = [{"class": "a", "support": 30}, {"class": "b", "support": 10}]
    run.baseline_file.write_text(json.dumps({"accuracy": 0.9, "per_class": per_class}))
    found = with_baseline(None, run)
    assert (found.probe_accuracy, found.probe_chance) == (0.9, 0.75)
    tried = Preflight(probe_accuracy=0.5, probe_chance=0.5, initial_loss=1.0)
    assert with_baseline(tried, run) == tried
    assert with_baseline(replace(tried, probe_accuracy=None), run).initial_loss == 1.0


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"accuracy": 1}', '{"accuracy": "x", "per_class": [{"support": 0}]}']
)
def test_a_damaged_baseline_is_none(run: RunDir, text: str) -> None:
    run.baseline_file.write_text(text)
    assert with_baseline(None, run) == Preflight()


def test_the_share_of_wrong_labels_is_what_the_audit_is_sure_of(run: RunDir) -> None:
    evidence = [{"name": "best guess", "value": 0.24}, {"name": AT_LEAST, "value": 0.207}]
    finding = {"rule": WRONG_LABELS, "evidence": evidence}
    assert suspect_share(audit(run, findings=[finding], clear=[])) == 0.207
    assert suspect_share(audit(run, findings=[], clear=[WRONG_LABELS])) == 0.0
    assert suspect_share(audit(run, findings=[], clear=[])) is None
    assert suspect_share(audit(run, findings=[{"rule": WRONG_LABELS}], clear=[])) is None
    run.audit_file.unlink()
    assert suspect_share(run) is None
    assert suspect_share(None) is None


def test_dead_units_of_the_start() -> None:
    assert start_dead({"start": {"dead": {"head": 0.25, "odd": None}}}) == {"head": 0.25}
    assert start_dead({"start": {"dead": 3}}) == start_dead({"start": 3}) == start_dead({}) == {}

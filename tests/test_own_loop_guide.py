"""The guide to loops of one's own, and what a diagnosis says of their records."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

from espalier.diagnosing import diagnose, write_diagnosis
from espalier.run_record import RunFacts

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "guide" / "own-loop.md"


def test_the_table_of_facts_names_facts() -> None:
    table = GUIDE.read_text(encoding="utf-8").split("| name | value |")[1].split("\n\n")[0]
    first = [row.split("|")[1] for row in table.splitlines()[2:]]
    named = {name for cell in first for name in re.findall(r"`(\w+)`", cell)}
    assert {"pretrained", "batch", "mixup", "sampler", "expected_mean"} <= named
    assert named <= {field.name for field in fields(RunFacts)}


def test_a_diagnosis_ends_with_what_more_to_give_and_writes_nothing_unasked(tmp_path: Path) -> None:
    folder = tmp_path / "own" / "diagnostics"
    folder.mkdir(parents=True)
    about = {"format": 1, "tool": "own loop", "facts": {}, "ended": "finished"}
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "val_diagnostics.jsonl").write_text('{"epoch": 1, "accuracy": 0.5}\n')
    found = diagnose(folder.parent)
    assert found.record.tool == "own loop"
    assert found.report.notes[-1].startswith("for more checks, give Vitals train_loader=,")
    assert write_diagnosis(found) == ()
    written = write_diagnosis(found, tmp_path / "out")
    assert [path.name for path in written] == ["findings.json", "report.html"]

"""What a person sees while it trains."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from espalier.cli.screen import Screen
from espalier.records import EpochRow, History
from espalier.report.text import EPOCH_LEGEND, epoch_header


def row(stage: str, index: int, epoch: int, **changes: Any) -> EpochRow:
    return EpochRow(
        stage, index, epoch, 9 * epoch, *(changes.get("rate", 1e-3), 0.0, 1.0, 0.5, 0.9, 0.6, 1.0),
        0.5, 0.4, 1.0, 0.5, 2.0, 0.1, 9, 1.0, True,
    )  # fmt: skip


def test_notes_of_a_stage_come_before_its_table() -> None:
    shown = io.StringIO()
    screen = Screen(Console(file=shown, width=200), None)
    note = "what lies before blocks.5.0 is frozen and runs once: " + "2 views of each image, " * 3
    screen.on_note("run    /somewhere/run")
    for index, stage in enumerate(("head", "top")):
        screen.on_stage(stage, index, 2, "1,689,030 of 2,231,558 parameters learn; " * 2)
        screen.on_note(note)
        for epoch in (1, 2):
            screen.on_epoch(row(stage, index, epoch, rate=0.0 if index == 0 else 1e-3), History(()))
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines.count(EPOCH_LEGEND) == 1
    assert lines.count(epoch_header()) == 2
    first, second = (i for i, line in enumerate(lines) if line == epoch_header())
    assert [line.split()[0] for line in lines[first + 1 : first + 3]] == ["head", "head"]
    assert [line.split()[0] for line in lines[second + 1 :]] == ["top", "top"]
    before = " ".join(line.strip() for line in lines[:first])
    assert note.strip() in before
    # A head that is solved for has no learning rate.
    assert lines[first + 1].split()[7] == "-"
    assert lines[second + 1].split()[7] == "1.0e-03"

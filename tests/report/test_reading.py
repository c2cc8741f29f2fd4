"""What is concluded from a history before it is shown."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest

from espalier.records import History
from espalier.report.reading import (
    best_row,
    comparison_rows,
    gap_points,
    planned_epochs,
    stage_results,
    verdict,
)

MakeRun = Callable[..., History]
NAN = float("nan")


@pytest.mark.parametrize(
    ("points", "word"),
    [
        (-20.0, "good"),
        (4.99, "good"),
        (5.0, "slight"),
        (10.0, "slight"),
        (10.01, "overfitting"),
        (NAN, "unknown"),
    ],
)
def test_verdict_bands(points: float, word: str) -> None:
    assert verdict(points) == word


def test_gap_ignores_accuracy_as_trained(make_run: MakeRun) -> None:
    row = make_run(1, train_accuracy=0.1, probe_accuracy=0.95, val_accuracy=0.92).rows[0]
    assert gap_points(row) == pytest.approx(3.0)


def test_best_row_is_the_first_of_equals_and_never_nan(make_run: MakeRun) -> None:
    rows = make_run(4).rows
    scores = (NAN, 0.5, 0.5, 0.4)
    rows = tuple(
        dataclasses.replace(row, val_macro_f1=score)
        for row, score in zip(rows, scores, strict=True)
    )
    assert best_row(rows).epoch == 2


def test_stages_know_their_gain_and_time(make_run: MakeRun) -> None:
    first, second = stage_results(make_run(6, 2))
    assert (first.first, first.last, second.first, second.last) == (1, 3, 4, 6)
    assert first.gain is None
    assert second.gain == pytest.approx(second.best.val_macro_f1 - first.best.val_macro_f1)
    assert second.seconds == pytest.approx(90.0)
    assert second.warmup_epochs == 1.0


def test_gain_is_against_the_best_of_all_stages_before(make_run: MakeRun) -> None:
    run = make_run(3, 3)
    rows = tuple(
        dataclasses.replace(row, val_macro_f1=score)
        for row, score in zip(run.rows, (0.6, 0.4, 0.7), strict=True)
    )
    gains = [stage.gain for stage in stage_results(dataclasses.replace(run, rows=rows))]
    assert gains[1:] == pytest.approx([-0.2, 0.1])


def test_planned_epochs_is_never_less_than_there_are(make_run: MakeRun) -> None:
    run = make_run(6, 2)
    assert planned_epochs(dataclasses.replace(run, rows=run.rows[:2])) == 6
    assert planned_epochs(dataclasses.replace(run, stages=())) == 6


def test_comparison_rows_are_plain_json(make_run: MakeRun) -> None:
    several = comparison_rows([make_run(2, name="a"), make_run(3, name="b", val_macro_f1=NAN)])
    assert [row["run"] for row in several] == ["a", "b"]
    assert several[1]["macro_f1"] is None
    stages = comparison_rows([make_run(4, 2)])
    assert [row["stage"] for row in stages] == ["stage-0", "stage-1"]
    assert stages[0]["gain"] is None
    assert stages[1]["gain"] > 0
    json.dumps([several, stages], allow_nan=False)

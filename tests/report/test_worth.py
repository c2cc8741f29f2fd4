"""What a person is told of the baseline, of the gain over it, and of help for rare classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.cells import cell_len

from espalier.metrics import ClassScore
from espalier.records import Score
from espalier.report import text
from espalier.report.context import Baseline
from espalier.report.paragraphs import wrapped
from espalier.report.worth import adjustment_text, adopted_lines, baseline_text, gain_text
from espalier.runs import RunDir

BASELINE = Baseline(
    0.748, 0.724, 0.772, 5, 1768, {"trash": 0.51, "metal": 0.75, "glass": 0.76, "paper": 0.8}
)


@dataclass(frozen=True)
class Verdict:
    split: str
    images: int
    scores: Mapping[str, Score]
    per_class: Sequence[ClassScore]


def verdict(value: float, half: float | None = 0.03) -> Verdict:
    score = Score(value) if half is None else Score(value, value - half, value + half)
    worst = [ClassScore("trash", 0.6, 0.6, 0.6, 29), ClassScore("new", 0.7, 0.7, 0.7, 9)]
    return Verdict("test", 431, {"macro_f1": score}, worst)


@pytest.mark.parametrize(
    ("value", "half", "end"),
    [
        (0.846, 0.03, ": +0.098"),
        # The noise is sqrt(0.03^2 + 0.024^2) = 0.0384.
        (0.787, 0.03, ": +0.039"),
        (0.786, 0.03, ": +0.038, within the noise"),
        (0.710, 0.03, ": -0.038, within the noise"),
        (0.700, 0.03, "It did harm: try a lower lr, or --preset quick"),
        (0.773, None, ": +0.025"),
    ],
)
def test_gain_is_told_with_its_noise(value: float, half: float | None, end: str) -> None:
    told = gain_text(verdict(value, half), BASELINE)
    assert told.startswith(f"fine-tuning: macro-F1 {value:.3f} on test, against 0.748")
    assert told.endswith(end)


def test_last_words_compare_with_the_baseline_where_there_is_one(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    without = "\n".join(text.closing_lines(run, None, verdict(0.846), "done", 3.0))
    assert "head alone" not in without
    record = {
        "macro_f1": 0.748, "macro_f1_interval": [0.724, 0.772], "folds": 5, "images": 1768,
        "per_class": [{"class": "trash", "f1": 0.51, "support": 91}],
    }  # fmt: skip
    run.baseline_file.write_text(json.dumps(record))
    lines = text.closing_lines(run, None, verdict(0.846), "done", 3.0)
    assert "  0.600  trash (images: 29; head alone 0.510)" in lines
    assert "  0.700  new (images: 9)" in lines
    assert "  +0.098" in lines
    assert max(cell_len(line) for line in lines if str(tmp_path) not in line) <= 80


def test_the_baseline_names_its_weakest_classes() -> None:
    told = baseline_text(BASELINE, 3.04)
    for words in ("macro-F1 0.75 +- 0.02", "3.0 s", "5-fold on 1,768", "trash 0.51, metal 0.75"):
        assert words in told
    assert "paper" not in told


def trial(method: str, gain: float, low: float, high: float) -> dict[str, object]:
    return {"method": method, "tau": None, "gain": gain, "gain_interval": [low, high]}


def test_adjustments_in_plain_words() -> None:
    trials = [trial("logit adjustment", 0.02, -0.02, 0.05), trial("class bias", 0.01, -0.01, 0.03)]
    tried = {"method": "none", "trials": trials, "reason": "x"}
    assert adjustment_text(tried) == (
        "rare classes: nothing changed; the best of 2 tries (class bias) gives +0.010 "
        "[-0.010, +0.030] macro-F1 on validation, which may be chance"
    )
    taken = {"method": "class bias", "trials": [trial("class bias", 0.05, 0.01, 0.08)]}
    assert "helped by class bias, +0.050 [+0.010, +0.080]" in adjustment_text(taken)
    nothing = {"method": "none", "trials": [], "reason": "3 validation images of one class"}
    assert "3 validation images of one class" in adjustment_text(nothing)


def test_what_was_adopted_is_said_beside_the_scores(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert adopted_lines(run, None) == []
    run.adjustment_file.write_text('{"method": "none"}')
    assert adopted_lines(run, None) == []
    run.adjustment_file.write_text('{"method": "class bias"}')
    assert "class bias" in " ".join(adopted_lines(run, verdict(0.8)))


def test_lines_are_broken_between_words_only() -> None:
    path = "/photos/" + "deep/" * 30 + "leaf.jpg"
    lines = wrapped(f"  cannot read {path} because {'健康 ' * 40}", 40)
    assert path in [line.strip() for line in lines]
    assert all(cell_len(line) <= 40 for line in lines if path not in line)
    assert lines[0] == "  cannot read"
    assert all(line.startswith("    ") for line in lines[1:])
    assert wrapped("run    /a/b  c\nsecond") == ["run    /a/b  c", "second"]
    assert wrapped("") == [""]

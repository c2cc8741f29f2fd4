"""Tables and lines: they hold what they must, align, and fit 80 columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.cells import cell_len

from espalier.metrics import ClassScore
from espalier.records import Catalog, History, Sample, Score
from espalier.report import text
from espalier.report.names import one_line, shorten, shorten_middle
from espalier.report.numbers import clock, duration, millions, plain, rate_text, score_text, size
from espalier.report.reading import comparison_rows
from espalier.report.tables import table
from espalier.runs import RunDir

MakeRun = Callable[..., History]
SCORES = {
    "accuracy": Score(0.95, 0.93, 0.97),
    "macro_f1": Score(0.934, 0.913, 0.951),
    "balanced_accuracy": Score(0.94),
}
CLASSES = [
    ClassScore("Maize", 1.0, 1.0, 1.0, 1290),
    ClassScore("empty", 0.0, 0.0, 0.0, 0),
    ClassScore("Black-grass", 0.5, 0.6, 0.545, 29),
    ClassScore("健康" * 40, 0.9, 0.9, 0.9, 3),
]


@dataclass(frozen=True)
class Verdict:
    split: str
    images: int
    scores: Mapping[str, Score]
    per_class: Sequence[ClassScore]


def widths(block: str) -> list[int]:
    return [cell_len(line) for line in block.splitlines()]


@pytest.mark.parametrize(
    ("seconds", "long", "short"),
    [
        (0.42, "0.4 s", "0.4s"),
        (28.3, "28 s", "28.3s"),
        (59.7, "1 min 00 s", "59.7s"),
        (245, "4 min 05 s", "4m05s"),
        (3599.6, "1 h 00 min", "1h00m"),
        (7380, "2 h 03 min", "2h03m"),
        (300_000, "3 d 11 h", "83h20m"),
        (float("nan"), "?", "-"),
    ],
)
def test_durations(seconds: float, long: str, short: str) -> None:
    assert duration(seconds) == long
    assert clock(seconds) == short


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (14_230_000, "14.2 MB"), (999_600_000, "1 GB")],
)
def test_sizes(count: int, shown: str) -> None:
    assert size(count) == shown


def test_other_numbers() -> None:
    assert [millions(n) for n in (820, 45_000, 2_223_872, 304_000_000)] == [
        "820",
        "45 k",
        "2.22 M",
        "304 M",
    ]
    assert (rate_text(1e-3), rate_text(0.0), rate_text(float("nan"))) == ("1.0e-03", "-", "-")
    assert (plain(None), plain(float("inf")), plain(0.5)) == ("-", "-", "0.500")


def test_score_with_and_without_interval() -> None:
    assert score_text(Score(0.9341, 0.913, 0.951)) == "0.934 [0.913, 0.951]"
    assert score_text(Score(0.9341)) == "0.934"


@pytest.mark.parametrize("cut", [shorten, shorten_middle])
def test_names_are_cut_by_what_a_terminal_shows(cut: Callable[[str, int], str]) -> None:
    for name in ("short", "x" * 50, "健康" * 30, "a健" * 20):
        for cells in (5, 12, 13):
            assert cell_len(cut(name, cells)) <= cells
    assert cut("short", 5) == "short"


def test_names_cannot_command_a_terminal_or_break_a_line() -> None:
    name = one_line("a\nb\x1b[31m\u202ered\udcff\tc")
    assert name == "a b�[31m�red� c"
    name.encode("utf-8")


def test_shorten_middle_keeps_both_ends() -> None:
    assert shorten_middle("runs/train/seedlings-seed-7", 15) == "runs/tr…-seed-7"


def test_table_aligns_wide_characters_and_fits() -> None:
    block = table(["class", "n"], [["健康", "1"], ["x" * 200, "1,000"], ["a", "22"]])
    assert widths(block) == [80] * 5
    assert [line[-2:] for line in block.splitlines()[2:]] == [" 1", "00", "22"]


def test_epoch_rows_line_up_under_their_header(make_run: MakeRun) -> None:
    strange = {"val_loss": float("nan"), "seconds": 1e5, "epoch": 12345, "stage": "健康" * 9}
    rows = [
        *make_run(3, 2).rows,
        dataclasses.replace(make_run(1).rows[0], **strange),
    ]
    lines = [text.epoch_header(), *(text.epoch_line(row) for row in rows)]
    assert {cell_len(line.removesuffix(" *")) for line in lines} == {cell_len(lines[0])}
    assert max(map(cell_len, lines)) <= 80
    assert all(line.endswith(" *") for line in lines[1:])
    assert "nan" not in lines[-1]


def test_epoch_row_says_what_it_must(make_run: MakeRun) -> None:
    row = make_run(1, val_macro_f1=0.9341, probe_accuracy=0.98, val_accuracy=0.951, best=False)
    line = text.epoch_line(row.rows[0])
    for word in ("stage-0", "0.934", "0.951", "+2.9", "1.0e-03", "30.0s"):
        assert word in line
    assert "*" not in line


def test_scores_macro_f1_first_with_intervals() -> None:
    block = text.scores_table({"val": SCORES, "test": {"macro_f1": Score(0.9)}})
    head, _, val, test, note = block.splitlines()
    assert head.index("macro-F1") < head.index("accuracy") < head.index("balanced accuracy")
    assert "0.934 [0.913, 0.951]" in val
    assert test.split() == ["test", "0.900", "-", "-"]
    assert "95 %" in note
    assert max(widths(block)) <= 80


def test_classes_worst_first_and_unknown_last() -> None:
    block = text.per_class_table(CLASSES)
    lines = block.splitlines()[2:]
    assert [line.split()[0][:4] for line in lines] == ["Blac", "健康健康", "Maiz", "empt"]
    assert lines[-1].split()[1:] == ["-", "-", "-", "0"]
    assert set(widths(block)) == {80}


def test_comparison_of_runs_and_of_stages(make_run: MakeRun) -> None:
    runs = [make_run(3, name="a-run-with-a-long-name-" * 4), make_run(2, probe_accuracy=1.0)]
    block = text.comparison_table(comparison_rows(runs))
    assert max(widths(block)) <= 80
    assert all(word in block for word in ("good", "overfitting"))
    stages = text.comparison_table(comparison_rows([make_run(6, 2)]))
    assert all(word in stages for word in ("gain", "90.0s", "+0."))


def test_split_table_counts_every_class_in_every_split() -> None:
    samples = tuple(
        Sample(f"{i}", f"/p/{i}.jpg", "ab"[i % 2], None, ("train", "val")[i % 4 == 0], 9, 9)
        for i in range(12)
    )
    broken = Sample("x", "/p/x.jpg", "a", status="unreadable", reason="truncated at 12 kB")
    catalog = Catalog((*samples, broken), ("a", "b", "c"), "/p")
    lines = text.split_table(catalog).splitlines()
    assert lines[2].split() == ["a", "3", "3", "0", "6"]
    assert lines[4].split() == ["c", "0", "0", "0", "0"]
    assert lines[5].split() == ["all", "9", "3", "0", "12"]
    assert "  /p/x.jpg: truncated at 12 kB" in lines
    head = text.header_lines({"espalier": "0.1.0", "torch": "2.14.1"}, "CPU, 2 cores", catalog)
    assert head[0] == "espalier 0.1.0, torch 2.14.1; CPU, 2 cores"
    assert head[1] == "train  3 classes, 9 images, 2.0 : 1"
    assert "1 of 13 files cannot be read, left out:" in head


@pytest.mark.parametrize("top", [1, 3])
def test_predictions_name_path_label_probability(top: int) -> None:
    ranked = [{"label": f"class {i}", "probability": 0.9 / (i + 1)} for i in range(top)]
    rows = [{"path": "/photos/" + "x/" * 60 + "leaf.jpg", **ranked[0], "top": ranked}]
    block = text.predictions_table(rows)
    assert max(widths(block)) <= 80
    assert all(word in block for word in ("leaf.jpg", "class 0", "0.900"))
    assert ("class 1 0.450" in block) == (top > 1)


def test_models_and_plan() -> None:
    @dataclass(frozen=True)
    class Row:
        name: str = "mobilenetv2_100"
        parameters: float = 2.223872
        size_mb: float = 8.895
        imgsz: int = 224
        memory_gb: float = 2.64
        fits: bool = True
        pretrained: bool = False

    @dataclass(frozen=True)
    class Plan:
        name: str = "head"
        epochs: int = 5
        steps: int = 1500
        imgsz: int = 128
        trainable: int = 662_000
        lr: float = 1e-3
        backbone_lr: float = 0.0
        seconds: float = 80.0

    assert text.models_table([Row()]).splitlines()[2].split() == [
        *("mobilenetv2_100", "224", "2.22", "M", "8.89", "MB", "2.6", "GB", "yes", "no")
    ]
    assert all(word in text.plan_table([Plan()]) for word in ("1,500", "1 min 20 s"))


def test_last_words_name_worst_classes_places_and_next_command(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "seedlings")
    run.best.parent.mkdir(parents=True)
    run.best.write_bytes(b"x" * 2000)
    test = Verdict("test", 30, SCORES, CLASSES)
    val = dataclasses.replace(test, split="val")
    words = "\n".join(text.closing_lines(run, val, test, "all epochs done", 733))
    assert "all epochs done, 12 min 13 s in all" in words
    assert "worst classes by F1, test:\n  0.545  Black-grass (images: 29)" in words
    assert "empty" not in words
    assert f"{run.best} (2 kB)" in words
    assert f"espalier predict {run.path} IMAGES" in words
    short = text.closing_lines(run, None, None, "", 3.0)
    assert short[1] == "finished, 3.0 s in all"

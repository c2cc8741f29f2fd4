"""What a run folder knows beside its epochs, and what it makes of a gap."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from espalier.records import History
from espalier.report.compare import compare_runs
from espalier.report.context import Baseline, Context, context_of, read_baseline
from espalier.report.curves import draw_curves
from espalier.report.reading import comparison_rows, gap_verdict, stage_results
from espalier.report.summary import VERDICT_LINES, summary_blocks
from espalier.report.text import comparison_table
from espalier.runs import RunDir

MakeRun = Callable[..., History]
BASELINE = Baseline(0.62, 0.6, 0.64, 5, 300, {"trash": 0.4, "metal": 0.7})
RECORD = {
    "images": 300,
    "folds": 5,
    "macro_f1": 0.62,
    "macro_f1_interval": [0.6, 0.64],
    "per_class": [
        {"class": "trash", "f1": 0.4, "support": 12},
        {"class": "metal", "f1": 0.7, "support": 288},
        {"class": "empty", "f1": 0.0, "support": 0},
    ],
    "notes": [],
}


def run_folder(path: Path, *, val: int = 3) -> RunDir:
    rows = ["sample_id,path,label,group,split,width,height,status,reason,about"]
    rows += [f"{i},/p/{i}.jpg,a,,val,9,9,ok,,{'x' * (i == 0)}" for i in range(val)]
    rows += ["t,/p/t.jpg,b,,train,9,9,ok,,", "u,/p/u.jpg,b,,val,0,0,unreadable,broken,"]
    (path / "catalog.csv").write_text("\n".join(rows) + "\n")
    (path / "class_weights.csv").write_text("class,images,weight\na,1,1.0\nb,1,1.0\n")
    (path / "baseline.json").write_text(json.dumps(RECORD))
    return RunDir(path)


def test_a_run_folder_says_what_it_knows(tmp_path: Path) -> None:
    assert context_of(run_folder(tmp_path)) == Context(BASELINE, val_images=3, classes=2)


def test_what_is_missing_or_damaged_is_left_out(tmp_path: Path) -> None:
    assert context_of(RunDir(tmp_path)) == Context()
    run = run_folder(tmp_path)
    run.catalog_file.write_bytes(b"\xff\xfe\x00 no table")
    for damaged in ("{", "[]", "{}", '{"macro_f1_interval": 3}'):
        run.baseline_file.write_text(damaged)
        assert read_baseline(run.baseline_file) is None
    assert context_of(run) == Context(classes=2)


@pytest.mark.parametrize(
    ("context", "score", "word"),
    [
        (Context(), 0.9, "good"),
        (Context(val_images=400, classes=4), 0.9, "good"),
        # 1 / 4 and two standard errors of 0.0217 are 0.293.
        (Context(val_images=400, classes=4), 0.29, "chance"),
        (Context(val_images=400, classes=4), 0.30, "good"),
        (Context(val_images=49, classes=4), 0.9, "unsure"),
        (Context(val_images=50, classes=4), 0.9, "good"),
        (Context(val_images=0, classes=4), 0.9, "unknown"),
    ],
)
def test_a_gap_is_good_only_where_it_says_something(
    make_run: MakeRun, context: Context, score: float, word: str
) -> None:
    run = make_run(1, probe_accuracy=0.52, val_accuracy=0.5, val_macro_f1=score)
    assert gap_verdict(run.rows[0], context) == word
    assert comparison_rows([run], [context])[0]["verdict"] == word
    shown = [
        line for _, lines in summary_blocks(run, stage_results(run), context) for line in lines
    ]
    assert (VERDICT_LINES["good"] in [text for text, _, _ in shown]) == (word == "good")
    assert VERDICT_LINES[word] in [text for text, _, _ in shown]


def test_a_wide_gap_stays_one(make_run: MakeRun) -> None:
    run = make_run(1, probe_accuracy=0.99, val_accuracy=0.7, val_macro_f1=0.7)
    assert gap_verdict(run.rows[0], Context(val_images=400, classes=4)) == "overfitting"


def test_a_solved_stage_is_one_step_without_a_rate(make_run: MakeRun) -> None:
    solved = {"batches": 1, "learning_rate": 0.0}
    assert stage_results(make_run(1, **solved))[0].solved
    assert not stage_results(make_run(1, batches=1))[0].solved
    assert not stage_results(make_run(2, **solved))[0].solved


def dotted(picture: Path) -> int:
    """Pixels in the colour of the baseline's line, in the band of the picture that it is in."""
    import numpy as np
    from PIL import Image

    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)[150:540, 700:1250]
    return int((np.abs(pixels - (0x1F, 0x23, 0x28)).sum(axis=2) < 40).sum())


@pytest.mark.parametrize("score", [0.0, 0.3, 0.62, 1.0])
def test_the_baseline_is_a_line_in_the_scores(
    tmp_path: Path, make_run: MakeRun, score: float
) -> None:
    context = Context(dataclasses.replace(BASELINE, macro_f1=score), 400, 6)
    with_line = draw_curves(make_run(4, 2), tmp_path / "with.png", context=context)
    without = draw_curves(make_run(4, 2), tmp_path / "without.png")
    assert dotted(with_line) > dotted(without) + 100


def test_solved_stages_and_unsure_gaps_are_drawn(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run(4, 2)
    first = dataclasses.replace(run.rows[0], batches=1, learning_rate=0.0)
    solved = dataclasses.replace(run, rows=(first, *(r for r in run.rows if r.stage_index)))
    for number, context in enumerate((Context(None, 0, 3), Context(BASELINE, 20, 3))):
        path = draw_curves(solved, tmp_path / f"{number}.png", context=context)
        assert path.stat().st_size > 30_000


def test_runs_are_compared_with_their_baselines(tmp_path: Path, make_run: MakeRun) -> None:
    runs = [make_run(3, name="a"), make_run(3, name="b")]
    contexts = [Context(BASELINE, 400, 6), Context(None, 400, 6)]
    rows = comparison_rows(runs, contexts)
    assert [row["baseline"] for row in rows] == [0.62, None]
    table = comparison_table(rows)
    assert "head alone" in table
    assert "0.620" in table
    assert max(map(len, table.splitlines())) <= 80
    assert "head alone" not in comparison_table(comparison_rows(runs))
    plain = compare_runs(runs, tmp_path / "plain.png").read_bytes()
    assert compare_runs(runs, tmp_path / "both.png", contexts).read_bytes() != plain
    assert compare_runs(runs[:1], tmp_path / "one.png", contexts[:1]).exists()

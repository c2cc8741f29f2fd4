"""Every picture is a whole, sane PNG file, whatever the run looks like."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from espalier.errors import DiskError, RecipeError, RunError
from espalier.records import History, StageSpan
from espalier.report.compare import compare_runs
from espalier.report.confusion import confused_pairs, draw_confusion, row_shares
from espalier.report.curves import draw_curves
from espalier.report.demo_curves import demo_curves
from espalier.report.schedule import draw_schedule

MakeRun = Callable[..., History]
NAN = float("nan")


def check_picture(path: Path, *, least: int = 400, most: int = 3000) -> np.ndarray:
    """The pixels of a PNG file that decodes whole and is neither tiny, huge nor blank."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert least <= min(pixels.shape[:2])
    assert max(pixels.shape[:2]) <= most
    assert path.stat().st_size < 1_500_000
    assert 2 < pixels.std() < 120
    assert not list(path.parent.glob("*.partial*"))
    assert not list(path.parent.glob(".*partial*"))
    return pixels


@pytest.mark.parametrize(("epochs", "stages"), [(1, 1), (2, 1), (5, 3), (60, 3)])
def test_curves_from_one_epoch_on(
    tmp_path: Path, make_run: MakeRun, epochs: int, stages: int
) -> None:
    path = draw_curves(make_run(epochs, stages), tmp_path / "curves.png")
    assert check_picture(path).shape[:2] == (1100, 1600)


def test_nothing_is_drawn_over_the_edges(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run(14, 14, name="a_run_with_a_name_without_end_" * 9)
    facts = {"model": "vit_large_" * 12, "data": "a folder " * 30, "more": "x", "classes": "12"}
    pixels = check_picture(
        draw_curves(dataclasses.replace(run, facts=facts), tmp_path / "curves.png")
    )
    rim = np.concatenate([pixels[:4].ravel(), pixels[-4:].ravel(), pixels[:, -4:].ravel()])
    assert (rim == 255).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"val_loss": NAN},
        {"train_loss": float("inf"), "probe_loss": 1e9},
        {"val_loss": NAN, "probe_loss": NAN, "train_loss": NAN, "learning_rate": NAN},
        {"val_accuracy": NAN, "probe_accuracy": NAN, "val_macro_f1": NAN, "seconds": NAN},
        {"val_accuracy": 0.0, "val_macro_f1": 0.0, "probe_accuracy": 1.0},
    ],
)
def test_broken_numbers_do_not_break_the_pictures(
    tmp_path: Path, make_run: MakeRun, changes: dict[str, float]
) -> None:
    broken, whole = make_run(3, 2, **changes), make_run(4)
    mixed = dataclasses.replace(whole, rows=(*broken.rows, whole.rows[3]), stages=())
    check_picture(draw_curves(mixed, tmp_path / "curves.png"))
    check_picture(compare_runs([broken, mixed], tmp_path / "both.png"))


def test_curves_show_the_gap_in_the_colour_of_its_verdict(
    tmp_path: Path, make_run: MakeRun
) -> None:
    def red_pixels(probe: float) -> int:
        run = make_run(6, probe_accuracy=probe, val_accuracy=0.7)
        pixels = check_picture(draw_curves(run, tmp_path / "curves.png")).astype(int)
        return int((np.abs(pixels - (0xC6, 0x28, 0x28)).sum(axis=2) < 30).sum())

    assert red_pixels(0.9) > 2 * red_pixels(0.72)


def test_redrawing_replaces_the_picture_whole(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = draw_curves(make_run(2), tmp_path / "curves.png")
    before = path.read_bytes()

    def full(self: object, target: Path, **options: object) -> None:
        Path(target).write_bytes(b"half a picture")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(DiskError, match=r"curves\.png"):
        draw_curves(make_run(3), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_run_gives_the_same_picture(tmp_path: Path, make_run: MakeRun) -> None:
    first = draw_curves(make_run(3), tmp_path / "a.png").read_bytes()
    assert draw_curves(make_run(3), tmp_path / "b.png").read_bytes() == first


def test_threads_may_draw_at_once(tmp_path: Path, make_run: MakeRun) -> None:
    expected = draw_curves(make_run(3), tmp_path / "alone.png").read_bytes()
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    threads = [threading.Thread(target=draw_curves, args=(make_run(3), p)) for p in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() for path in paths] == [expected] * 2


def test_a_run_without_epochs_is_explained(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="'young' has 0 finished epochs"):
        draw_curves(History((), name="young"), tmp_path / "curves.png")
    with pytest.raises(RunError, match="'young' has 0 finished epochs"):
        compare_runs([History((), name="young")] * 2, tmp_path / "both.png")
    with pytest.raises(RunError, match="0 runs"):
        compare_runs([], tmp_path / "both.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lengths", [(5, 2), (3, 30, 1, 8, 2, 40)])
def test_compare_runs_of_different_lengths(
    tmp_path: Path, make_run: MakeRun, lengths: tuple[int, ...]
) -> None:
    runs = [make_run(n, 1 + i % 2, f"run-$a$-№{i}-" * 8) for i, n in enumerate(lengths)]
    check_picture(compare_runs(runs, tmp_path / "both.png"))


@pytest.mark.parametrize(("epochs", "stages"), [(1, 1), (9, 3)])
def test_one_run_is_compared_by_its_stages(
    tmp_path: Path, make_run: MakeRun, epochs: int, stages: int
) -> None:
    check_picture(compare_runs([make_run(epochs, stages)], tmp_path / "stages.png"))


def test_demo_curves_are_three_named_pictures(tmp_path: Path) -> None:
    paths = demo_curves(tmp_path / "demo")
    assert [path.name for path in paths] == ["good.png", "overfitting.png", "underfitting.png"]
    pictures = [check_picture(path) for path in paths]
    assert not any(np.array_equal(pictures[0], other) for other in pictures[1:])


def matrix_of(classes: int) -> np.ndarray:
    counts = np.random.default_rng(0).integers(0, 3, (classes, classes))
    return counts + np.diag(np.full(classes, 40))


@pytest.mark.parametrize("classes", [1, 2, 61, 100])
def test_confusion_of_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    names = [f"Apple___a very long name of a disease {i}" for i in range(classes)]
    check_picture(draw_confusion(matrix_of(classes), names, tmp_path / "confusion.png"))


def test_confusion_with_any_names_and_empty_classes(tmp_path: Path) -> None:
    names = ["健康", "$x$ and $y$", "", "a\nb\x1b[31m", "🌿", "bad\udcff"]
    check_picture(draw_confusion(np.zeros((6, 6), int), names, tmp_path / "none.png"))
    counts = matrix_of(6)
    counts[2] = 0
    check_picture(draw_confusion(counts, names, tmp_path / "some.png", title="健康 $1$ $2$"))


def test_confusion_refuses_a_matrix_of_another_size(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 classes"):
        draw_confusion(np.zeros((2, 2), int), ["a", "b", "c"], tmp_path / "confusion.png")


def test_row_shares_sum_to_one_and_leave_empty_classes_open() -> None:
    shares = row_shares(np.array([[3, 1], [0, 0]]))
    np.testing.assert_allclose(shares[0], [0.75, 0.25])
    assert np.isnan(shares[1]).all()


def test_confused_pairs_most_images_first_then_larger_share() -> None:
    counts = np.array([[90, 5, 0], [5, 5, 1], [0, 0, 7]])
    assert confused_pairs(counts) == [(1, 0, 5), (0, 1, 5), (1, 2, 1)]


def test_schedule_with_stages_and_warmup(tmp_path: Path) -> None:
    rows = [(step, step // 10 + 1, 1e-3 / (step + 1), 1e-4 * (step >= 20)) for step in range(40)]
    stages = [StageSpan("head", 1, 2), StageSpan("full " * 20, 3, 4, 1.0)]
    check_picture(draw_schedule(rows, stages, tmp_path / "plan.png", name="$a$ and $b$"))
    check_picture(draw_schedule(rows[:1], stages[:1], tmp_path / "one.png"))
    with pytest.raises(RecipeError, match="0 steps"):
        draw_schedule([], stages, tmp_path / "none.png")


def test_no_window_and_no_global_state() -> None:
    code = (
        "import sys, tempfile, pathlib\n"
        "import espalier.report.curves, espalier.report.text, espalier.report.confusion\n"
        "assert 'matplotlib' not in sys.modules, 'imported before it is needed'\n"
        "from espalier.report.demo_curves import demo_curves\n"
        "demo_curves(pathlib.Path(tempfile.mkdtemp()))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""

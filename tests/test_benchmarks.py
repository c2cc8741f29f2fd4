"""The benchmarks run, and what they write has the form that the page is made from."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from espalier.data.synthetic.tiny import write_tiny

ROOT = Path(__file__).resolve().parents[1]
CIRCUMSTANCES = {"hardware", "versions", "commit", "date", "load_average", "settings", "command"}


def run_module(*words):
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The folder that a quick benchmark wrote, and what each of its files says."""
    place = tmp_path_factory.mktemp("bench")
    photos = write_tiny(place / "photos", classes=3, per_class=32, imgsz=40, seed=0)
    words = ("--model", "small-cnn", "--weights", "none", "--imgsz", "32", "--threads", "1")
    done = run_module(
        "benchmarks.training", "--quick", "--data", photos, *words, "--out", place / "out"
    )
    assert done.returncode == 0, done.stderr
    files = (place / "out" / "results").glob("*.json")
    return place / "out", {path.stem: json.loads(path.read_text("utf-8")) for path in files}


def spreads(tree):
    """Every median with its range, wherever it stands."""
    if isinstance(tree, dict):
        if "median" in tree:
            yield tree
        for value in tree.values():
            yield from spreads(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from spreads(value)


def test_every_file_says_where_and_how_often_it_was_measured(measured):
    _, records = measured
    assert set(records) == {"throughput", "keeping", "convergence"}
    for record in records.values():
        assert set(record) >= CIRCUMSTANCES
        assert record["hardware"]["cores"] >= 1
        assert record["settings"]["images"]["train"] > 0
        found = list(spreads(record["results"]))
        assert found
        assert all(s["low"] <= s["median"] <= s["high"] and s["repeats"] >= 1 for s in found)


def test_speeds_and_their_ratios_are_positive(measured):
    _, records = measured
    results = records["throughput"]["results"]
    assert results["run"]["ratio"] > 0
    for stage in results["stages"]:
        for name in ("end_to_end", "synthetic", "ratio", "cpu_ratio"):
            assert stage[name]["low"] > 0
            assert stage[name]["repeats"] == 2


def test_shares_of_an_epoch_are_shares(measured):
    _, records = measured
    results = records["keeping"]["results"]
    for clock in ("wall", "cpu"):
        run = results["run"][clock]
        both = run["vitals_share"] + run["curves_share"]
        assert run["vitals_and_curves_share"] == pytest.approx(both, rel=1e-3)
        assert all(0 <= share < 1 for share in run.values())
        assert run["curves_share"] > 0
        assert run["probe_share"] > 0
        assert results["stages"][0]["epoch"][clock]["seconds"] > 0


def test_a_training_is_followed_epoch_by_epoch(measured):
    _, records = measured
    (training,) = records["convergence"]["results"]["runs"]
    epochs = training["epochs"]
    used = [row["cpu_seconds"] for row in epochs]
    assert [row["epoch"] for row in epochs] == [1, 2, 3, 4]
    assert 0 < training["ready"]["cpu_seconds"] <= used[0]
    assert used == sorted(used)
    assert used[-1] <= training["cpu_seconds"]
    assert training["peak_mb"] > 100
    assert 0 < training["test"]["macro_f1"] <= 1
    for score, found in training["to_score"].items():
        above = [row for row in epochs if row["val_macro_f1"] >= float(score)]
        assert (found or {}).get("epoch") == (above[0]["epoch"] if above else None)


def test_the_page_shows_every_part_and_no_place(measured):
    folder, records = measured
    page = (folder / "README.md").read_text("utf-8")
    ratio = records["throughput"]["results"]["run"]["ratio"]
    assert page.count("\n## ") == 3
    assert f"**{ratio:.3f}**" in page
    assert str(folder.parent) not in page
    assert str(folder.parent) not in json.dumps(records)


def test_the_committed_page_is_that_of_the_committed_results():
    folder = ROOT / "benchmarks"
    done = run_module("benchmarks.report", "--print")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (folder / "README.md").read_text("utf-8")

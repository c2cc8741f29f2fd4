"""The demo: from nothing to a classifier of leaves, in one command, as often as one likes."""

import json
import shutil
from pathlib import Path

import pytest
from rich.cells import cell_len

from espalier import demonstration
from espalier.data.synthetic.leaves import LEAF_CLASSES
from espalier.recipe.load import load_recipe


@pytest.fixture
def small_demo(monkeypatch):
    """A demo of seconds: few small leaves, two epochs."""
    words = ["epochs=2", "imgsz=32", "batch=16", "precision=fp32", "workers=0"]
    sets = ["training.threads=1", "training.channels_last=true"]

    def load_small(**given):
        return load_recipe(**{**given, "words": words, "sets": sets})

    monkeypatch.setattr(demonstration, "IMAGES", 84)
    monkeypatch.setattr(demonstration, "RATIO", 4.0)
    monkeypatch.setattr(demonstration, "PIXELS", 40)
    monkeypatch.setattr(demonstration, "load_recipe", load_small)


def fingerprints(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*.jpg"))}


@pytest.mark.usefixtures("small_demo")
def test_a_first_and_a_second_demo(espalier, tmp_path):
    first = espalier("demo", "--out", "try", "--json")
    assert first.code == 0, first.err
    leaves = tmp_path / "try" / "leaves-0"
    drawn = fingerprints(leaves)
    assert len(drawn) == 84
    assert sorted(p.name for p in leaves.iterdir()) == sorted(LEAF_CLASSES)
    assert first.json["run"] == "try/runs/leaves"
    assert first.json["leaves"] == "try/leaves-0"
    assert 0 < first.json["test"]["macro_f1"] <= 1
    assert first.json["seconds"] > 0
    prediction = first.json["prediction"]
    assert Path(prediction["path"]).is_file()
    assert prediction["drawn_as"] == Path(prediction["path"]).parent.name
    assert prediction["label"] in LEAF_CLASSES

    second = espalier("demo", "--out", "try")
    assert second.code == 0, second.err
    assert second.out == ""
    assert fingerprints(leaves) == drawn
    assert "the leaves of an earlier demo are used again: try/leaves-0" in second.err
    runs = tmp_path / "try" / "runs"
    assert (runs / "latest").resolve() == runs / "leaves-2"
    for picture in ("curves.png", "confusion_matrix.png", "train_batch.jpg"):
        assert (runs / "leaves-2" / picture).stat().st_size > 0


@pytest.mark.usefixtures("small_demo")
def test_what_a_person_reads_fits_the_terminal_and_leads_on(espalier):
    lines = espalier("demo").err.splitlines()
    assert "minutes" in lines[0]
    assert lines[1] == "drawing 84 leaves into demo/leaves-0"
    assert [line for line in lines if cell_len(line) > 80] == []
    splits = [line.split()[0] for line in lines if " : 1" in line]
    assert splits == ["train", "val", "test"]
    assert sum(line.split()[:1] == ["all"] and line.split()[1].isdigit() for line in lines) == 2
    for words in ("worst classes by F1, test:", "one test image", "demo/runs/leaves/curves.png"):
        assert words in "\n".join(lines)
    assert lines[-1] == "  espalier train PHOTOS"


@pytest.mark.usefixtures("small_demo")
def test_what_lies_in_the_way_is_kept_and_named(espalier, tmp_path):
    mine = tmp_path / "demo" / "leaves-0" / "mine.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"a photograph")
    answer = espalier("demo")
    assert answer.code == 2
    assert "demo/leaves-0 exists" in answer.err
    assert "--out" in answer.err
    assert mine.read_bytes() == b"a photograph"
    assert not (tmp_path / "demo" / "runs").exists()


@pytest.mark.usefixtures("small_demo")
def test_leaves_that_were_removed_are_drawn_again_and_each_seed_has_its_own(tmp_path):
    from espalier.train.watch import Unwatched

    leaves = demonstration.draw(tmp_path, 0, Unwatched())
    drawn = {path.name: path.read_bytes() for path in leaves.rglob("*.jpg")}
    shutil.rmtree(leaves)
    counted = []
    again = demonstration.draw(tmp_path, 0, Unwatched(), lambda *count: counted.append(count))
    assert {path.name: path.read_bytes() for path in again.rglob("*.jpg")} == drawn
    assert counted[-1] == (84, 84)
    assert demonstration.draw(tmp_path, 1, Unwatched()) != leaves


@pytest.mark.slow
def test_the_demo_learns_the_leaves(start, tmp_path):
    process = start("demo", "--json", cwd=tmp_path)
    out, err = process.communicate(timeout=1800)
    assert process.returncode == 0, err
    answer = json.loads(out)
    assert answer["test"]["macro_f1"] >= 0.80
    assert answer["test"]["images"] >= 200

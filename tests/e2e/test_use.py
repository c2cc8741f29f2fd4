import csv
import io
import json
import shutil

import pytest
from PIL import Image


def width(path):
    with Image.open(path) as picture:
        return picture.width


def test_evaluate_says_the_same_as_training_did(trained, espalier):
    folder, answer = trained
    again = espalier("evaluate", folder, "--json").json
    assert again["test"]["macro_f1"] == answer["test"]["macro_f1"]
    assert len(again["test"]["classes"]) == 3
    worst = [entry["f1"] for entry in again["test"]["classes"]]
    assert worst == sorted(worst)


def test_evaluate_on_another_folder(trained, tiny, espalier):
    folder, _ = trained
    answer = espalier("evaluate", folder, "--data", tiny, "--json")
    assert answer.json["photos"]["images"] == 48
    assert (folder / "predictions" / "photos.parquet").exists()


def test_predict_files_folders_and_globs_and_skips_what_it_cannot_read(
    trained, tiny, espalier, tmp_path
):
    folder, _ = trained
    mixed = tmp_path / "new photos"
    shutil.copytree(next(path for path in tiny.iterdir() if path.is_dir()), mixed)
    (mixed / "broken.jpg").write_bytes(b"not a picture")
    answer = espalier("predict", folder, mixed, "--json")
    assert answer.code == 0
    assert len(answer.json["predictions"]) == 16
    assert answer.json["unreadable"][0]["path"].endswith("broken.jpg")
    for row in answer.json["predictions"]:
        assert sum(entry["probability"] for entry in row["top"]) == pytest.approx(1, abs=1e-4)
    assert espalier("predict", folder, mixed, "--strict").code == 1
    globbed = espalier("predict", folder, str(mixed / "*.png"), "--format", "jsonl", "--top", "1")
    lines = [json.loads(line) for line in globbed.out.splitlines()]
    assert len(lines) == 16
    assert len(lines[0]["top"]) == 1


def test_predict_writes_csv_that_a_spreadsheet_reads(trained, tiny, espalier):
    folder, _ = trained
    answer = espalier("predict", folder, tiny, "--format", "csv", "--top", "2")
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert len(rows) == 48
    assert set(rows[0]) == {"path", "label_1", "probability_1", "label_2", "probability_2"}


def test_plot_draws_runs_and_checkpoints(trained, espalier, tmp_path):
    folder, _ = trained
    for source in (folder, folder / "checkpoints" / "best.pt"):
        answer = espalier("plot", source, "--output", "curves.png")
        assert answer.code == 0, answer.err
        assert width(tmp_path / "curves.png") > 800
        (tmp_path / "curves.png").unlink()


def test_compare_lays_runs_side_by_side(trained, espalier, tmp_path):
    folder, _ = trained
    answer = espalier("compare", folder, folder, "-o", "both.png")
    assert answer.code == 0, answer.err
    assert "macro-F1" in answer.out
    assert width(tmp_path / "both.png") > 800


def test_split_writes_a_manifest_that_trains_on_the_same_parts(tiny, espalier, tmp_path):
    answer = espalier("split", tiny, "-o", "split.csv", "--json")
    assert answer.code == 0, answer.err
    with (tmp_path / "split.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 48
    counts = answer.json["counts"]
    assert sum(counts["test"].values()) == sum(row["split"] == "test" for row in rows)
    assert espalier("split", tiny, "-o", "split.csv").code == 2


def test_the_python_functions_do_the_same(trained, tiny):
    import espalier

    folder, answer = trained
    evaluations = espalier.evaluate_run(folder)
    assert evaluations[-1].scores["macro_f1"].value == pytest.approx(answer["test"]["macro_f1"])
    predictions, unreadable = espalier.predict_images(folder, [tiny])
    assert len(predictions.paths) == 48
    assert unreadable == ()
    assert len(espalier.read_history(folder).rows) == 4

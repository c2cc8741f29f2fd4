"""Accepted corrections through whole commands: applied, on record, and no photograph touched."""

import csv
import hashlib
import shutil

import pytest

from espalier.data.catalog import read_catalog
from espalier.data.synthetic.tiny import write_tiny

HEADER = ("sample", "path", "action", "value", "reason", "rule", "accepted")


def write_table(path, rows, mark=","):
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file, delimiter=mark)
        table.writerow(HEADER)
        table.writerows(rows)
    return path


def row(path, action, value="", accepted="yes"):
    return ("", path, action, value, "seen twice", "", accepted)


def fingerprint(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def names(photos, label):
    return [f"{label}/{path.name}" for path in sorted((photos / label).iterdir())]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corrected") / "photos"
    return write_tiny(folder, classes=3, per_class=16, imgsz=40, seed=0)


@pytest.fixture(scope="module")
def corrected(photos, start, quick, tmp_path_factory):
    """A finished run on corrected photographs, the table, and what was said."""
    folder = tmp_path_factory.mktemp("run")
    first, second = names(photos, "class_0"), names(photos, "class_1")
    # As a German spreadsheet saves it.
    table = write_table(
        folder / "corrections.csv",
        [
            row(first[0], "drop", accepted="Ja"),
            row(first[1], "relabel", "class_1", "WAHR"),
            row(second[0], "move", "Test", "x"),
            row(second[1], "drop", accepted="nein"),
            ("", "class_2/gone.png", "drop", "", "", "", "ja"),
        ],
        mark=";",
    )
    before = fingerprint(photos)
    words = [*quick, "--corrections", "corrections.csv", "--out", "runs", "--name", "first"]
    process = start("train", photos, *words, cwd=folder)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert fingerprint(photos) == before
    return folder / "runs" / "first", table, err


def test_the_header_says_what_was_applied_and_what_was_not(corrected):
    _, _, err = corrected
    assert "3 of 4 corrections applied: 1 dropped, 1 relabelled, 1 moved" in err
    assert "class_2/gone.png" in err


def test_the_catalog_of_the_run_shows_every_correction(corrected, photos):
    run, table, _ = corrected
    catalog = read_catalog(run / "catalog.csv")
    found = {sample.path.removeprefix(f"{photos}/"): sample for sample in catalog.samples}
    first, second = names(photos, "class_0"), names(photos, "class_1")
    assert (found[first[0]].status, found[first[0]].reason) == ("dropped", "seen twice")
    assert found[first[1]].label == "class_1"
    assert found[second[0]].split == "test"
    assert found[second[1]].status == "ok"
    assert len(catalog.dropped) == 1
    assert catalog.counts() == {"class_0": 14, "class_1": 17, "class_2": 16}
    assert f"corrections: {table}" in (run / "recipe.yaml").read_text()
    predicted = (run / "predictions" / "test.parquet").read_bytes()
    assert found[second[0]].sample_id.encode() in predicted


def test_a_run_goes_on_with_its_catalog_whatever_became_of_the_table(corrected, espalier, tmp_path):
    run, table, _ = corrected
    shutil.copytree(run, tmp_path / "copy")
    kept = table.read_bytes()
    before = (tmp_path / "copy" / "catalog.csv").read_bytes()
    table.unlink()
    try:
        answer = espalier("train", "--resume", tmp_path / "copy", "epochs=5")
    finally:
        table.write_bytes(kept)
    assert answer.code == 0, answer.err
    assert (tmp_path / "copy" / "catalog.csv").read_bytes() == before


def test_a_run_cannot_go_on_with_other_corrections(corrected, espalier, tmp_path):
    run, _, _ = corrected
    other = write_table(tmp_path / "other.csv", [])
    answer = espalier("train", "--resume", run, "--corrections", other, "epochs=6")
    assert answer.code == 2
    assert "corrections" in answer.err
    assert "Traceback" not in answer.err


def test_the_recipe_of_a_run_takes_new_corrections_with_new_classes(
    corrected, photos, espalier, tmp_path
):
    run, _, _ = corrected
    table = write_table(
        tmp_path / "more.csv",
        [row(name, "relabel", "scab") for name in names(photos, "class_2")[:5]],
    )
    words = ("--corrections", table, "--dry-run", "--json")
    answer = espalier("train", photos, "--config", run / "recipe.yaml", *words)
    assert answer.code == 0, answer.err
    assert sum(counts["scab"] for counts in answer.json["counts"].values()) == 5
    assert "new class `scab`" in answer.err


def test_split_writes_what_is_left_as_a_manifest(photos, espalier, tmp_path):
    first = names(photos, "class_0")
    table = write_table(
        tmp_path / "c.csv", [row(first[0], "drop"), row(first[1], "relabel", "class_2")]
    )
    answer = espalier("split", photos, "--corrections", table, "-o", tmp_path / "split.csv")
    assert answer.code == 0, answer.err
    assert "2 of 2 corrections applied" in answer.err
    with (tmp_path / "split.csv").open() as file:
        labels = {line["path"]: line["label"] for line in csv.DictReader(file)}
    assert len(labels) == 47
    assert str(photos / first[0]) not in labels
    assert labels[str(photos / first[1])] == "class_2"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row("class_0/none.png", "drop")], "none of the 1 corrections"),
        ([row("{0}", "dorp")], "did you mean `drop`"),
        ([row("{0}", "move", "somewhere")], "train, val, test"),
        ([row("{0}", "drop"), row("{0}", "relabel", "class_1")], "rows 2 and 3"),
        ([row(f"{{{n}}}", "drop") for n in range(16)], "`class_0`: all 16 images"),
    ],
    ids=["other-data", "action", "part", "contradiction", "emptied"],
)
def test_tables_that_cannot_hold_are_one_message(photos, espalier, tmp_path, rows, said):
    first = names(photos, "class_0")
    filled = [tuple(cell.format(*first) for cell in cells) for cells in rows]
    table = write_table(tmp_path / "c.csv", filled)
    answer = espalier(
        "train", photos, "--corrections", table, "--model", "small-cnn", "--weights", "none"
    )
    assert answer.code == 2, answer.err
    assert said in " ".join(answer.err.split())
    assert "try:" in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "runs").exists()


def test_a_table_that_is_not_there_is_said_at_once(photos, espalier):
    answer = espalier("train", photos, "--corrections", "gone.csv")
    assert answer.code == 2
    assert "gone.csv" in answer.err
    assert "espalier audit" in answer.err

"""``espalier audit`` on photographs with known problems, as a person uses it."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
RICE = SHARED / "datasets" / "rice_leaf3_dups" / "all"


@pytest.fixture
def troubled(tiny, tmp_path):
    """The tiny photographs with a broken file, an exact copy in another class, and a flat one."""
    photos = tmp_path / "photos"
    shutil.copytree(tiny, photos)
    first = sorted((photos / "class_0").iterdir())[0]
    shutil.copyfile(first, photos / "class_0" / "copy.png")
    shutil.copyfile(sorted((photos / "class_1").iterdir())[0], photos / "class_2" / "other.png")
    (photos / "class_0" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    flat = np.full((40, 40, 3), 90, dtype=np.uint8)
    Image.fromarray(flat).save(photos / "class_1" / "flat.png")
    return photos


def found(answer) -> dict:
    return {finding["rule"]: finding for finding in answer.json["findings"]}


def files_of(folder: Path) -> set[tuple[str, int]]:
    return {(str(p), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def test_planted_problems_are_found_and_nothing_is_touched(espalier, troubled) -> None:
    before = files_of(troubled)
    answer = espalier("audit", troubled, "--no-features", "--json")
    assert answer.code == 0
    assert {"unreadable_images", "exact_duplicates", "conflicting_labels"} <= set(found(answer))
    broken = found(answer)["unreadable_images"]["cases"][0]
    assert broken["paths"] == [str(troubled / "class_0" / "broken.jpg")]
    assert "constant_images" in found(answer)
    assert files_of(troubled) == before


def test_what_is_accepted_is_applied_by_train(espalier, troubled) -> None:
    answer = espalier("audit", troubled, "--no-features", "--json", "--no-visualize")
    table = Path(answer.json["folder"]) / "corrections.csv"
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    place = rows[0].index("accepted")
    for row in rows[1:]:
        row[place] = "yes" if row[rows[0].index("rule")] == "unreadable_images" else ""
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    plan = espalier("train", troubled, "--corrections", table, "--dry-run", "--json",
                    "--model", "small-cnn", "--weights", "none", "--imgsz", "32")  # fmt: skip
    assert plan.code == 0, plan.err
    assert "1 dropped" in plan.err


def test_pictures_and_page_are_written(espalier, troubled) -> None:
    answer = espalier("audit", troubled, "--no-features", "--augmented", "--json", "imgsz=32",
                      "--model", "small-cnn", "--weights", "none")  # fmt: skip
    folder = Path(answer.json["folder"])
    for name in ("audit.html", "classes.png", "weights.png", "augmented.jpg", "findings.json"):
        assert (folder / name).stat().st_size > 500, name
    assert (folder / "galleries" / "conflicting_labels.jpg").is_file()
    record = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
    assert record["findings"] == answer.json["findings"]


def test_strict_fails_where_there_is_a_warning_and_only_there(espalier, troubled, tiny) -> None:
    assert espalier("audit", troubled, "--no-features", "--strict", "--no-visualize").code == 1
    clean = espalier("audit", tiny, "--no-features", "--strict", "--no-visualize", "--json")
    serious = [f for f in clean.json["findings"] if f["severity"] != "info"]
    assert clean.code == (1 if serious else 0)


def test_corrections_are_told_as_training_tells_them(espalier, tiny, tmp_path) -> None:
    table = tmp_path / "mine.csv"
    name = sorted((tiny / "class_0").iterdir())[0].name
    rows = [
        "path,action,value,accepted",
        f"class_0/{name},relabel,klass_0,yes",
        "gone.png,drop,,yes",
    ]
    table.write_text("\n".join(rows), encoding="utf-8")
    wanted = (
        "1 of 2 corrections applied: 1 relabelled",
        "1 correction names an image that the data no longer hold: row 3: gone.png",
        "1 image makes a new class `klass_0`; did you mean `class_0`?",
    )
    answer = espalier("audit", tiny, "--corrections", table, "--no-features", "--no-visualize",
                      "--json")  # fmt: skip
    plan = espalier("train", tiny, "--corrections", table, "--dry-run", "--json",
                    "--model", "small-cnn", "--weights", "none", "--imgsz", "32")  # fmt: skip
    for text in wanted:
        assert text in answer.err
        assert text in plan.err
        assert text in answer.json["notes"]


def test_a_folder_above_the_classes_is_pointed_out(espalier, tiny, tmp_path) -> None:
    shutil.copytree(tiny, tmp_path / "above" / "all")
    answer = espalier("audit", "above", "--no-features", "--no-visualize", "--json")
    assert answer.code == 0
    assert answer.json["notes"] == [
        "one class, `all`, which holds folders: did you mean above/all?"
    ]
    one = tmp_path / "one"
    shutil.copytree(tiny / "class_0", one / "all")
    answer = espalier("audit", one, "--no-features", "--no-visualize", "--json")
    assert not any("did you mean" in note for note in answer.json["notes"])


def test_paths_are_shown_as_seen_from_the_photographs(
    espalier, troubled, tmp_path, monkeypatch
) -> None:
    (tmp_path / "beside").mkdir()
    monkeypatch.chdir(tmp_path / "beside")
    answer = espalier("audit", "../photos", "--no-features", "--no-visualize")
    assert "- class_0/broken.jpg: " in answer.out
    assert str(tmp_path) not in answer.out


def test_an_interrupted_audit_says_how_to_go_on(start, tiny, tmp_path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("path,action,value,accepted\ngone.png,drop,,yes\n"
                     f"{sorted(tiny.rglob('*.png'))[0]},drop,,yes", encoding="utf-8")  # fmt: skip
    process = start("audit", tiny, "--corrections", table, "--no-features", cwd=tmp_path,
                    ESPALIER_CACHE=str(tmp_path / "cache"))  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "corrections applied" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "interrupted; the same command goes on from what was kept"
    assert "Traceback" not in err
    assert not out


def test_every_rule_is_in_exactly_one_place(espalier, troubled) -> None:
    from espalier.cli.rules import all_rules

    answer = espalier("audit", troubled, "--no-features", "--json", "--no-visualize")
    skipped = [entry["rule"] for entry in answer.json["skipped"]]
    every = [*found(answer), *answer.json["clear"], *skipped]
    assert sorted(every) == sorted(r.name for r in all_rules() if r.code.startswith("AUD"))
    assert "label_suspects" in skipped


def test_quarantine_lists_unreadable_files_once(espalier, troubled, tmp_path) -> None:
    place = tmp_path / "quarantine.csv"
    words = ("audit", troubled, "--no-features", "--no-visualize", "--quarantine", place)
    assert espalier(*words).code == 0
    assert "broken.jpg" in place.read_text(encoding="utf-8-sig")
    again = espalier(*words)
    assert again.code == 2
    assert "nothing is overwritten" in again.err


def test_audits_do_not_lie_among_the_photographs(espalier, troubled) -> None:
    answer = espalier("audit", troubled, "--out", troubled / "audits")
    assert answer.code == 2
    assert "inside of the photographs" in answer.err
    assert not (troubled / "audits").exists()


def test_a_second_audit_has_a_folder_of_its_own(espalier, tiny) -> None:
    words = ("audit", tiny, "--no-features", "--no-visualize", "--json")
    first, second = (Path(espalier(*words).json["folder"]) for _ in range(2))
    assert (first.name, second.name) == ("photos", "photos-2")


def test_a_class_that_training_lacks_is_a_finding_and_no_error(espalier, tiny, tmp_path) -> None:
    photos = tmp_path / "split"
    for split in ("train", "val"):
        shutil.copytree(tiny, photos / split)
    shutil.rmtree(photos / "train" / "class_2")
    answer = espalier("audit", photos, "--no-features", "--no-visualize", "--json")
    assert answer.code == 0
    assert found(answer)["class_missing_in_split"]["severity"] == "error"
    assert "duplicates_across_splits" in found(answer)


def test_training_says_what_matters_by_itself(espalier, tiny, tmp_path, quick) -> None:
    photos = tmp_path / "split"
    for split in ("train", "val"):
        shutil.copytree(tiny, photos / split)
    answer = espalier("train", photos, *quick, "--json")
    assert answer.code == 0, answer.err
    assert "espalier audit" in answer.err
    record = json.loads((Path(answer.json["run"]) / "audit.json").read_text(encoding="utf-8"))
    assert "duplicates_across_splits" in {finding["rule"] for finding in record["findings"]}


@pytest.mark.skipif(not RICE.is_dir(), reason="needs the photographs beside the repository")
def test_known_duplicates_of_rice_leaves_are_found(espalier) -> None:
    answer = espalier("audit", RICE, "--no-features", "--no-visualize", "--json")
    exact = found(answer)["exact_duplicates"]
    assert sum(len(case["samples"]) - 1 for case in exact["cases"]) == 21

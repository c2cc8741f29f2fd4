"""The benchmark of the audit plants what it says, counts as one counts by hand, and runs."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks.audit import plant, planted, report, scale, score, sets
from benchmarks.audit.__main__ import main
from benchmarks.audit.plant import Labelled, Planted
from espalier.data.synthetic.tiny import write_tiny


@pytest.fixture
def photos(tmp_path):
    """Two parts of two classes with 30 small pictures each."""
    rng = np.random.default_rng(7)
    for split in ("train", "test"):
        for label in ("ash", "elm"):
            place = tmp_path / "photos" / split / label
            place.mkdir(parents=True)
            for number in range(30):
                picture = rng.integers(0, 256, (48, 40, 3), dtype=np.uint8)
                smooth = cv2.GaussianBlur(picture, (0, 0), 3)
                cv2.imwrite(str(place / f"{number:02d}.jpg"), smooth)
    return tmp_path / "photos"


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def record(**cases):
    """Findings as ``--json`` gives them."""
    return {
        "findings": [
            {"rule": rule, "cases": [{"paths": list(paths)} for paths in groups]}
            for rule, groups in cases.items()
        ]
    }


# ---- planting


def test_planting_is_exact_and_leaves_all_others_as_they_were(photos):
    before = {path: path.read_bytes() for path in photos.rglob("*.jpg")}
    made = plant.plant_all(photos, seed=3)
    copies = [one for one in made if one.path != one.source]
    changed = {photos / one.path for one in made if one.path == one.source}
    assert {path for path, data in before.items() if path.read_bytes() != data} == changed
    assert {path for path in photos.rglob("*.jpg")} - set(before) == {
        photos / one.path for one in copies
    }
    sources = [one.source for one in made]
    assert len(sources) == len(set(sources))
    for one in copies:
        equal = (photos / one.path).read_bytes() == (photos / one.source).read_bytes()
        assert equal == (one.kind == "exact")


def test_planting_is_the_same_with_the_same_seed_only(photos, tmp_path):
    other, third = tmp_path / "other", tmp_path / "third"
    shutil.copytree(photos, other)
    shutil.copytree(photos, third)
    assert plant.plant_all(photos, seed=3) == plant.plant_all(other, seed=3)
    assert contents(photos) == contents(other)
    plant.plant_all(third, seed=4)
    assert contents(third) != contents(photos)


def test_shares_are_those_of_the_issue():
    assert (plant.EXACT, plant.NEAR, plant.LEAKED, plant.BROKEN) == (0.01, 0.02, 0.01, 0.005)
    assert [share for _, share, _ in planted.VARIANTS] == [0.05, 0.1, 0.2, 0.1]
    assert [plant.counted(0.01, n) for n in (4750, 10)] == [48, 1]


@pytest.mark.parametrize("how", plant.CHANGES)
def test_changed_copies_keep_most_of_the_picture(how):
    pixels = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8), (0, 0), 4
    )
    changed, quality = plant.CHANGES[how](pixels, np.random.default_rng(1))
    area = changed.shape[0] * changed.shape[1] / (100 * 120)
    assert 0.24 <= area <= 1
    assert 20 <= quality <= 90
    if how in ("flip", "JPEG", "brightness"):
        assert changed.shape == pixels.shape


def test_broken_and_odd_files_are_what_they_are_called(photos):
    made = {one.how: photos / one.path for one in plant.plant_all(photos, seed=0)}
    assert made["wrong_extension"].read_bytes().startswith(b"\x89PNG")
    assert np.ptp(plant.read(made["constant_images"])) <= 3
    assert plant.read(made["odd_exposure, dark"]).mean() < 30
    assert plant.read(made["odd_exposure, bright"]).mean() > 225
    gray = plant.read(made["gray_among_colour"]).astype(int)
    assert abs(gray[..., 0] - gray[..., 2]).max() <= 3
    with Image.open(made["rotated_by_exif"]) as turned:
        assert turned.getexif()[0x0112] == 6
    with Image.open(made["truncated"]) as cut, pytest.raises(OSError, match="truncated"):
        cut.load()


def test_wrong_labels_are_as_many_as_asked_and_reproducible():
    rows = [Labelled(f"{i}.jpg", "abcd"[i % 4], "train") for i in range(400)]
    wrong = plant.mislabelled(rows, 0.1, "random", seed=1)
    changed = [(r.label, w.label) for r, w in zip(rows, wrong, strict=True) if r != w]
    assert len(changed) == 40
    assert all(right != given for right, given in changed)
    assert wrong == plant.mislabelled(rows, 0.1, "random", seed=1)
    assert wrong != plant.mislabelled(rows, 0.1, "random", seed=2)
    by_class = plant.mislabelled(rows, 0.1, "by class", seed=1)
    pairs = Counter((r.label, w.label) for r, w in zip(rows, by_class, strict=True) if r != w)
    assert sum(pairs.values()) == 40
    assert set(pairs) <= {("b", "c"), ("c", "d"), ("d", "a")}
    assert pairs["d", "a"] > pairs["b", "c"]


# ---- counting


def test_copies_are_counted_as_by_hand():
    cases = [["a", "a1"], ["b", "b1", "x"], ["n", "m"], ["c", "d"]]
    links = [("a1", "a"), ("b1", "b"), ("e1", "e")]
    # Found: a1 and b1. False: x beside b, and c beside d; n and m are known.
    assert score.score_copies(cases, links, [("m", "n")]) == score.Score(3, 2, 2)
    # A chain of known copies explains a case, whichever of them it names.
    chain = [("x", "y"), ("y", "b")]
    assert score.score_copies(cases, links, [*chain, ("m", "n"), ("d", "c")]).false == 0


def test_a_case_without_the_source_finds_nothing():
    assert score.score_copies([["a1", "z"]], [("a1", "a")], []) == score.Score(1, 0, 1)
    assert score.score_copies([], [("a1", "a")], []) == score.Score(1, 0, 0)


def test_single_files_are_counted_as_by_hand():
    cases = [["a"], ["b"], ["old"], ["c"]]
    assert score.score_files(cases, ["a", "b", "lost"], ["old"]) == score.Score(3, 2, 1)


def test_copies_belong_to_the_rule_that_should_name_them():
    made = [
        Planted("exact", "equal bytes", "train/a/1", "train/a/0"),
        Planted("near", "crop", "test/a/2", "train/a/3"),
        Planted("near", "flip", "train/b/4", "train/a/5"),
        Planted("broken", "text", "train/a/6", "train/a/6"),
    ]
    splits = {p: p.split("/")[0] for one in made for p in (one.path, one.source)}
    # The split that the audit made counts, not the folder.
    splits["test/a/2"] = "val"
    found = planted.by_copy_rule(made, splits)
    assert {rule: [one.path for one in ones] for rule, ones in found.items()} == {
        "exact_duplicates": ["train/a/1"],
        "near_duplicates_across_splits": ["test/a/2"],
        "conflicting_labels": ["train/b/4"],
    }


def test_intervals_are_those_of_wilson():
    from scipy.stats import binomtest

    for part, whole in ((0, 7), (7, 7), (45, 48), (1, 300)):
        expected = binomtest(part, whole).proportion_ci(method="wilson")
        found = score.share(part, whole)
        assert found["low"] == pytest.approx(expected.low, abs=1e-4)
        assert found["high"] == pytest.approx(expected.high, abs=1e-4)
    assert score.share(0, 0) is None


def test_f1_and_its_difference_are_those_of_scikit_learn():
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(5)
    wrong = rng.random(400) < 0.2
    ours, theirs = wrong ^ (rng.random(400) < 0.1), wrong ^ (rng.random(400) < 0.2)
    counts = rng.random(400) < 0.9
    found = score.compared(ours, theirs, wrong, counts, seed=0)
    mine, other = (f1_score(wrong[counts], flags[counts]) for flags in (ours, theirs))
    assert found["ours"]["value"] == pytest.approx(mine, abs=1e-4)
    assert found["theirs"]["value"] == pytest.approx(other, abs=1e-4)
    assert found["difference"]["value"] == pytest.approx(mine - other, abs=2e-4)
    assert found["difference"]["low"] < mine - other < found["difference"]["high"]
    assert found["difference"]["low"] > 0


def test_bootstrap_is_as_wide_as_drawing_images_one_by_one():
    rng = np.random.default_rng(2)
    wrong = rng.random(300) < 0.3
    ours = wrong ^ (rng.random(300) < 0.15)
    found = score.compared(ours, wrong, wrong, np.ones(300, dtype=bool), seed=0)["ours"]
    drawn = []
    for _ in range(1000):
        rows = rng.integers(0, 300, 300)
        hits = (ours & wrong)[rows].sum()
        drawn.append(2 * hits / (ours[rows].sum() + wrong[rows].sum()))
    assert found["low"] == pytest.approx(np.percentile(drawn, 2.5), abs=0.02)
    assert found["high"] == pytest.approx(np.percentile(drawn, 97.5), abs=0.02)


def test_links_come_from_all_rules_about_copies():
    found = score.linked(
        record(near_duplicates=[["a", "b", "c"]], conflicting_labels=[["d", "e"]], blurred=[["f"]])
    )
    assert found == [("a", "b"), ("a", "c"), ("d", "e")]


def test_pairs_looked_at_are_told_from_those_nobody_saw():
    judged = {frozenset("ab"): True, frozenset("cd"): False}
    found = planted.judged_by_eye([frozenset(pair) for pair in ("ab", "cd", "ef")], judged)
    counted = [found[name] for name in ("named", "same", "different", "not_looked_at")]
    assert counted == [3, 1, 1, 1]


def test_judged_pairs_are_pairs_of_sets_that_are_audited():
    with sets.JUDGED.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert {row["same"] for row in rows} <= {"yes", "no"}
    assert {row["set"] for row in rows} <= {*(one.name for one in sets.PLANTED_IN), "rice"}
    assert all(row["first"] != row["second"] for row in rows)


def test_plates_are_known_by_the_names_that_their_author_gave():
    names = ["train/dirty/0007.jpg", "train/dirty/0007_090.jpg", "valid/dirty/0007_noise.jpg"]
    names += ["train/cleaned/0007_090.jpg", "valid/cleaned/0007.jpg"]
    assert sets.same_plates(names) == [
        ("train/dirty/0007_090.jpg", "train/dirty/0007.jpg"),
        ("valid/dirty/0007_noise.jpg", "train/dirty/0007.jpg"),
        ("train/cleaned/0007_090.jpg", "valid/cleaned/0007.jpg"),
    ]


# ---- scale and page


def run_of(images, seconds, peak):
    return {
        "images": images,
        "cpu_seconds": dict.fromkeys(scale.PHASES, seconds),
        "total_cpu_seconds": 5 * seconds,
        "peak_mb": peak,
    }


def test_extrapolation_follows_the_measured_exponent():
    runs = [run_of(1000, 2.0, 1100), run_of(2000, 8.0, 1200), run_of(4000, 32.0, 1400)]
    found = scale.extrapolated(runs, 8000)
    assert set(found["exponents"].values()) == {2.0}
    assert found["cpu_seconds"]["compare"] == pytest.approx(128)
    assert found["total_cpu_minutes"] == pytest.approx(5 * 128 / 60, rel=1e-3)
    assert found["peak_gb"] == pytest.approx(1.8)


def test_numbers_are_never_rounded_up_to_a_target():
    assert report.cut(0.98999) == "0.989"
    assert report.cut(1.0) == "1.000"
    assert report.target("recall", 0.99, {"value": 0.9899, "low": 0.9, "high": 1})[-1] == "missed"
    assert report.target("recall", 0.99, {"value": 0.99, "low": 0.9, "high": 1})[-1] == "met"


def test_the_committed_page_is_made_from_the_committed_results():
    results = report.RESULTS / "audit.json"
    if not results.exists():
        pytest.skip("the benchmark has not been run yet: make bench-audit")
    found = json.loads(results.read_text("utf-8"))
    assert (report.RESULTS / "audit.md").read_text("utf-8") == report.render(found)


def test_a_set_is_audited_planted_in_and_counted(tmp_path, monkeypatch):
    """The whole way on a small set without weights: rules about pictures and copies speak."""
    monkeypatch.setenv("ESPALIER_CACHE", str(tmp_path / "cache"))
    folder = write_tiny(tmp_path / "photos", classes=3, per_class=40, imgsz=64, seed=0)
    for number, path in enumerate(sorted(folder.glob("*/*"))):
        part = folder / ("train" if number % 3 else "test") / path.parent.name
        part.mkdir(parents=True, exist_ok=True)
        plant.write(part / f"{path.stem}.jpg", plant.read(path), 95)
        path.unlink()
    clean = sets.audited(folder, folder, Path("none"), 64)
    facts = planted.clean_facts(clean, folder, {})
    found = planted.measure_planted(folder, clean, planted.Asked(Path("none"), 64, 0))
    assert facts["images"] == 120
    assert found["rules"]["exact_duplicates"]["found"] == 1
    assert found["rules"]["unreadable_images"]["found"] == 1
    assert found["rules"]["rotated_by_exif"]["found"] == 1
    assert found["rules"]["wrong_extension"]["recall"]["value"] == 1


def test_missing_weights_are_said_before_anything_is_copied(tmp_path, capsys):
    assert main(["--weights", "no.safetensors", "--out", str(tmp_path)]) == 2
    assert "no.safetensors" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

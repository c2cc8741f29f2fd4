"""espalier check from the outside: words as for train, ticks and crosses, exit codes, no traces."""

import json
from pathlib import Path

import pytest

import espalier as python
from espalier.data.synthetic.tiny import write_tiny
from espalier.data.transforms import transform_for
from espalier.recipe.load import load_recipe
from small_runs import open_job, small_recipe

PRESETS = sorted(
    path.stem for path in (Path(__file__).parents[2] / "src/espalier/recipe/presets").glob("*.yaml")
)
PLAIN = {
    "weights": "none", "imgsz": "64", "precision": "fp32", "workers": 0,
}  # fmt: skip
VALUES = {"training.threads": 1, "training.channels_last": True, "training.grouped_fp32": "auto"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checked") / "photos"
    return write_tiny(folder, classes=3, per_class=16, imgsz=72, seed=0)


def test_a_recipe_in_order(espalier, tiny, quick, tmp_path):
    answer = espalier("check", tiny, *quick, "--strict")
    assert answer.code == 0, answer.out
    lines = answer.out.splitlines()
    assert lines[0] == "data"
    assert lines[1].startswith("  ✓ every class can be learned: 3 classes, 36 images")
    assert "✗" not in answer.out
    assert "0 not in order" in lines[-1]
    assert max(map(len, lines)) <= 80
    # No run folder, no picture, nothing.
    assert list(tmp_path.iterdir()) == []


def test_words_are_those_of_train_and_json_is_one_object(espalier, tiny, quick):
    answer = espalier("check", tiny, *quick, "lr=1e-3", "--json")
    assert answer.code == 0
    report = answer.json
    assert report["ok"] is True
    assert {row["passed"] for row in report["rows"]} == {True, None}
    assert all(row["evidence"] for row in report["rows"])
    assert report["seconds"] > 0
    assert any("validation images know" in text for text in report["suggestions"])


def test_a_failure_is_exit_code_1_only_when_strict(espalier, tiny, quick, tmp_path):
    for number in range(3):
        pictures = sorted((tiny / f"class_{number}").iterdir())
        for split, chosen in (("train", pictures[:9]), ("val", pictures[9:])):
            folder = tmp_path / "photos" / split / f"class_{number}"
            folder.mkdir(parents=True)
            for picture in chosen[: 1 if (split, number) == ("train", 2) else None]:
                (folder / picture.name).write_bytes(picture.read_bytes())
    answer = espalier("check", tmp_path / "photos", *quick)
    assert answer.code == 0
    said = " ".join(answer.out.split())
    assert "✗ every class can be learned: 3 classes, 17 images, 8.0 : 1; too few" in said
    assert "class_2 1 try: gather more of them" in said
    assert said.endswith("Look at: data: every class can be learned")
    strict = espalier("check", tmp_path / "photos", *quick, "--strict", "--json")
    assert strict.code == 1
    assert strict.json["ok"] is False


def test_the_picture_is_drawn_where_it_is_wanted_and_replaces_nothing(
    espalier, tiny, quick, tmp_path
):
    answer = espalier("check", tiny, *quick, "--picture", "batch.jpg")
    assert answer.code == 0
    before = (tmp_path / "batch.jpg").read_bytes()
    assert before[:2] == b"\xff\xd8"
    again = espalier("check", tiny, *quick, "--picture", "batch.jpg")
    assert again.code == 2
    assert "nothing is overwritten" in again.err
    assert (tmp_path / "batch.jpg").read_bytes() == before


def test_what_cannot_be_trained_at_all_is_an_error(espalier, tmp_path, quick):
    answer = espalier("check", tmp_path / "nowhere", *quick, "--json")
    assert answer.code == 2
    assert "nowhere does not exist" in json.loads(answer.out)["error"]["error"]


def test_the_order_of_an_earlier_run_is_compared(espalier, tiny, quick, tmp_path):
    run = open_job(small_recipe(tiny, tmp_path / "runs"))[0].run.path
    assert espalier("check", tiny, *quick, "--run", run, "--strict").code == 0
    other = "data.classes=[class_2, class_1, class_0]"
    answer = espalier("check", tiny, *quick, "--run", run, "--set", other)
    assert "other than in run: 0: class_0 -> class_2" in " ".join(answer.out.split())


def test_validation_with_the_transform_of_training_is_caught_from_python(photos, tmp_path):
    given = {"preset": "three-stage", "model": "small-cnn", "values": VALUES, **PLAIN}
    recipe = load_recipe(preset="three-stage", sets=[], flags={}, words=[])
    on_purpose = transform_for("train", recipe, 64)
    report = python.check_training(photos, val_transform=on_purpose, **given)
    assert [row.name for row in report.failed] == [
        "validation has a transform of its own",
        "validation views are fixed",
    ]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "model", ["small-cnn", pytest.param("mobilenetv3_small_100", marks=pytest.mark.slow)]
)
def test_no_preset_raises_a_false_alarm(photos, preset, model):
    report = python.check_training(photos, preset=preset, model=model, values=VALUES, **PLAIN)
    assert report.ok, report.failed
    reasons = {row.name: row.evidence for row in report.rows if row.passed is None}
    assert "drawn at random" in reasons["the weights are those that were asked for"]


def test_real_photographs_and_weights(trashnet, mobilenetv2_weights):
    report = python.check_training(
        trashnet,
        preset="three-stage",
        model="mobilenetv2_100",
        weights=str(mobilenetv2_weights),
        imgsz="96",
        values={**VALUES, "features.engine": "eager", "features.precision": "fp32"},
        precision="fp32",
        workers=0,
    )
    assert report.ok, report.failed
    rows = {row.name: row for row in report.rows}
    first = rows["the first loss is that of chance"].evidence
    assert "(ln 6 = 1.792)" in first
    assert "52 of 52" in rows["the weights are those that were asked for"].evidence

"""Every bad input: one message with value, what is allowed and the fix; exit 2; nothing lost."""

import csv
import json
import os
import pickle
import shutil
import stat

import pytest
import torch
from PIL import Image

from espalier.data.catalog import read_catalog


def picture(path, colour=(10, 200, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 40), colour).save(path)


def refused(answer, *words):
    assert answer.code == 2, (answer.code, answer.out, answer.err)
    for word in words:
        assert str(word) in answer.err, answer.err
    assert "try:" in answer.err
    assert "Traceback" not in answer.err


def test_no_photographs_named(espalier):
    refused(espalier("train"), "PHOTOS")


def test_empty_folder(espalier, tmp_path):
    (tmp_path / "photos").mkdir()
    refused(espalier("train", "photos"), "photos")


def test_folder_that_is_not_there(espalier):
    refused(espalier("train", "gone"), "gone")


def test_one_class_only(espalier, tmp_path):
    for i in range(5):
        picture(tmp_path / "photos" / "healthy" / f"{i}.png", (i, 2 * i, 3 * i))
    refused(espalier("train", "photos"), "healthy")


def test_no_readable_image(espalier, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "x.jpg").write_bytes(b"no picture")
    refused(espalier("train", "photos"), "x.jpg")


def test_class_in_val_but_not_in_train(espalier, tmp_path):
    for part, names in (("train", "ab"), ("val", "abc")):
        for name in names:
            for i in range(3):
                picture(tmp_path / "photos" / part / name / f"{i}.png", (ord(name), i, len(part)))
    refused(espalier("train", "photos"), "c", "train")


def manifest(path, header, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def test_manifest_with_missing_files_and_duplicate_paths_names_all(espalier, tmp_path):
    picture(tmp_path / "a.png")
    rows = [("a.png", "x"), ("gone.png", "y"), ("lost.png", "y"), ("a.png", "x")]
    manifest(tmp_path / "m.csv", ("path", "label"), rows)
    refused(espalier("train", "m.csv"), "gone.png", "lost.png", "a.png")


def test_manifest_with_unknown_columns(espalier, tmp_path):
    picture(tmp_path / "a.png")
    manifest(tmp_path / "m.csv", ("path", "label", "colour"), [("a.png", "x", "red")])
    refused(espalier("train", "m.csv"), "colour")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "resnet5O"), "resnet50"),
        (("--lr", "0"), "lr"),
        (("--lr", "-0.1"), "lr"),
        (("--epochs", "0"), "epochs"),
        (("--batch", "0"), "batch"),
        (("--batch", "4096"), "4096"),
        (("--imgsz", "16", "--model", "vit_tiny_patch16_224", "--set", "model.dropout=0"), "16"),
        (("--set", "training.bacth=4"), "training.batch"),
        (("--preset", "three-stages"), "three-stage"),
        (("--device", "cuda:9"), "cuda"),
        (("--precision", "fp16"), "fp16"),
        (("--time", "soon"), "soon"),
        (("--schedule", "cosinus"), "cosine"),
        (("--set", "loss.focal_gamma=3"), "focal"),
    ],
)
def test_values_that_cannot_hold(tiny, espalier, tmp_path, words, said):
    fixed = [] if "--model" in words else ["--model", "small-cnn"]
    if "--model" not in words or "resnet5O" in words:
        fixed += ["--imgsz", "32"]
    refused(espalier("train", tiny, *fixed, "--weights", "none", *words), said)
    assert not (tmp_path / "runs").exists()


def test_all_problems_at_once(tiny, espalier):
    answer = espalier("train", tiny, "--lr", "-1", "--epochs", "0", "--set", "optimizer.nmae=sgd")
    refused(answer, "lr", "epochs", "optimizer.name")


def test_pretrained_weights_without_network_offer_two_ways(tiny, espalier):
    answer = espalier("train", tiny, "--model", "resnet18")
    refused(answer, "--weights", "none")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_output_folder_without_permission(tiny, espalier, quick, tmp_path):
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(stat.S_IRUSR | stat.S_IXUSR)
    refused(espalier("train", tiny, *quick, "--out", "closed/runs"), "closed")


def test_output_folder_that_is_a_file(tiny, espalier, quick, tmp_path):
    (tmp_path / "taken").write_text("mine")
    refused(espalier("train", tiny, *quick, "--out", "taken"), "taken")
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.fixture
def copied(trained, tmp_path):
    folder, _ = trained
    return shutil.copytree(folder, tmp_path / "copy")


def test_truncated_checkpoint(copied, espalier, tiny):
    last = copied / "checkpoints" / "last.pt"
    content = last.read_bytes()
    last.unlink()  # it is a link to best.pt
    last.write_bytes(content[: len(content) // 2])
    refused(espalier("train", "--resume", copied), "last.pt")
    best = copied / "checkpoints" / "best.pt"
    best.unlink()
    best.write_bytes(content[:1000])
    refused(espalier("predict", copied, tiny), "best.pt")


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_that_would_run_code_is_not_run(copied, espalier, tiny, tmp_path):
    trace = tmp_path / "was-run"
    best = copied / "checkpoints" / "best.pt"
    best.unlink()
    torch.save({"model": Harmful(trace)}, best)
    refused(espalier("predict", copied, tiny), "best.pt")
    best.write_bytes(pickle.dumps(Harmful(trace)))
    refused(espalier("predict", copied, tiny), "best.pt")
    weights = tmp_path / "weights.pth"
    torch.save({"state_dict": Harmful(trace)}, weights)
    refused(espalier("train", tiny, "--model", "resnet18", "--weights", weights), "weights.pth")
    assert not trace.exists()


def changed_checkpoint(path, **changes):
    content = torch.load(path, weights_only=True)
    content.update(changes)
    path.unlink()
    torch.save({key: value for key, value in content.items() if value is not None}, path)


def test_checkpoint_of_another_model(copied, espalier, tiny):
    changed_checkpoint(copied / "checkpoints" / "best.pt", model_name="resnet18")
    refused(espalier("predict", copied, tiny), "resnet18")


def test_plain_weights_where_a_checkpoint_is_wanted(copied, espalier, tiny):
    best = copied / "checkpoints" / "best.pt"
    weights = torch.load(best, weights_only=True)["model"]
    best.unlink()
    torch.save(weights, best)
    refused(espalier("predict", copied, tiny), "best.pt")


def test_an_old_checkpoint_without_history_is_explained_and_still_predicts(copied, espalier, tiny):
    best = copied / "checkpoints" / "best.pt"
    changed_checkpoint(best, history=None, state=None)
    refused(espalier("plot", best), "history")
    answer = espalier("predict", best, tiny, "--json")
    assert answer.code == 0, answer.err
    assert len(answer.json["predictions"]) == 48


def test_label_mapping_changed_since_the_checkpoint(copied, espalier):
    table = copied / "catalog.csv"
    catalog = read_catalog(table)
    table.write_text(
        table.read_text().replace(json.dumps(catalog.classes[0])[1:-1], "zz" + catalog.classes[0])
    )
    refused(espalier("train", "--resume", copied, "--epochs", "6"), "label mapping")


def test_evaluate_on_a_folder_with_other_classes(trained, espalier, tmp_path):
    folder, _ = trained
    for name in ("cats", "dogs"):
        for i in range(3):
            picture(tmp_path / "animals" / name / f"{i}.png", (i, len(name), ord(name[0])))
    refused(espalier("evaluate", folder, "--data", "animals"), "cats", "dogs")


def test_predict_on_nothing(trained, espalier):
    folder, _ = trained
    refused(espalier("predict", folder, "gone.jpg"), "gone.jpg")


def test_a_run_that_is_not_there_names_those_that_are(trained, espalier):
    folder, _ = trained
    refused(espalier("evaluate", folder.parent / "other"), "first")


def test_errors_are_one_object_with_json(espalier):
    answer = espalier("train", "gone", "--json")
    assert answer.code == 2
    assert answer.json["error"]["exit_code"] == 2
    assert answer.json["error"]["hint"]


def test_a_loss_that_is_not_finite_stops_with_step_and_checkpoint(tiny, espalier, quick, tmp_path):
    words = [word for word in quick if word not in ("--epochs", "4")]
    answer = espalier(
        "train", tiny, *words, "--lr", "1e30", "--epochs", "6", "--optimizer", "sgd",
        "--set", "optimizer.clip_norm=null", "--schedule", "constant",
    )  # fmt: skip
    refused(answer, "step", "last.pt", "lr=")
    assert (tmp_path / "runs/train/run/checkpoints/last.pt").exists()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_classes_of_one_two_and_three_images_never_fail(tiny, espalier, quick, tmp_path, count):
    photos = shutil.copytree(tiny, tmp_path / "photos")
    rare = sorted(path for path in photos.iterdir() if path.is_dir())[0]
    for extra in sorted(rare.iterdir())[count:]:
        extra.unlink()
    answer = espalier("train", photos, *quick)
    assert answer.code == 0, answer.err
    assert rare.name in answer.err

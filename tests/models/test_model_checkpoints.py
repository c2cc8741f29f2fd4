"""Checkpoints are written whole, read safely, and explain themselves."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from espalier.errors import CheckpointError, DiskError
from espalier.models.build import Classifier, build_model, set_image_size
from espalier.models.checkpoints import (
    load_checkpoint,
    rebuild_model,
    restore_weights,
    save_checkpoint,
)
from espalier.recipe.schema import Model, Recipe, Stage, Training

CLASSES = ("a", "b", "c")


def recipe_for(name: str = "test_resnet", imgsz: int = 64, **changes: Any) -> Recipe:
    return Recipe(
        model=Model.model_validate({"name": name, "weights": "none", **changes}),
        training=Training(imgsz=imgsz),
        stages=(Stage(name="all", train="all", epochs=2, lr=1e-3, imgsz=imgsz),),
    )


def trained(recipe: Recipe) -> tuple[Classifier, dict[str, Any]]:
    """A model after one optimizer step, and what a run would keep of it."""
    torch.manual_seed(3)
    size = recipe.stages[0].imgsz or 64
    model, _ = build_model(recipe.model, len(CLASSES), imgsz=size)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 3, size, size)).sum().backward()
    optimizer.step()
    payload = {
        "format": 1,
        "epoch": 1,
        "step": 1,
        "stage_index": 0,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": {},
        "val_macro_f1": 0.5,
        "model_name": recipe.model.name,
        "num_classes": len(CLASSES),
        "classes": list(CLASSES),
        "recipe": recipe.model_dump_json(),
        "history": [{"epoch": 1, "train_loss": 1.0, "val_loss": 1.1, "learning_rate": 1e-3}],
        "state": {"stage_index": 0, "scores": [0.5], "ended": ""},
    }
    return model, payload


@pytest.fixture(scope="module")
def payload() -> dict[str, Any]:
    return trained(recipe_for())[1]


def test_what_is_saved_comes_back(tmp_path: Path, payload: dict[str, Any]) -> None:
    file = tmp_path / "checkpoints" / "last.pt"
    save_checkpoint(file, payload)
    found = load_checkpoint(file)
    for key in payload.keys() - {"model", "optimizer"}:
        assert found[key] == payload[key]
    assert all(torch.equal(found["model"][k], v) for k, v in payload["model"].items())
    before, after = payload["optimizer"]["state"], found["optimizer"]["state"]
    assert all(torch.equal(after[i]["exp_avg"], before[i]["exp_avg"]) for i in before)
    assert found["notes"] == []
    assert [path.name for path in file.parent.iterdir()] == ["last.pt"]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("test_resnet", {}),
        ("test_vit", {"head": "linear"}),
        ("small-cnn", {"hidden": 32}),
        ("test_efficientnet", {"drop_path": 0.2}),
    ],
)
def test_the_rebuilt_model_gives_the_same_logits(
    tmp_path: Path, name: str, changes: dict[str, Any]
) -> None:
    model, content = trained(recipe_for(name, **changes))
    save_checkpoint(tmp_path / "best.pt", content)
    state = torch.get_rng_state()
    again = rebuild_model(load_checkpoint(tmp_path / "best.pt"))
    assert torch.equal(torch.get_rng_state(), state)
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(model.eval()(images), again.eval()(images))


def test_a_model_of_fixed_size_comes_back_at_the_size_it_had() -> None:
    first = recipe_for("test_vit", imgsz=64)
    stages = (*first.stages, first.stages[0].model_copy(update={"name": "fine", "imgsz": 96}))
    model, content = trained(first)
    content["recipe"] = first.model_copy(update={"stages": stages}).model_dump_json()
    set_image_size(model, 96)
    content["model"] = model.state_dict()
    again = rebuild_model(content)
    assert again.imgsz == 96
    assert torch.equal(
        again.backbone.state_dict()["pos_embed"], content["model"]["backbone.pos_embed"]
    )


def test_an_old_checkpoint_without_history_is_explained(
    tmp_path: Path, payload: dict[str, Any]
) -> None:
    old = {key: value for key, value in payload.items() if key not in ("history", "scaler", "step")}
    torch.save(old, tmp_path / "old.pt")
    found = load_checkpoint(tmp_path / "old.pt")
    assert found["history"] == []
    assert "no history" in found["notes"][0]
    assert rebuild_model(found).classes == 3


def test_plain_weights_are_not_taken_for_a_checkpoint(
    tmp_path: Path, payload: dict[str, Any]
) -> None:
    for number, content in enumerate((payload["model"], {"state_dict": payload["model"]})):
        file = tmp_path / f"{number}.pth"
        torch.save(content, file)
        with pytest.raises(CheckpointError, match="no checkpoint of Espalier") as caught:
            load_checkpoint(file)
        assert f"--weights {file}" in caught.value.hint


def test_a_truncated_checkpoint_is_named_with_its_size_and_the_other_file(
    tmp_path: Path, payload: dict[str, Any]
) -> None:
    save_checkpoint(tmp_path / "last.pt", payload)
    save_checkpoint(tmp_path / "best.pt", payload)
    (tmp_path / "last.pt").write_bytes((tmp_path / "last.pt").read_bytes()[:9000])
    with pytest.raises(CheckpointError, match=r"9,000 bytes.*truncated") as caught:
        load_checkpoint(tmp_path / "last.pt")
    assert "best.pt" in caught.value.hint


def test_an_empty_file_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty.pt").touch()
    with pytest.raises(CheckpointError, match="0 bytes"):
        load_checkpoint(tmp_path / "empty.pt")
    with pytest.raises(CheckpointError, match="There is no checkpoint") as caught:
        load_checkpoint(tmp_path / "none.pt")
    assert "empty.pt" in caught.value.hint
    with pytest.raises(CheckpointError, match="it is a folder"):
        load_checkpoint(tmp_path)


class RunsCode:
    """A pickle that makes a folder when it is opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_a_pickle_that_would_run_code_is_refused_and_not_run(
    tmp_path: Path, payload: dict[str, Any]
) -> None:
    trap = tmp_path / "executed"
    torch.save({**payload, "extra": RunsCode(trap)}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="run code"):
        load_checkpoint(tmp_path / "last.pt")
    assert not trap.exists()


def test_missing_keys_and_newer_formats_are_named(tmp_path: Path, payload: dict[str, Any]) -> None:
    file = tmp_path / "x.pt"
    torch.save({k: v for k, v in payload.items() if k not in ("classes", "recipe")}, file)
    with pytest.raises(CheckpointError, match="lacks classes, recipe"):
        load_checkpoint(file)
    torch.save({**payload, "format": 99}, file)
    with pytest.raises(CheckpointError, match="format 99"):
        load_checkpoint(file)
    torch.save([1, 2], file)
    with pytest.raises(CheckpointError, match="holds a list"):
        load_checkpoint(file)


def test_a_checkpoint_of_another_model_or_class_count_names_both(payload: dict[str, Any]) -> None:
    other, _ = build_model(Model(name="test_efficientnet", weights="none"), 3, imgsz=64)
    with pytest.raises(CheckpointError, match=r"test_resnet with 3.*test_efficientnet with 3"):
        restore_weights(other, payload)
    more, _ = build_model(Model(name="test_resnet", weights="none"), 4, imgsz=64)
    with pytest.raises(CheckpointError, match=r"with 3 classes.*with 4 classes"):
        restore_weights(more, payload)


def test_another_head_is_named_tensor_by_tensor(payload: dict[str, Any]) -> None:
    wide, _ = build_model(Model(name="test_resnet", weights="none", hidden=64), 3, imgsz=64)
    with pytest.raises(CheckpointError) as caught:
        restore_weights(wide, payload)
    assert any("head.hidden.weight" in problem for problem in caught.value.problems)


def test_a_checkpoint_that_contradicts_itself(payload: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="contradicts itself"):
        rebuild_model({**payload, "model_name": "resnet50"})
    with pytest.raises(CheckpointError, match="recipe"):
        rebuild_model({**payload, "recipe": '{"no_such_section": 1}'})


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """The system refuses to let any file grow beyond 200 kB, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_previous_checkpoint_intact(
    tmp_path: Path, small_files_only: None
) -> None:
    file = tmp_path / "last.pt"
    save_checkpoint(file, {"epoch": 1, "model": {"w": torch.zeros(10)}})
    before = digest(file)
    with pytest.raises(DiskError, match="free") as caught:
        save_checkpoint(file, {"epoch": 2, "model": {"w": torch.zeros(500_000)}})
    assert str(file) in str(caught.value)
    assert "too large" in str(caught.value)
    assert digest(file) == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_failed_flush_is_a_disk_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, payload: dict[str, Any], code: int
) -> None:
    file = tmp_path / "last.pt"
    save_checkpoint(file, payload)
    before = digest(file)

    def refuse(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DiskError, match=os.strerror(code)):
        save_checkpoint(file, {**payload, "epoch": 2})
    assert digest(file) == before
    assert load_checkpoint(file)["epoch"] == 1

"""Weights are read safely, matched key by key, and refused loudly."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from espalier.errors import WeightsError
from espalier.models.build import build_model
from espalier.models.weights import load_backbone_weights
from espalier.recipe.schema import Model

NAME = "test_resnet"


def donor() -> dict[str, Tensor]:
    torch.manual_seed(7)
    state: dict[str, Tensor] = timm.create_model(NAME, num_classes=10).state_dict()
    return state


def backbone() -> nn.Module:
    torch.manual_seed(8)
    module: nn.Module = timm.create_model(NAME, num_classes=0)
    return module


def assert_filled(module: nn.Module, state: dict[str, Tensor]) -> None:
    own = module.state_dict()
    assert all(torch.equal(own[name], state[name]) for name in own)


class RunsCode:
    """A pickle that makes a folder when it is opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_safetensors_fill_the_backbone_and_the_classifier_is_named(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file(donor(), file)
    module = backbone()
    report = load_backbone_weights(module, file)
    assert_filled(module, donor())
    assert report.matched == report.total
    assert report.share == 1
    assert sorted(report.ignored) == ["fc.bias", "fc.weight"]
    assert report.to_json()["share"] == 1
    assert "100.0%" in str(report)


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.model."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "state_dict_ema"])
def test_wrappers_and_prefixes_of_training_scripts(
    tmp_path: Path, prefix: str, wrapper: str | None
) -> None:
    file = tmp_path / "w.pth"
    state = {prefix + name: tensor for name, tensor in donor().items()}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, file)
    module = backbone()
    report = load_backbone_weights(module, file)
    assert_filled(module, donor())
    assert report.unexpected == ()


def test_a_training_checkpoint_of_timm_with_its_arguments(tmp_path: Path) -> None:
    file = tmp_path / "model_best.pth.tar"
    content = {"state_dict": donor(), "args": argparse.Namespace(lr=0.1), "arch": NAME}
    torch.save(content, file.with_suffix(".pth"))
    assert load_backbone_weights(backbone(), file.with_suffix(".pth")).share == 1


def test_averaged_weights_are_preferred(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    plain = {name: torch.zeros_like(tensor) for name, tensor in donor().items()}
    torch.save({"state_dict": plain, "state_dict_ema": donor()}, file)
    module = backbone()
    load_backbone_weights(module, file)
    assert_filled(module, donor())


def test_our_own_checkpoint_lends_its_backbone(tmp_path: Path) -> None:
    model, _ = build_model(Model(name=NAME, weights="none"), 4, imgsz=64)
    file = tmp_path / "best.pt"
    torch.save({"format": 1, "model": model.state_dict(), "optimizer": {"state": {}}}, file)
    module = backbone()
    report = load_backbone_weights(module, file)
    assert report.share == 1
    assert report.unexpected == ()
    assert_filled(module, model.backbone.state_dict())


def test_position_tables_of_another_image_size_are_resized(tmp_path: Path) -> None:
    file = tmp_path / "vit.safetensors"
    save_file(timm.create_model("test_vit", num_classes=10, img_size=160).state_dict(), file)
    module = timm.create_model("test_vit", num_classes=0, img_size=64)
    assert load_backbone_weights(module, file).share == 1


def test_weights_of_another_model_are_refused_with_the_differences(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file(timm.create_model("test_efficientnet", num_classes=10).state_dict(), file)
    with pytest.raises(WeightsError, match="at least 90% must match") as caught:
        load_backbone_weights(backbone(), file)
    assert any("missing in the file" in problem for problem in caught.value.problems)
    assert any("not in the model" in problem for problem in caught.value.problems)


def test_other_shapes_are_listed(tmp_path: Path) -> None:
    file = tmp_path / "wide.pth"
    wide = {name: t.repeat(2, *[1] * (t.ndim - 1)) if t.ndim else t for name, t in donor().items()}
    torch.save(wide, file)
    with pytest.raises(WeightsError) as caught:
        load_backbone_weights(backbone(), file)
    assert any("file [" in problem for problem in caught.value.problems)


def test_few_but_large_missing_tensors_do_not_pass(tmp_path: Path) -> None:
    state = donor()
    biggest = sorted(state, key=lambda name: state[name].numel())[-2:]
    file = tmp_path / "w.pth"
    torch.save({name: t for name, t in state.items() if name not in biggest}, file)
    with pytest.raises(WeightsError):
        load_backbone_weights(backbone(), file)


def test_a_refused_file_leaves_the_backbone_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.save(dict(list(donor().items())[:20]), file)
    module = backbone()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(WeightsError):
        load_backbone_weights(module, file)
    assert_filled(module, before)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = donor()
    state["layer1.0.conv1.weight"][0] = torch.nan
    file = tmp_path / "w.pth"
    torch.save(state, file)
    with pytest.raises(WeightsError, match="NaN") as caught:
        load_backbone_weights(backbone(), file)
    assert "layer1.0.conv1.weight" in caught.value.problems[0]


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    file = tmp_path / "w.pth"
    torch.save({"state_dict": donor(), "extra": RunsCode(trap)}, file)
    with pytest.raises(WeightsError, match="run code"):
        load_backbone_weights(backbone(), file)
    assert not trap.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_named_with_its_size(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"w{suffix}"
    torch.save(donor(), file) if suffix == ".pth" else save_file(donor(), file)
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="5,000 bytes"):
        load_backbone_weights(backbone(), file)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("missing.pth", None, "does not exist"),
        ("model.onnx", b"x", "ends in '.onnx'"),
        ("empty.pth", b"", "0 bytes"),
    ],
)
def test_files_that_are_no_weights(
    tmp_path: Path, name: str, content: bytes | None, expected: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=expected):
        load_backbone_weights(backbone(), tmp_path / name)


def test_a_file_without_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="holds no weights"):
        load_backbone_weights(backbone(), tmp_path / "w.pt")


def test_no_network_names_the_model_and_both_ways_on() -> None:
    with pytest.raises(WeightsError, match=r"pretrained weights of test_resnet") as caught:
        build_model(Model(name=NAME, weights="pretrained"), 3, imgsz=64)
    assert "--weights FILE" in caught.value.hint
    assert "--weights none" in caught.value.hint


@pytest.mark.parametrize("name", ["mobilenetv2_100", "tf_mobilenetv3_large_minimal_100"])
def test_real_weights_match_wholly(shared: Path, name: str) -> None:
    file = shared / "weights" / f"{name}.timm.safetensors"
    if not file.exists():
        pytest.skip(f"needs {file.name} in shared/weights")
    model, report = build_model(Model(name=name, weights=str(file)), 12, imgsz=128)
    assert report is not None
    assert report.share == 1
    assert (report.missing, report.unexpected, report.mismatched) == ((), (), ())
    reference = timm.create_model(name, checkpoint_path=str(file)).state_dict()
    own = model.backbone.state_dict()
    assert all(torch.equal(own[key], reference[key]) for key in own)

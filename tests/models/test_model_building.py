"""Any timm model, with its own size and normalisation, or a word on why not."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from espalier.errors import ModelError, WeightsError
from espalier.models.build import Classifier, build_model, model_facts, set_image_size
from espalier.models.facts import check_imgsz, nearest_names
from espalier.recipe.schema import Model


def build(name: str, classes: int = 5, imgsz: int = 64, **changes: object) -> Classifier:
    section = Model.model_validate({"name": name, "weights": "none", **changes})
    torch.manual_seed(0)
    return build_model(section, classes, imgsz=imgsz)[0]


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit", "small-cnn"]
)
def test_any_family_gives_one_row_of_logits_per_image(name: str) -> None:
    model = build(name, classes=7)
    logits = model.eval()(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 7)
    assert model_facts(name).features == model.features(torch.randn(1, 3, 64, 64)).shape[1]


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "mobilenetv3_small_050"])
def test_facts_agree_with_the_model_as_timm_builds_it(name: str) -> None:
    facts = model_facts(name)
    reference = timm.create_model(name, num_classes=0)
    settings = reference.pretrained_cfg
    assert facts.parameters == sum(p.numel() for p in reference.parameters())
    assert (facts.mean, facts.std) == (settings["mean"], settings["std"])
    assert facts.imgsz == settings["input_size"][-1]
    assert facts.features == reference.eval()(torch.zeros(1, 3, facts.imgsz, facts.imgsz)).shape[1]


def test_each_model_keeps_its_own_normalisation() -> None:
    assert model_facts("tf_mobilenetv3_large_minimal_100").mean == (0.5, 0.5, 0.5)
    assert model_facts("tf_mobilenetv3_large_minimal_100").std == (0.5, 0.5, 0.5)
    assert model_facts("mobilenetv2_100").mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("name", "smallest", "multiple"),
    [
        ("resnet50", 32, 1),
        ("inception_v3", 80, 1),
        ("test_vit", 32, 16),
        ("swin_tiny_patch4_window7_224", 32, 32),
        ("small-cnn", 32, 1),
    ],
)
def test_sizes_that_strides_patches_and_windows_accept(
    name: str, smallest: int, multiple: int
) -> None:
    facts = model_facts(name)
    assert (facts.min_imgsz, facts.multiple_of) == (smallest, multiple)


def test_mobile_nets_are_known_by_their_depthwise_convolutions() -> None:
    assert model_facts("mobilenetv3_small_100").depthwise
    assert not model_facts("resnet50").depthwise
    assert not model_facts("test_vit").depthwise


def test_facts_of_a_checkpoint_variant_and_of_the_small_network() -> None:
    assert model_facts("vit_tiny_patch16_224.augreg_in21k_ft_in1k").has_pretrained
    facts = model_facts("small-cnn")
    assert 400_000 <= facts.parameters <= 1_000_000
    assert not facts.has_pretrained


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("ResNet-50", "resnet50"),
        ("mobilenet_v2_100", "mobilenetv2_100"),
        ("EfficientNet B0", "efficientnet_b0"),
        ("smallcnn", "small-cnn"),
        ("resnet5O", "resnet50"),
    ],
)
def test_an_unknown_model_is_answered_with_the_nearest_name(wrong: str, right: str) -> None:
    assert right in nearest_names(wrong)
    with pytest.raises(ModelError, match=wrong) as caught:
        model_facts(wrong)
    assert right in caught.value.hint


def test_an_unknown_variant_is_answered_with_those_there_are() -> None:
    with pytest.raises(ModelError, match="'nothing'") as caught:
        model_facts("resnet50.nothing")
    assert "resnet50.a1_in1k" in caught.value.hint


@pytest.mark.parametrize(("imgsz", "offered"), [(16, 32), (70, 64), (250, 256)])
def test_an_unfit_image_size_is_refused_with_one_that_fits(imgsz: int, offered: int) -> None:
    with pytest.raises(ModelError, match=f"{imgsz} px") as caught:
        check_imgsz(model_facts("test_vit"), imgsz)
    assert caught.value.hint == f"--imgsz {offered}"


def test_a_model_of_one_size_takes_no_other() -> None:
    facts = model_facts("crossvit_9_dagger_240")
    check_imgsz(facts, 240)
    with pytest.raises(ModelError, match="240, and nothing else") as caught:
        check_imgsz(facts, 480)
    assert caught.value.hint == "--imgsz 240"


def test_image_size_too_small_for_a_convolutional_model() -> None:
    with pytest.raises(ModelError, match="at least 32"):
        build("test_resnet", imgsz=16)


def test_a_model_of_fixed_size_is_built_at_the_size_asked_for_and_can_change() -> None:
    model = build("test_vit", imgsz=96).eval()
    assert model(torch.randn(1, 3, 96, 96)).shape == (1, 5)
    set_image_size(model, 64)
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 5)
    assert model.imgsz == 64
    with pytest.raises(ModelError, match="multiple of 16"):
        set_image_size(model, 65)


def test_a_free_model_changes_size_without_touching_its_weights() -> None:
    model = build("test_resnet", imgsz=64)
    before = {name: id(parameter) for name, parameter in model.named_parameters()}
    set_image_size(model, 96)
    assert before == {name: id(parameter) for name, parameter in model.named_parameters()}


def test_stochastic_depth_is_honoured_or_refused() -> None:
    def drop_rates(model: nn.Module) -> list[float]:
        return [m.drop_prob for m in model.modules() if type(m).__name__ == "DropPath"]

    assert max(drop_rates(build("test_resnet", drop_path=0.4))) == pytest.approx(0.4)
    for name in ("vgg11", "small-cnn"):
        with pytest.raises(ModelError, match="no stochastic depth"):
            build(name, drop_path=0.1)


def test_a_frozen_backbone_runs_without_autograd() -> None:
    model = build("test_resnet")
    images = torch.randn(2, 3, 64, 64)
    assert model.features(images).requires_grad
    model.backbone.requires_grad_(False)
    assert not model.features(images).requires_grad
    loss = functional.cross_entropy(model(images), torch.tensor([0, 1]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.head.parameters())


@pytest.mark.parametrize("name", ["small-cnn", "nfnet_f0"])
def test_models_without_pretrained_weights_say_so(name: str) -> None:
    with pytest.raises(WeightsError, match=f"no pretrained weights for {name}") as caught:
        build(name, weights="pretrained")
    assert "--weights none" in caught.value.hint


def test_same_seed_same_network() -> None:
    first, second = build("test_vit").state_dict(), build("test_vit").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


# The head: first loss is the loss of chance.


def first_loss(model: Classifier, classes: int, imgsz: int = 64) -> float:
    """Cross-entropy in train mode on 24 images of noise, before any step."""
    torch.manual_seed(1)
    images = torch.randn(24, 3, imgsz, imgsz)
    with torch.no_grad():
        logits = model.train()(images)
    return functional.cross_entropy(logits, torch.arange(24) % classes).item()


@pytest.mark.parametrize("head", ["mlp", "linear"])
@pytest.mark.parametrize(
    "name", ["resnet50", "mobilenetv2_100", "test_vit", "test_convnext", "small-cnn"]
)
def test_first_loss_is_the_loss_of_chance(name: str, head: str) -> None:
    assert first_loss(build(name, classes=6, head=head), 6) == pytest.approx(math.log(6), abs=0.02)


@pytest.mark.parametrize("classes", [6, 100])
def test_first_loss_is_chance_with_real_weights(mobilenetv2_weights: Path, classes: int) -> None:
    model = build("mobilenetv2_100", classes=classes, weights=str(mobilenetv2_weights))
    assert first_loss(model, classes) == pytest.approx(math.log(classes), abs=0.02)


def test_head_layers_are_those_of_the_recipe() -> None:
    head = build("test_resnet", hidden=128, dropout=0.3).head
    kinds = [type(layer).__name__ for layer in head.children()]
    assert kinds == ["Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert [m.p for m in head.children() if isinstance(m, nn.Dropout)] == [0.3, 0.15]
    assert [tuple(m.weight.shape) for m in head.children() if isinstance(m, nn.Linear)] == [
        (128, 96),
        (5, 128),
    ]
    linear = build("test_resnet", head="linear").head
    assert [type(layer).__name__ for layer in linear.children()] == ["Dropout", "Linear"]


def test_every_layer_of_the_head_learns_from_the_first_step() -> None:
    model = build("test_resnet")
    functional.cross_entropy(model(torch.randn(4, 3, 64, 64)), torch.arange(4)).backward()
    for parameter in model.head.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about glibc's allocator")
def test_freed_activations_are_kept_for_the_next_step() -> None:
    """In a process of its own: the setting holds for as long as the process lives."""
    script = """
import resource, torch
from espalier.models.inference import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(8_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
plain = faults()
keep_freed_memory()
faults()
print(plain, faults())
"""
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    plain, kept = map(int, said.split())
    assert kept < plain / 4

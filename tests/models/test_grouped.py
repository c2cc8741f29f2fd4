"""Grouped convolutions in fp32 beside bf16: what they compute, and that nothing else changes."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from espalier.errors import ModelError
from espalier.models.grouped import (
    grouped_convolutions,
    has_grouped_convolutions,
    keep_grouped_in_fp32,
)


def in_bf16(model: nn.Module, images: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        output: Tensor = model(images)
    return output


def convolution(**options: object) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(8, 8, 3, padding=1, groups=8, **options)  # type: ignore[arg-type]


def test_a_grouped_convolution_computes_in_fp32_and_takes_what_comes() -> None:
    layer, images = convolution(), torch.randn(2, 8, 9, 9)
    exact = layer(images)
    assert in_bf16(layer, images).dtype == torch.bfloat16
    keep_grouped_in_fp32(layer, True)
    assert torch.equal(in_bf16(layer, images), exact)
    assert torch.equal(layer(images), exact)
    halved = images.bfloat16()
    assert torch.equal(in_bf16(layer, halved), layer(halved.float()))


def test_its_gradients_are_those_of_fp32() -> None:
    layer, images = convolution(), torch.randn(2, 8, 9, 9)
    layer(images).square().sum().backward()
    exact = layer.weight.grad
    layer.weight.grad = None
    keep_grouped_in_fp32(layer, True)
    in_bf16(layer, images).square().sum().backward()
    assert exact is not None
    assert torch.equal(layer.weight.grad, exact)


def test_all_others_stay_in_bf16() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), convolution(), nn.Conv2d(8, 8, 1))
    seen: list[torch.dtype] = []
    for layer in model:
        layer.register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    keep_grouped_in_fp32(model, True)
    in_bf16(model, torch.randn(1, 3, 5, 5))
    assert seen == [torch.bfloat16, torch.float32, torch.bfloat16]


def test_bf16_is_on_again_behind_it_and_after_an_error() -> None:
    layer = convolution()
    keep_grouped_in_fp32(layer, True)
    with torch.autocast("cpu", torch.bfloat16):
        layer(torch.randn(1, 8, 5, 5))
        assert torch.is_autocast_enabled("cpu")
        with pytest.raises(RuntimeError):
            layer(torch.randn(1, 5, 5, 5))
        assert torch.is_autocast_enabled("cpu")


def test_weights_that_are_not_fp32_are_met_halfway() -> None:
    layer = convolution().bfloat16()
    keep_grouped_in_fp32(layer, True)
    assert in_bf16(layer, torch.randn(1, 8, 5, 5)).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "tf_mobilenetv3_small_075"])
def test_a_model_keeps_its_state_and_can_go_back(name: str) -> None:
    """The second has convolutions that pad as TensorFlow does, a subclass of timm's."""
    model = timm.create_model(name, num_classes=4).eval().requires_grad_(False)
    kinds = [type(module) for module in model.modules()]
    before = copy.deepcopy(model.state_dict())
    images = torch.randn(2, 3, 64, 64)
    exact, halved = model(images), in_bf16(model, images)
    for _ in range(2):  # Twice changes no more than once.
        keep_grouped_in_fp32(model, True)
    mixed = in_bf16(model, images)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(model(images), exact)
    assert not torch.equal(mixed, halved)
    assert torch.allclose(mixed.float(), exact, atol=0.1 * float(exact.abs().max()))
    for _ in range(2):
        keep_grouped_in_fp32(model, False)
    assert [type(module) for module in model.modules()] == kinds
    assert torch.equal(in_bf16(model, images), halved)


def test_a_copy_computes_the_same_with_weights_of_its_own() -> None:
    layer, images = convolution(), torch.randn(1, 8, 5, 5)
    keep_grouped_in_fp32(layer, True)
    twin = copy.deepcopy(layer)
    assert torch.equal(in_bf16(twin, images), in_bf16(layer, images))
    with torch.no_grad():
        twin.weight.zero_()
        assert twin.bias is not None
        twin.bias.zero_()
    assert not in_bf16(twin, images).any()
    assert in_bf16(layer, images).any()
    keep_grouped_in_fp32(twin, False)
    assert type(twin) is nn.Conv2d
    assert in_bf16(layer, images).dtype == torch.float32


def test_a_copy_still_is_a_convolution() -> None:
    layer = convolution()
    keep_grouped_in_fp32(layer, True)
    assert isinstance(layer, nn.Conv2d)
    assert [id(found) for found in grouped_convolutions(layer)] == [id(layer)]


def test_which_models_have_any() -> None:
    assert has_grouped_convolutions(timm.create_model("test_efficientnet"))
    assert not has_grouped_convolutions(timm.create_model("test_resnet"))


def test_where_it_has_no_effect_it_is_refused() -> None:
    model = timm.create_model("test_resnet")
    keep_grouped_in_fp32(model, False)
    with pytest.raises(ModelError, match="ResNet has no grouped convolutions") as caught:
        keep_grouped_in_fp32(model, True)
    assert caught.value.hint == "--set training.grouped_fp32=auto"

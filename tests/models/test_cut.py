import copy

import pytest
import torch
from torch import nn

from espalier.models.build import build_model
from espalier.models.cut import cut_model, sequential_view
from espalier.models.frozen import FrozenLayers, fold_batch_norm
from espalier.models.stages import set_mode, set_trainable
from espalier.recipe.schema import Model, Stage

IN_ORDER = (
    "small-cnn", "resnet18", "mobilenetv2_100", "mobilenetv3_small_100", "efficientnet_b0",
    "tf_mobilenetv3_large_minimal_100", "convnext_atto", "vit_tiny_patch16_224",
)  # fmt: skip
CPU = torch.device("cpu")


def made(name, imgsz=64, classes=5):
    torch.manual_seed(0)
    model, _ = build_model(Model(name=name, weights="none"), classes, imgsz=imgsz)
    # Statistics as after training: with those of a fresh network a folded norm would be none.
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


def cut_for(model, train, batch_norm="auto"):
    stage = Stage(name="s", train=train, epochs=1, lr=1e-3, batch_norm=batch_norm)
    set_trainable(model, stage)
    model.train()
    set_mode(model, stage)
    return cut_model(model)


def frozen(cut, precision="fp32"):
    return FrozenLayers(cut.frozen, precision=precision, channels_last=False, device=CPU)


@pytest.mark.parametrize("name", IN_ORDER)
@pytest.mark.parametrize("train", ["head", "top", 0.65])
def test_both_parts_together_give_what_the_whole_gives(name, train):
    model = made(name)
    cut = cut_for(model, train)
    images = torch.randn(3, 3, 64, 64)
    found = cut.learning.eval()(frozen(cut)(images))
    model.eval()
    torch.testing.assert_close(found, model(images), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", IN_ORDER)
def test_the_parts_hold_all_weights_once_and_share_them(name):
    model = made(name)
    learnable = {id(p) for p in model.parameters()}
    pieces = sequential_view(model)
    held = [id(p) for piece in pieces for p in piece.module.parameters()]
    assert len(held) == len(set(held))
    assert set(held) | {id(p) for p in model.head.parameters()} == learnable


def test_the_cut_lies_before_the_first_block_that_learns():
    model = made("mobilenetv2_100")
    assert cut_for(model, "head").before == "head"
    assert cut_for(model, "top").before == "blocks.4.1"
    assert cut_for(model, ("blocks.6", "head")).before == "blocks.6.0"
    assert cut_for(model, "all") is None


def test_gradients_reach_what_learns_and_nothing_else():
    model = made("resnet18")
    cut = cut_for(model, "top")
    cut.learning(frozen(cut)(torch.randn(2, 3, 64, 64))).sum().backward()
    got = {name for name, p in model.named_parameters() if p.grad is not None}
    assert got == {name for name, p in model.named_parameters() if p.requires_grad}


def test_batch_norm_that_goes_on_counting_keeps_its_block_from_the_frozen_part():
    assert cut_for(made("resnet18"), "head", batch_norm="train") is None


def test_a_family_without_a_plain_order_is_cut_only_before_its_head():
    model = made("regnetx_002")
    assert sequential_view(model) is None
    assert cut_for(model, "top") is None
    cut = cut_for(model, "head")
    images = torch.randn(2, 3, 64, 64)
    found = cut.learning.eval()(frozen(cut)(images))
    model.eval()
    torch.testing.assert_close(found, model(images), atol=1e-5, rtol=1e-4)


def test_a_view_that_does_not_give_the_same_is_not_used():
    model = made("resnet18")
    forward = model.backbone.forward
    model.backbone.forward = lambda images: 1.01 * forward(images)
    assert sequential_view(model) is None


def test_looking_for_the_cut_changes_neither_modes_nor_statistics():
    model = made("mobilenetv3_small_100")
    set_trainable(model, Stage(name="s", train="top", epochs=1, lr=1e-3))
    model.train()
    before = copy.deepcopy(model.state_dict())
    modes = [m.training for m in model.modules()]
    sequential_view(model)
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_folding_leaves_no_batch_norm_and_the_same_result():
    model = made("mobilenetv2_100").eval()
    folded = fold_batch_norm(model.backbone)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(folded(images), model.backbone(images), atol=1e-5, rtol=1e-4)


def test_a_norm_that_does_not_follow_its_convolution_is_not_folded():
    class Swapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
            self.norm.running_mean.fill_(0.5)

        def forward(self, x):
            return self.conv(self.norm(x))

    plain = Swapped().eval()
    copied = fold_batch_norm(plain)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(copied(images), plain(images))


def test_bf16_stays_near_fp32_and_comes_back_as_fp32():
    cut = cut_for(made("resnet18"), "top")
    images = torch.randn(4, 3, 64, 64)
    exact, near = frozen(cut)(images), frozen(cut, "bf16")(images)
    assert near.dtype is torch.float32
    assert not torch.equal(near, exact)
    assert float((near - exact).abs().max()) < 0.05 * float(exact.abs().max())

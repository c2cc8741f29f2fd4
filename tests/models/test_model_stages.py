"""What thaws, what stays still, and at which rate each part learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from espalier.errors import ModelError
from espalier.models.build import Classifier, build_model
from espalier.models.facts import outline
from espalier.models.parts import anatomy
from espalier.models.stages import blocks, model_parts, parameter_groups, set_mode, set_trainable
from espalier.recipe.schema import Model, Stage

FAMILIES = ["test_resnet", "test_efficientnet", "test_convnext", "test_vit", "small-cnn"]


def build(name: str, **changes: object) -> Classifier:
    section = Model.model_validate({"name": name, "weights": "none", **changes})
    return build_model(section, 4, imgsz=64)[0]


def sketch(name: str) -> Classifier:
    """A classifier without contents: enough to see what thaws, and instant for large models."""
    with torch.device("meta"):
        head = nn.Linear(8, 4)
    return Classifier(outline(name).module, head, name=name, imgsz=224, classes=4)


def stage(train: Any = "all", **changes: Any) -> Stage:
    return Stage(name="one", train=train, epochs=1, lr=1e-3, **changes)


def learning(model: Classifier) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("resnet50", 16, "layer1.0", "layer4.2"),
        ("efficientnet_b0", 16, "blocks.0.0", "blocks.6.0"),
        ("mobilenetv3_small_100", 12, "blocks.0.0", "blocks.5.0"),
        ("convnext_tiny", 18, "stages.0.blocks.0", "stages.3.blocks.2"),
        ("vit_tiny_patch16_224", 12, "blocks.0", "blocks.11"),
        ("swin_tiny_patch4_window7_224", 12, "layers.0.blocks.0", "layers.3.blocks.1"),
        ("regnety_002", 13, "s1.b1", "s4.b7"),
        ("vgg11", 10, "features.0", "pre_logits.fc2"),
        ("small-cnn", 5, "blocks.0", "blocks.4"),
    ],
)
def test_blocks_of_each_family(name: str, count: int, first: str, last: str) -> None:
    found = blocks(outline(name).module)
    assert (len(found), found[0].name, found[-1].name) == (count, first, last)


@pytest.mark.parametrize("name", FAMILIES)
def test_blocks_are_listed_in_the_order_an_image_passes_them(name: str) -> None:
    backbone = build(name).backbone.eval()
    called: list[str] = []

    def note(block: str) -> Callable[..., None]:
        return lambda *_: called.append(block)

    for block in blocks(backbone):
        backbone.get_submodule(block.name).register_forward_pre_hook(note(block.name))
    backbone(torch.randn(1, 3, 64, 64))
    assert called == [block.name for block in blocks(backbone)]


def test_depth_grows_from_stem_to_tail() -> None:
    structure = anatomy(outline("efficientnet_b0").module)
    assert structure.depth("conv_stem.weight") == 0
    assert structure.depth("blocks.0.0.conv_dw.weight") == 1
    assert structure.depth("blocks.6.0.bn3.bias") == 16
    assert structure.depth("conv_head.weight") == 17
    assert anatomy(outline("test_vit").module).depth("pos_embed") == 0


def test_downsampling_goes_with_the_block_behind_it() -> None:
    structure = anatomy(outline("convnext_tiny").module)
    assert structure.blocks[3].prefixes == ("stages.1.downsample", "stages.1.blocks.0")


@pytest.mark.parametrize("name", FAMILIES)
def test_head_and_all(name: str) -> None:
    model = build(name)
    found = set_trainable(model, stage("head"))
    assert learning(model) == {f"head.{name}" for name, _ in model.head.named_parameters()}
    assert (found.blocks, "head only" in str(found)) == ((), True)
    everything = set_trainable(model, stage("all"))
    assert everything.frozen == 0
    assert everything.trainable == found.trainable + found.frozen
    assert len(everything.blocks) == everything.of


def test_top_of_resnet50_is_layer3_layer4_and_head() -> None:
    model = sketch("resnet50")
    found = set_trainable(model, stage("top"))
    tops = {name.split(".")[1] for name in learning(model) if name.startswith("backbone.")}
    assert tops == {"layer3", "layer4"}
    assert any(name.startswith("head.") for name in learning(model))
    assert len(found.blocks) == 9


@pytest.mark.parametrize(
    ("name", "first", "number", "tail"),
    [
        ("efficientnet_b0", "blocks.5.0", 5, "backbone.conv_head.weight"),
        ("mobilenetv3_small_100", "blocks.4.0", 4, "backbone.conv_head.weight"),
        ("vit_tiny_patch16_224", "blocks.8", 4, "backbone.norm.weight"),
    ],
)
def test_top_of_others_is_the_last_30_percent_and_what_follows(
    name: str, first: str, number: int, tail: str
) -> None:
    model = sketch(name)
    found = set_trainable(model, stage("top"))
    assert (found.blocks[0], len(found.blocks)) == (first, number)
    assert tail in learning(model)
    assert not any("stem" in key or "patch_embed" in key for key in learning(model))


def test_a_share_thaws_from_the_back() -> None:
    model = build("test_convnext")
    sizes = [len(set_trainable(model, stage(share)).blocks) for share in (0.01, 0.3, 0.5, 1.0)]
    assert sizes == [1, 3, 5, 9]
    assert learning(model) == {name for name, _ in model.named_parameters()}


def test_named_modules_thaw_exactly() -> None:
    model = build("test_resnet")
    set_trainable(model, stage(("layer4", "head.logits")))
    assert {name.rpartition("layer4")[1] or name for name in learning(model)} == {
        "layer4",
        "head.logits.weight",
        "head.logits.bias",
    }
    set_trainable(model, stage(("backbone.layer4.0.bn1",)))
    assert learning(model) == {"backbone.layer4.0.bn1.weight", "backbone.layer4.0.bn1.bias"}


def test_unknown_module_names_are_all_reported_with_what_there_is() -> None:
    model = build("test_resnet")
    with pytest.raises(ModelError, match=r"'layer5', 'neck'.*layer4.*head") as caught:
        set_trainable(model, stage(("layer5", "layer4", "neck")))
    assert "layer4" in caught.value.hint


def running_means(model: Classifier) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items() if k.endswith("running_mean")}


def moved_by_a_step(model: Classifier, chosen: Stage) -> set[str]:
    """BatchNorm layers whose statistics change in a forward pass in train mode."""
    set_trainable(model, chosen)
    model.train()
    set_mode(model, chosen)
    before = running_means(model)
    model(torch.randn(4, 3, 64, 64))
    after = running_means(model)
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_frozen_statistics_stay_and_trainable_ones_move() -> None:
    model = build("test_resnet")
    moved = moved_by_a_step(model, stage(("layer3", "layer4", "head")))
    every = set(running_means(model))
    assert moved == {name for name in every if "layer3" in name or "layer4" in name}
    assert moved_by_a_step(model, stage("head")) == set()
    assert moved_by_a_step(model, stage("all")) == every


def test_batch_norm_mode_of_the_stage_overrules() -> None:
    model = build("test_efficientnet")
    every = set(running_means(model))
    assert moved_by_a_step(model, stage("head", batch_norm="train")) == every
    assert moved_by_a_step(model, stage("all", batch_norm="eval")) == set()
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    assert not any(norm.training for norm in norms)
    assert model.head.training


def test_stochastic_depth_and_dropout_rest_in_frozen_blocks_only() -> None:
    model = build("test_convnext", drop_path=0.5)
    chosen = stage(("stages.3", "head"))
    set_trainable(model, chosen)
    model.train()
    set_mode(model, chosen)
    droppers = {
        name: module.training
        for name, module in model.named_modules()
        if type(module).__name__ in ("DropPath", "Dropout") and next(module.children(), 0) == 0
    }
    assert any(name.startswith("backbone.stages.2") for name in droppers)
    for name, active in droppers.items():
        if "drop_path" in name or name.startswith("head"):
            assert active == ("stages.3" in name or name.startswith("head")), name


def test_a_frozen_backbone_gives_the_same_features_twice_in_train_mode() -> None:
    model = build("test_resnet", drop_path=0.5)
    set_trainable(model, stage("head"))
    model.train()
    set_mode(model, stage("head"))
    images = torch.randn(4, 3, 64, 64)
    assert torch.equal(model.features(images), model.features(images))
    assert not torch.equal(model(images), model(images))  # the head's dropout is at work


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("train", ["head", "top", "all"])
@pytest.mark.parametrize("layer_decay", [1.0, 0.7])
def test_every_trainable_parameter_is_in_exactly_one_group(
    name: str, train: str, layer_decay: float
) -> None:
    model = build(name)
    chosen = stage(train, backbone_lr=1e-4, layer_decay=layer_decay)
    set_trainable(model, chosen)
    groups = parameter_groups(model, chosen, 0.05)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    wanted = [id(parameter) for parameter in model.parameters() if parameter.requires_grad]
    assert sorted(grouped) == sorted(wanted)
    assert len({group["name"] for group in groups}) == len(groups)
    torch.optim.AdamW(groups)


def rates_and_decay(model: Classifier, chosen: Stage) -> dict[str, tuple[float, float]]:
    set_trainable(model, chosen)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in parameter_groups(model, chosen, 0.05)
        for parameter in group["params"]
    }


def test_norms_biases_and_tokens_are_not_decayed() -> None:
    found = rates_and_decay(build("test_vit"), stage("all"))
    decayed = {name for name, (_, decay) in found.items() if decay > 0}
    assert "backbone.blocks.0.attn.qkv.weight" in decayed
    assert "head.logits.weight" in decayed
    spared = set(found) - decayed
    for name in (
        "backbone.pos_embed",
        "backbone.blocks.0.norm1.weight",
        "backbone.blocks.0.attn.qkv.bias",
        "head.logits.bias",
    ):
        assert name in spared


def test_backbone_and_head_have_their_own_rates() -> None:
    model = build("test_resnet")
    same = rates_and_decay(model, stage("all"))
    assert {rate for rate, _ in same.values()} == {1e-3}
    split = rates_and_decay(model, stage("all", backbone_lr=1e-5))
    for name, (rate, _) in split.items():
        assert rate == (1e-3 if name.startswith("head.") else 1e-5)


def test_layer_decay_multiplies_block_by_block() -> None:
    chosen = stage("all", backbone_lr=1e-4, layer_decay=0.5)
    found = rates_and_decay(build("test_vit"), chosen)
    assert found["head.logits.weight"][0] == 1e-3
    assert found["backbone.norm.weight"][0] == pytest.approx(1e-4)
    for depth in range(6):
        rate = found[f"backbone.blocks.{depth}.attn.qkv.weight"][0]
        assert rate == pytest.approx(1e-4 * 0.5 ** (5 - depth))
    assert found["backbone.patch_embed.proj.weight"][0] == pytest.approx(1e-4 * 0.5**6)


@pytest.mark.parametrize(
    "name", [*FAMILIES, "resnet50", "efficientnet_b0", "densenet121", "vit_tiny_patch16_224"]
)
def test_parts_hold_every_parameter_once_from_stem_to_head(name: str) -> None:
    model = sketch(name)
    parts = model_parts(model)
    members = [id(parameter) for part in parts.values() for parameter in part]
    assert sorted(members) == sorted(id(parameter) for parameter in model.parameters())
    assert 3 <= len(parts) <= 8
    assert list(parts)[-1] == "head"
    stages = [part for part in parts if part.startswith("stage")]
    assert stages == [f"stage{number + 1}" for number in range(len(stages))]

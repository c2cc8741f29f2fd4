"""From the model section of a recipe to a network: a backbone, and a head of ours."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn

from espalier.errors import ModelError, WeightsError
from espalier.models.facts import check_imgsz, check_name, model_facts, size_argument
from espalier.models.heads import build_head
from espalier.models.hub import load_pretrained
from espalier.models.small_cnn import SMALL_CNN, SmallCNN
from espalier.models.weights import KeyReport, load_backbone_weights
from espalier.recipe.schema import Model

__all__ = ["Classifier", "KeyReport", "build_model", "model_facts", "set_image_size"]


class Classifier(nn.Module):
    """A backbone that pools its features, and a head that turns them into logits.

    Attributes:
        name: timm's name of the backbone, or ``small-cnn``.
        imgsz: Pixels across and down that the backbone is set to.
        classes: Number of logits.
    """

    def __init__(
        self, backbone: nn.Module, head: nn.Module, *, name: str, imgsz: int, classes: int
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.name = name
        self.imgsz = imgsz
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, K] of normalised images [B, 3, H, W]."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Pooled features [B, F]; a backbone that is wholly frozen keeps nothing for backward."""
        learning = torch.is_grad_enabled() and any(
            parameter.requires_grad for parameter in self.backbone.parameters()
        )
        with torch.set_grad_enabled(learning):
            features: Tensor = self.backbone(images)
        return features


def build_model(
    section: Model, classes: int, imgsz: int | None = None
) -> tuple[Classifier, KeyReport | None]:
    """The network that a recipe asks for, with its starting weights.

    Args:
        section: ``name`` must be resolved: a timm model or ``small-cnn``, not ``auto``.
        classes: How many logits.
        imgsz: Pixels across; backbones of fixed size are created at it. None: the model's own.

    Returns:
        The network in train mode, and what became of every key where a weights file was read.

    Raises:
        ModelError: Unknown model, unfit image size, or stochastic depth it does not have.
        WeightsError: Weights cannot be fetched, read safely or matched.
    """
    facts = model_facts(check_name(section.name))
    size = facts.imgsz if imgsz is None else imgsz
    check_imgsz(facts, size)
    if classes < 1:
        raise ModelError(f"A classifier needs at least 1 class, got {classes}.")
    backbone, report = _weighted_backbone(section, size)
    head = build_head(section.head, facts.features, section.hidden, section.dropout, classes)
    model = Classifier(backbone, head, name=section.name, imgsz=size, classes=classes)
    return model, report


def set_image_size(model: Classifier, imgsz: int) -> None:
    """Sets a backbone of fixed size (ViT, Swin, ...) to another one; the others need nothing.

    Position embeddings become new parameters, so call this before an optimizer is made.

    Raises:
        ModelError: The model cannot take images of this size.
    """
    if imgsz == model.imgsz:
        return
    check_imgsz(model_facts(model.name), imgsz)
    if size_argument(model.name, imgsz):
        change = getattr(model.backbone, "set_input_size", None)
        if change is None:
            raise ModelError(
                f"{model.name} stays at the {model.imgsz} px it was built with; "
                f"it cannot change to {imgsz} px between stages.",
                hint=f"training.imgsz={imgsz}, and no imgsz in the stages",
            )
        change(img_size=(imgsz, imgsz))
    model.imgsz = imgsz


def _weighted_backbone(section: Model, imgsz: int) -> tuple[nn.Module, KeyReport | None]:
    if section.weights == "pretrained":
        _require_pretrained(section)
        return load_pretrained(section.name, lambda: _backbone(section, imgsz, True)), None
    backbone = _backbone(section, imgsz, False)
    if section.weights == "none":
        return backbone, None
    return backbone, load_backbone_weights(backbone, section.weights)


def _require_pretrained(section: Model) -> None:
    if model_facts(section.name).has_pretrained:
        return
    reason = "it is trained from scratch" if section.name == SMALL_CNN else "timm offers none"
    raise WeightsError(
        f"There are no pretrained weights for {section.name}: {reason}.",
        hint="--weights none, or --weights FILE (a .safetensors or .pth file)",
    )


def _backbone(section: Model, imgsz: int, pretrained: bool) -> nn.Module:
    if section.name == SMALL_CNN:
        if section.drop_path > 0:
            raise _no_drop_path(section)
        return SmallCNN()
    depth = {"drop_path_rate": section.drop_path} if section.drop_path > 0 else {}
    arguments: dict[str, Any] = {**depth, **size_argument(section.name, imgsz)}
    try:
        module = timm.create_model(section.name, pretrained=pretrained, num_classes=0, **arguments)
    except TypeError as error:
        if depth and "drop_path_rate" in str(error):
            raise _no_drop_path(section) from error
        raise
    return module


def _no_drop_path(section: Model) -> ModelError:
    return ModelError(
        f"model.drop_path is {section.drop_path}, but {section.name} has no stochastic depth.",
        hint="--set model.drop_path=0",
    )

"""A network cut in two: frozen layers that need to run only once, and the layers that learn.

Families of timm whose blocks follow each other in a plain order get an exact sequential view:
ResNet, EfficientNet and MobileNet (V2, V3), ConvNeXt, ViT, and ``small-cnn``. The view shares all
weights with the backbone, and is compared with it when it is made; where they differ, and for all
other families, there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timm.models.convnext import ConvNeXt
from timm.models.efficientnet import EfficientNet
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from espalier.models.build import Classifier
from espalier.models.small_cnn import SmallCNN

_PROBE_IMAGES = 2
# Of the largest output: sums in another order differ in the last digits of fp32.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Piece:
    """A stretch of a backbone through which an image passes as through one layer.

    Attributes:
        name: Its module within the backbone, such as ``layer3.0``; ``stem`` and ``tail`` for what
            lies before the first and behind the last block.
        module: Shares its weights with the backbone.
    """

    name: str
    module: nn.Module

    @property
    def rests(self) -> bool:
        """Whether it gives the same for the same image, whatever is learned meanwhile."""
        learns = any(parameter.requires_grad for parameter in self.module.parameters())
        norms = (m for m in self.module.modules() if isinstance(m, _BatchNorm))
        return not learns and not any(norm.training for norm in norms)


@dataclass(frozen=True)
class Cut:
    """A classifier in two parts.

    Attributes:
        frozen: Pieces before the first that learns, in forward order; none of them changes.
        learning: The other pieces, then the head, as one module: logits [B, K] of what ``frozen``
            gives.
        before: Name of the first piece that learns; ``head`` where the whole backbone rests.
    """

    frozen: tuple[Piece, ...]
    learning: nn.Module
    before: str


class Learning(nn.Module):
    """The part of a classifier behind the cut."""

    def __init__(self, pieces: Sequence[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.pieces = nn.ModuleList(pieces)
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        """Logits [B, K] of activations at the cut [B, ...]."""
        for piece in self.pieces:
            features = piece(features)
        logits: Tensor = self.head(features)
        return logits


def cut_model(model: Classifier) -> Cut | None:
    """Cut a classifier before the first piece that learns, as its parameters and modes stand.

    None where nothing is frozen, or where the backbone has no sequential view and is not wholly
    frozen.
    """
    pieces = sequential_view(model)
    if pieces is None:
        whole = Piece("backbone", model.backbone)
        return Cut((whole,), Learning([], model.head), "head") if whole.rests else None
    resting = 0
    while resting < len(pieces) and pieces[resting].rests:
        resting += 1
    if resting == 0:
        return None
    rest = pieces[resting:]
    learning = Learning([piece.module for piece in rest], model.head)
    return Cut(pieces[:resting], learning, rest[0].name if rest else "head")


def sequential_view(model: Classifier) -> tuple[Piece, ...] | None:
    """The backbone as pieces that give, one after the other, exactly what it gives as a whole.

    None for families without such an order, and where a comparison on made-up images fails.
    """
    found = _pieces(model.backbone)
    if found is None or not _is_exact(model, found):
        return None
    return tuple(found)


def _pieces(backbone: nn.Module) -> list[Piece] | None:
    """Pieces by family. Subclasses may pass images in another way: the comparison will tell."""
    parts: Any = backbone
    if isinstance(backbone, SmallCNN):
        return [*_blocks("blocks", parts.blocks), _tail(parts.pool, nn.Flatten())]
    if isinstance(backbone, ResNet):
        layers = [
            piece
            for name in ("layer1", "layer2", "layer3", "layer4")
            for piece in _blocks(name, getattr(parts, name))
        ]
        stem = _stem(parts.conv1, parts.bn1, parts.act1, parts.maxpool)
        return [stem, *layers, _tail(parts.global_pool)]
    if isinstance(backbone, EfficientNet):
        ends = _tail(parts.conv_head, parts.bn2, parts.global_pool)
        return [_stem(parts.conv_stem, parts.bn1), *_nested("blocks", parts.blocks), ends]
    if isinstance(backbone, MobileNetV3):
        ends = _tail(parts.global_pool, parts.conv_head, parts.norm_head, parts.act2, parts.flatten)
        return [_stem(parts.conv_stem, parts.bn1), *_nested("blocks", parts.blocks), ends]
    if isinstance(backbone, ConvNeXt):
        stages = [piece for i, s in enumerate(parts.stages) for piece in _convnext_stage(i, s)]
        return [_stem(parts.stem), *stages, _tail(parts.norm_pre, parts.head)]
    if isinstance(backbone, VisionTransformer):
        tokens, ends = Piece("stem", _Tokens(backbone)), Piece("tail", _Pooled(backbone))
        return [tokens, *_blocks("blocks", parts.blocks), ends]
    return None


def _stem(*modules: nn.Module) -> Piece:
    return Piece("stem", nn.Sequential(*modules))


def _tail(*modules: nn.Module) -> Piece:
    return Piece("tail", nn.Sequential(*modules))


def _blocks(name: str, blocks: nn.Module) -> Iterator[Piece]:
    for key, block in blocks.named_children():
        yield Piece(f"{name}.{key}", block)


def _nested(name: str, stages: nn.Module) -> Iterator[Piece]:
    for key, stage in stages.named_children():
        yield from _blocks(f"{name}.{key}", stage)


def _convnext_stage(index: int, stage: Any) -> Iterator[Piece]:
    """The blocks of a stage; its downsampling goes with the first."""
    for key, block in stage.blocks.named_children():
        name = f"stages.{index}.blocks.{key}"
        yield Piece(name, nn.Sequential(stage.downsample, block) if key == "0" else block)


class _Tokens(nn.Module):
    """What a ViT does before its blocks."""

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        # Hidden from the registry: only the parameters used here are this piece's.
        self.vit = (vit,)
        self.patch_embed, self.norm_pre = vit.patch_embed, vit.norm_pre
        for name, parameter in vit.named_parameters(recurse=False):
            self.register_parameter(name, parameter)

    def forward(self, images: Tensor) -> Tensor:
        """Tokens [B, N, D] of images [B, 3, H, W]."""
        vit: Any = self.vit[0]
        tokens: Tensor = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))
        return tokens


class _Pooled(nn.Module):
    """What a ViT does behind its blocks."""

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        self.vit = (vit,)
        self.norm, self.fc_norm = vit.norm, vit.fc_norm
        self.attn_pool = vit.attn_pool

    def forward(self, tokens: Tensor) -> Tensor:
        """Pooled features [B, D] of tokens [B, N, D]."""
        vit: Any = self.vit[0]
        pooled: Tensor = vit.forward_head(vit.norm(tokens))
        return pooled


@torch.inference_mode()
def _is_exact(model: Classifier, pieces: Sequence[Piece]) -> bool:
    """Whether the pieces give what the backbone gives, on noise; every module keeps its mode."""
    modes = [(module, module.training) for module in model.backbone.modules()]
    model.backbone.eval()
    first = next(model.parameters())
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(_PROBE_IMAGES, 3, model.imgsz, model.imgsz, generator=generator)
    images = images.to(first.device)
    try:
        whole = model.backbone(images)
        found = images
        for piece in pieces:
            found = piece.module(found)
    except (RuntimeError, TypeError, AttributeError):
        # A subclass with an order of its own: no view, and the whole model is used.
        return False
    finally:
        for module, training in modes:
            module.training = training
    if found.shape != whole.shape:
        return False
    error = float((found - whole).abs().max())
    return error <= _TOLERANCE * max(1e-6, float(whole.abs().max()))

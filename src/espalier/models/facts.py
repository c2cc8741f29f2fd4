"""What a backbone needs and costs, found without downloading or allocating its weights.

A timm model is created on torch's ``meta`` device, where tensors have shapes and no contents; a
few passes over empty images then show which sizes it accepts.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import timm
import torch
from torch import nn

from espalier.errors import ModelError
from espalier.models.small_cnn import SMALL_CNN, SMALL_CNN_IMGSZ, SmallCNN
from espalier.records import ModelFacts

_SMALLEST = 32
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
_FIXED_MULTIPLES = (16, 32, 64)
_SMALL_CNN_MEAN = (0.485, 0.456, 0.406)
_SMALL_CNN_STD = (0.229, 0.224, 0.225)


@lru_cache(maxsize=1)
def known_models() -> tuple[str, ...]:
    """Every name that can be built: ``small-cnn`` and all architectures of timm."""
    return (SMALL_CNN, *timm.list_models())


def check_name(name: str) -> str:
    """The name as timm spells it.

    Raises:
        ModelError: No such model; the hint has the nearest names.
    """
    architecture, _, tag = name.partition(".")
    if name == SMALL_CNN or (timm.is_model(architecture) and not tag):
        return name
    if not timm.is_model(architecture):
        raise ModelError(
            f"There is no model '{name}'. Allowed: {SMALL_CNN} or any timm model.",
            hint=_suggestion(nearest_names(name)),
        )
    tags = timm.list_models(architecture + ".*", pretrained=True)
    if name not in tags:
        raise ModelError(
            f"timm has no weights '{tag}' for '{architecture}'.",
            hint=_suggestion([architecture, *tags][:6]),
        )
    return name


def nearest_names(name: str, limit: int = 5) -> list[str]:
    """Known models that look like ``name``, nearest first; case, dashes, underscores ignored."""
    plain: dict[str, str] = {_plain(known): known for known in known_models()}
    wanted = _plain(name)
    exact = [plain[wanted]] if wanted in plain else []
    close = [plain[key] for key in difflib.get_close_matches(wanted, plain, n=limit, cutoff=0.6)]
    starting = [plain[key] for key in sorted(plain, key=len) if wanted and key.startswith(wanted)]
    ordered = dict.fromkeys([*exact, *starting[:2], *close, *starting])
    return list(ordered)[:limit]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _suggestion(names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f"--model with one of: {listed}" if listed else "`espalier models` lists what there is"


class Outline(NamedTuple):
    """A backbone on the meta device, with what timm says of it."""

    module: nn.Module
    settings: dict[str, Any]


def outline(name: str, imgsz: int | None = None) -> Outline:
    """The backbone without contents, for its shapes; ``imgsz`` only where it fixes its size."""
    with torch.device("meta"):
        if name == SMALL_CNN:
            return Outline(SmallCNN().eval(), {})
        module = timm.create_model(name, num_classes=0, **size_argument(name, imgsz))
    settings: Any = module.pretrained_cfg
    return Outline(module.eval(), dict(settings))


def size_argument(name: str, imgsz: int | None) -> dict[str, Any]:
    """``{"img_size": imgsz}`` for a backbone that fixes its size when created, else nothing."""
    if imgsz is None or name == SMALL_CNN or not _fixed(name):
        return {}
    return {"img_size": imgsz}


@lru_cache(maxsize=4096)
def _fixed(name: str) -> bool:
    settings = timm.get_pretrained_cfg(name)
    return bool(settings is not None and settings.fixed_input_size)


@lru_cache(maxsize=256)
def model_facts(name: str) -> ModelFacts:
    """What the backbone needs and costs; nothing is downloaded.

    Raises:
        ModelError: The model is unknown, or is no image classifier with pooled features.
    """
    check_name(name)
    module, settings = outline(name)
    imgsz = int(settings.get("input_size", (3, SMALL_CNN_IMGSZ, SMALL_CNN_IMGSZ))[-1])
    multiple = _multiple_of(name, module, imgsz)
    return ModelFacts(
        name=name,
        imgsz=imgsz,
        min_imgsz=_smallest(name, module, imgsz, multiple),
        multiple_of=multiple,
        mean=_three(settings.get("mean", _SMALL_CNN_MEAN)),
        std=_three(settings.get("std", _SMALL_CNN_STD)),
        features=_feature_length(name, module, imgsz),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        has_pretrained=bool(name != SMALL_CNN and timm.models.is_model_pretrained(name)),
        depthwise=_mostly_depthwise(module),
        fixed_size=bool(size_argument(name, imgsz)),
    )


def check_imgsz(facts: ModelFacts, imgsz: int) -> None:
    """Nothing, when the model accepts square images of this size.

    Raises:
        ModelError: Too small, or not a multiple of what the model needs.
    """
    multiple, smallest = facts.multiple_of, facts.min_imgsz
    only = multiple == facts.imgsz
    if imgsz == facts.imgsz or (imgsz >= smallest and imgsz % multiple == 0 and not only):
        return
    nearest = max(smallest, round(imgsz / multiple) * multiple)
    rule = f"at least {smallest}" + (f" and a multiple of {multiple}" if multiple > 1 else "")
    if only:
        nearest, rule = facts.imgsz, f"{facts.imgsz}, and nothing else"
    raise ModelError(
        f"{imgsz} px does not fit {facts.name}: the size must be {rule}.",
        hint=f"--imgsz {nearest}",
    )


def _three(values: Iterable[float]) -> tuple[float, float, float]:
    numbers = [float(value) for value in values]
    if len(numbers) == 1:
        numbers *= 3
    return numbers[0], numbers[1], numbers[2]


def _feature_length(name: str, module: nn.Module, imgsz: int) -> int:
    """F of the pooled features [B, F], from one pass over empty images."""
    shape = _output_shape(module, imgsz)
    if len(shape) != 2:
        raise ModelError(
            f"{name} gives features of shape {list(shape)}, not one vector per image, so it "
            "cannot be the backbone of a classifier.",
            hint="`espalier models` lists what fits",
        )
    return shape[1]


def _output_shape(module: nn.Module, imgsz: int) -> tuple[int, ...]:
    with torch.no_grad():
        output = module(torch.empty(2, 3, imgsz, imgsz, device="meta"))
    return tuple(output.shape) if isinstance(output, torch.Tensor) else ()


def _accepts(name: str, module: nn.Module, imgsz: int) -> bool:
    """Whether a pass over images of this size goes through; any failure inside timm means no."""
    try:
        fixed = size_argument(name, imgsz)
        candidate = outline(name, imgsz).module if fixed else module
        return len(_output_shape(candidate, imgsz)) == 2
    except (AssertionError, RuntimeError, ValueError, TypeError, IndexError, ZeroDivisionError):
        return False


def _multiple_of(name: str, module: nn.Module, imgsz: int) -> int:
    """The coarsest stride for models of fixed size; else the first step that goes through."""
    candidates: tuple[int, ...] = _MULTIPLES
    if size_argument(name, imgsz):
        stride = _coarsest_stride(module)
        candidates = ((stride,) if imgsz % stride == 0 else ()) + _FIXED_MULTIPLES
    for step in candidates:
        if imgsz % step == 0 and _accepts(name, module, imgsz + step):
            return step
        if step == 1 and _accepts(name, module, imgsz + 1):
            return 1
    return imgsz


def _smallest(name: str, module: nn.Module, imgsz: int, multiple: int) -> int:
    floor = max(_SMALLEST, min(_coarsest_stride(module), imgsz))
    step = math.lcm(multiple, 16) if 16 % multiple == 0 else multiple
    start = math.ceil(floor / step) * step
    for size in range(start, imgsz, step):
        if _accepts(name, module, size):
            return size
    return imgsz


def _coarsest_stride(module: nn.Module) -> int:
    described = getattr(module, "feature_info", None) or ()
    return max((int(entry["reduction"]) for entry in described), default=_SMALLEST)


def _mostly_depthwise(module: nn.Module) -> bool:
    """Whether more than half of the convolutions larger than 1 x 1 see one channel each."""
    spatial = [
        layer
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1
    ]
    depthwise = [layer for layer in spatial if 1 < layer.groups == layer.in_channels]
    return 2 * len(depthwise) > len(spatial)

"""What a network, its optimizer and its loss are, as facts on record."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from espalier.run_record import StageFacts

_LOSSES = {
    "CrossEntropyLoss": "cross-entropy",
    "cross_entropy": "cross-entropy",
    "NLLLoss": "nll",
    "nll_loss": "nll",
    "BCELoss": "bce",
    "BCEWithLogitsLoss": "bce",
    "binary_cross_entropy": "bce",
    "binary_cross_entropy_with_logits": "bce",
    "MSELoss": "mse",
    "mse_loss": "mse",
}


def network_facts(model: nn.Module) -> dict[str, Any]:
    """Fields of ``RunFacts`` that the network itself tells."""
    modules = list(model.modules())
    kinds = {type(m).__name__.lower() for m in modules if _is_activation(m)}
    return {
        "activations": tuple(sorted(kinds)),
        "batch_norms": sum(isinstance(m, _BatchNorm) for m in modules),
        "dropout": max((float(m.p) for m in modules if isinstance(m, _DropoutNd)), default=0.0),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def _is_activation(module: nn.Module) -> bool:
    home = type(module).__module__
    return home == "torch.nn.modules.activation" or home.startswith("timm.layers.activations")


def outputs_of(model: nn.Module) -> int | None:
    """Outputs of the last linear or convolution layer; None where there is none."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if not layers:
        return None
    last = layers[-1]
    return last.out_features if isinstance(last, nn.Linear) else last.out_channels


def optimizer_facts(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Fields of ``RunFacts`` that the optimizer tells; some are absent for some optimizers."""
    groups = optimizer.param_groups
    name = type(optimizer).__name__.removeprefix("Fabric").lower()
    first = groups[0] if groups else {}
    facts: dict[str, Any] = {
        "optimizer": name,
        "weight_decay": max((float(g.get("weight_decay", 0.0)) for g in groups), default=0.0),
        "decoupled_decay": bool(first.get("decoupled_weight_decay", name == "adamw")),
    }
    if "betas" in first:
        facts["betas"] = tuple(float(beta) for beta in first["betas"])
    for key in ("momentum", "eps"):
        if key in first:
            facts[key] = float(first[key])
    return facts


def loss_facts(loss: nn.Module | Callable[..., Any] | str) -> dict[str, Any]:
    """Fields of ``RunFacts`` that a loss tells: a torch module or function, or a name."""
    if isinstance(loss, str):
        return {"loss": loss}
    given = getattr(loss, "__name__", type(loss).__name__)
    facts: dict[str, Any] = {"loss": _LOSSES.get(given, given)}
    smoothing, weight = getattr(loss, "label_smoothing", None), getattr(loss, "weight", None)
    if isinstance(smoothing, int | float):
        facts["label_smoothing"] = float(smoothing)
    if isinstance(weight, Tensor) and weight.ndim == 1:
        facts["class_weights"] = tuple(weight.detach().float().cpu().tolist())
    return facts


def stage_facts(
    stage: StageFacts,
    model: nn.Module,
    parts: Mapping[str, Sequence[Tensor]],
    optimizer: torch.optim.Optimizer,
    modes: Mapping[nn.Module, bool] | None = None,
) -> StageFacts:
    """A stage with what its network and optimizer really hold.

    Args:
        stage: As planned.
        model: The network.
        parts: Part name -> its parameters, learning or not.
        optimizer: That steps it.
        modes: Module -> its mode in training, where it is in another one now.
    """
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    moving, resting = batch_norm_modes(model, modes or {})
    planned = {f: getattr(stage, f) for f in stage.__dataclass_fields__}
    found: dict[str, Any] = {
        "parts": {name: _elements(tensors) for name, tensors in parts.items()},
        "trainable": {n: _elements(t for t in ts if t.requires_grad) for n, ts in parts.items()},
        "optimized": {n: _elements(t for t in ts if id(t) in held) for n, ts in parts.items()},
        "moving_batch_norm": moving,
        "resting_batch_norm": resting,
    }
    return StageFacts(**{**planned, **found})


def _elements(tensors: Any) -> int:
    return sum(tensor.numel() for tensor in tensors)


def batch_norm_modes(model: nn.Module, modes: Mapping[nn.Module, bool]) -> tuple[int, int]:
    """BatchNorm layers that are frozen yet in training mode, and that learn yet in evaluation."""
    moving = resting = 0
    for module in model.modules():
        if not isinstance(module, _BatchNorm) or module.running_mean is None:
            continue
        own = list(module.parameters(recurse=False))
        learns = any(parameter.requires_grad for parameter in own)
        trains = modes.get(module, module.training)
        moving += bool(own) and not learns and trains
        resting += learns and not trains
    return moving, resting


def rates(
    optimizer: torch.optim.Optimizer, parts: Mapping[str, Sequence[Tensor]]
) -> tuple[float, float]:
    """The fastest rate of the last part (the head), and of all parts before it; 0 where none."""
    last = list(parts)[-1] if parts else ""
    head = {id(tensor) for tensor in parts.get(last, ())}
    fastest = [0.0, 0.0]
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.requires_grad:
                place = int(id(parameter) not in head)
                fastest[place] = max(fastest[place], float(group["lr"]))
    return fastest[0], fastest[1]


def weight_norm(tensors: Sequence[Tensor]) -> float:
    """Norm of all learning tensors of two or more dimensions; NaN where there are none."""
    weights = [t.detach() for t in tensors if t.requires_grad and t.ndim > 1]
    if not weights:
        return math.nan
    norms = [float(norm) for norm in torch._foreach_norm(weights)]
    return math.hypot(*norms)


def sums_to_one(outputs: Tensor) -> bool:
    """Whether outputs [N, K] are probabilities already: none below 0, and each row sums to 1."""
    values = outputs.detach().float()
    if values.ndim != 2 or values.shape[1] < 2 or not bool(torch.isfinite(values).all()):
        return False
    return bool((values >= 0).all()) and bool(((values.sum(dim=1) - 1).abs() < 1e-3).all())

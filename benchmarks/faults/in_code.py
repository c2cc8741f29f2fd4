"""Faults that only code can hold: (loop, severity) -> nothing, a piece of the loop is replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.faults import networks
from benchmarks.faults.held_out import PatchTransformer
from benchmarks.faults.loop import Loop

SCALE = 65_536.0
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "resnet8": networks.ResNet8,
    "small-cnn": networks.SmallCNN,
    "patches": PatchTransformer,
}


def scheduler_per_batch(loop: Loop, severity: int) -> None:
    """A schedule in epochs (a tenth every 3, or every one) that is stepped after each batch."""
    every = (3, 1)[severity - 1]
    loop.schedule_class = lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, every, 0.1)
    loop.told_each = "epoch"


def scheduler_forgotten(loop: Loop, severity: int) -> None:
    loop.schedule = lambda: None


def head_not_optimized(loop: Loop, severity: int) -> None:
    """The optimizer was built before the head was replaced."""
    groups = loop.learning

    def learning(model: Any) -> list[dict[str, Any]]:
        found = groups(model)
        networks.fresh_head(model, model.head.out_features)
        return found

    loop.learning = learning


def backbone_not_optimized(loop: Loop, severity: int) -> None:
    """Everything requires gradients, the optimizer holds the head alone."""
    loop.learning = lambda model: [{"params": list(model.head.parameters()), "lr": loop.plan.lr}]


def no_zero_grad(loop: Loop, severity: int) -> None:
    loop.clear = lambda: None


def no_step(loop: Loop, severity: int) -> None:
    """Gradients are computed and cleared, and nobody steps."""
    loop.step = lambda: None


def ascent(loop: Loop, severity: int) -> None:
    loop.backward = lambda loss: (-loss).backward()


def vanishing(loop: Loop, severity: int) -> None:
    """Sigmoids, no normalisation, no way around, nothing pretrained."""
    rebuilt(loop, kind="none", act=nn.Sigmoid, residual=False)


def exploding(loop: Loop, severity: int) -> None:
    """No normalisation, and weights six or ten times as large."""
    rebuilt(loop, kind="none")
    loop.after_model = lambda model: _scaled(model, (6.0, 10.0)[severity - 1])


def rebuilt(loop: Loop, **changes: Any) -> None:
    kind = NETWORKS[loop.plan.network]

    def make() -> nn.Module:
        torch.manual_seed(loop.seed)
        model = kind(len(loop.pictures.classes), width=loop.plan.width, **changes)
        networks.fresh_head(model, len(loop.pictures.classes))
        return model

    loop.make_model = make


@torch.no_grad()
def _scaled(model: nn.Module, factor: float) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module is not model.head:
            module.weight.mul_(factor)


def underflow(loop: Loop, severity: int) -> None:
    """The loss is so small that gradients vanish in half precision."""
    factor = (1e-6, 1e-8)[severity - 1]

    def backward(loss: Tensor) -> None:
        (loss * factor).backward()
        for parameter in loop.model.parameters():
            if parameter.grad is not None:
                parameter.grad = parameter.grad.half().float() / factor

    loop.backward = backward
    loop.facts["precision"] = "fp16"


def clip_before_unscale(loop: Loop, severity: int) -> None:
    """Scaled gradients are clipped as if they were true; the scaler divides them afterwards."""
    norm = (1.0, 0.1)[severity - 1]
    use_scaler(loop)
    loop.clip = lambda: _clip(loop, norm)
    loop.facts |= {"clip_norm": norm}


def _clip(loop: Loop, norm: float) -> None:
    torch.nn.utils.clip_grad_norm_(loop.model.parameters(), norm)


def use_scaler(loop: Loop) -> None:
    """A scaled loss, as mixed precision has it; here the arithmetic is the usual one."""
    loop.scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    loop.backward = lambda loss: loop.scaler.scale(loss).backward()

    def step() -> None:
        loop.scaler.step(loop.optimizer)
        loop.scaler.update()

    loop.step = step


def dead_units(loop: Loop, severity: int) -> None:
    """The biases of the first or all BatchNorm layers far below zero."""

    @torch.no_grad()
    def kill(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.bias.fill_((-4.0, -10.0)[severity - 1])
                module.weight.fill_(0.3)
                if severity == 1:
                    module.bias.requires_grad_(False)
                    module.weight.requires_grad_(False)

    loop.after_model = kill


def frozen_backbone(loop: Loop, severity: int) -> None:
    """Nobody meant to freeze it: pretrained on pictures that say nothing, or random."""
    make = loop.make_model

    def frozen() -> nn.Module:
        model = make()
        if severity == 2:
            _reset(model, loop.seed)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith("head"))
        return model

    loop.make_model = frozen
    groups = loop.learning
    loop.learning = lambda model: [
        {**group, "params": [p for p in group["params"] if p.requires_grad]}
        for group in groups(model)
        if any(p.requires_grad for p in group["params"])
    ]


def _reset(model: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.reset_parameters()


def no_eval(loop: Loop, severity: int) -> None:
    """Validation in training mode, few pictures at a time, with dropout."""
    loop.for_validation = lambda: None
    loop.val_batch = (8, 4)[severity - 1]
    loop.after_model = lambda model: _set_dropout(model, 0.5)


def _set_dropout(model: nn.Module, p: float) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = p


def no_train(loop: Loop, severity: int) -> None:
    """Training in evaluation mode, with statistics of BatchNorm that belong to other pictures."""
    loop.for_training = lambda: loop.model.eval()  # type: ignore[func-returns-value]

    @torch.no_grad()
    def strange(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
                module.running_var.fill_((4.0, 60.0)[severity - 1])

    loop.after_model = strange


def double_softmax(loop: Loop, severity: int) -> None:
    """The network ends with a softmax, and the loss has one of its own."""

    def soften(model: nn.Module) -> None:
        model.register_forward_hook(lambda module, given, logits: logits.softmax(1))

    loop.after_model = soften


def stale_statistics(loop: Loop, severity: int) -> None:
    """BatchNorm hardly updates its running statistics (a momentum meant the other way round)."""

    def slow(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = (1e-3, 1e-5)[severity - 1]
                module.reset_running_stats()

    loop.after_model = slow


def weights_lost(loop: Loop, severity: int) -> None:
    """Names did not match: none, or a quarter, of the pretrained tensors were loaded."""
    make = loop.make_model

    def lost() -> nn.Module:
        model = make()
        _reset(model, loop.seed)
        return model

    loop.make_model = lost
    loop.facts |= {"pretrained": True, "loaded_share": 0.0}


def detached(loop: Loop, severity: int) -> None:
    """A detach in the middle: nothing below it gets gradients."""

    def cut(model: nn.Module) -> None:
        place = (model.block2, model.block3)[severity - 1]
        place.register_forward_pre_hook(lambda module, given: (given[0].detach(),))

    loop.after_model = cut


def loud_head(loop: Loop, severity: int) -> None:
    """The head starts with weights of 1 or 5: the first loss is many times that of chance."""

    @torch.no_grad()
    def loud(model: Any) -> None:
        model.head.weight.normal_(0, (2.0, 10.0)[severity - 1])

    loop.after_model = loud


def wide_head(loop: Loop, severity: int) -> None:
    """Outputs for a thousand classes, of which ten exist."""
    loop.after_model = lambda model: networks.fresh_head(model, (100, 1000)[severity - 1])


def worst_kept(loop: Loop, severity: int) -> None:
    """The checkpoint watches macro-F1 as if less were better: the worst epoch is kept."""
    loop.better = lambda score, best: score < best

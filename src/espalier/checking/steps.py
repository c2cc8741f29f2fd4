"""Two optimizer steps by training's own parts, with a record of everything that they touched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from espalier.checking.thawing import misplaced
from espalier.data.loader import Batch, Loader
from espalier.models.build import Classifier
from espalier.train.job import Job
from espalier.train.loop import backward, clip, prepare, unscale
from espalier.train.optimizers import set_rates
from espalier.train.session import Session, batch_order, enter_training_mode
from espalier.train.state import State
from espalier.train.vitals import total_norm

# Blocks that start as the identity (a last norm of zeros) pass a gradient on from the second step.
STEPS = 2


@dataclass(frozen=True)
class Steps:
    """What two steps of a stage did.

    Attributes:
        imgsz: Pixels across of the images.
        logits: Of the first step [N, K], on the CPU.
        targets: Class indices [N] or shares [N, K].
        loss: Of the first step: mean over its images.
        chance: The same loss of logits that are all 0.
        norm: Of all gradients of the first step, before clipping.
        clipped: The same behind it.
        names: All parameters of the model.
        learning: Those that are thawed.
        reached: Those that got a gradient other than 0 in any step.
        graded: Those that got any gradient, 0 or not.
        held: Names of what the optimizer steps, repeats included; ``?`` for what is no parameter.
        moved: Frozen parameters whose values changed.
        norms: BatchNorm layers with running statistics -> whether theirs changed.
        thawed_norms: Those that are meant to change theirs.
        misplaced: Parameters that are thawed or frozen against the words of the stage.
    """

    imgsz: int
    logits: Tensor
    targets: Tensor
    loss: float
    chance: float
    norm: float
    clipped: float
    names: frozenset[str]
    learning: frozenset[str]
    reached: frozenset[str]
    graded: frozenset[str]
    held: tuple[str, ...]
    moved: frozenset[str]
    norms: dict[str, bool]
    thawed_norms: frozenset[str]
    misplaced: tuple[str, ...]


def take_steps(job: Job, session: Session, state: State, *, images: int) -> Steps:
    """Train for two steps on the first images of the first epoch.

    Args:
        job: Its model is trained.
        session: Of the stage.
        state: Where the stage begins.
        images: How many to look at.
    """
    model = job.model
    window = first_window(job, session, images)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    statistics = running_means(model)
    reached: set[str] = set()
    graded: set[str] = set()
    figures: list[tuple[float, float, float]] = []
    enter_training_mode(job, session)
    with recorded(session.model) as outputs:
        for step in range(STEPS):
            set_rates(session.optimizer, session.plan, step)
            loss = backward(job, session, state, window)
            unscale(job, session)
            note_gradients(model, reached, graded)
            norm = float(clip(job, session))
            figures.append((float(loss), norm, float(gradient_norm(session.optimizer))))
            session.optimizer.step()
            session.optimizer.zero_grad(set_to_none=True)
    parts = [prepare(job, session, state, batch, i) for i, batch in enumerate(window)]
    targets = torch.cat([part[1] for part in parts])
    logits = torch.cat(outputs[: len(window)])
    learning = {name for name, value in model.named_parameters() if value.requires_grad}
    after = running_means(model)
    return Steps(
        imgsz=parts[0][0].shape[-1],
        logits=logits.cpu(),
        targets=targets.cpu(),
        loss=figures[0][0],
        chance=float(session.loss(torch.zeros_like(logits), targets).mean()),
        norm=figures[0][1],
        clipped=figures[0][2],
        names=frozenset(before),
        learning=frozenset(learning),
        reached=frozenset(reached),
        graded=frozenset(graded),
        held=held_by(session.optimizer, model),
        moved=frozenset(
            name
            for name, value in model.named_parameters()
            if name not in learning and not torch.equal(value, before[name])
        ),
        norms={name: not torch.equal(mean, after[name]) for name, mean in statistics.items()},
        thawed_norms=frozenset(thawed_norms(model, session.stage.batch_norm)),
        misplaced=misplaced(model, session.stage),
    )


def first_window(job: Job, session: Session, images: int) -> list[Batch]:
    """The first batches of the first epoch, with so many images in all."""
    loader = cast(Loader, session.train(0))
    order = batch_order(job, session, 0)[:images]
    return list(loader.epoch(order, 0))


@contextmanager
def recorded(model: nn.Module) -> Iterator[list[Tensor]]:
    """What a model gives while it is used, call by call, in fp32."""
    outputs: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Tensor) -> None:
        outputs.append(output.detach().float())

    handle = model.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        handle.remove()


def note_gradients(model: nn.Module, reached: set[str], graded: set[str]) -> None:
    """Add the names of parameters that have a gradient, and of those whose is not all 0."""
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            graded.add(name)
            # A gradient of NaN has arrived, too: it is another check that tells.
            if bool((parameter.grad != 0).any()):
                reached.add(name)


def gradient_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """Norm of all gradients that an optimizer will step on, as they stand."""
    return total_norm([p.grad for group in optimizer.param_groups for p in group["params"]])


def held_by(optimizer: torch.optim.Optimizer, model: nn.Module) -> tuple[str, ...]:
    """Names of the parameters that an optimizer steps, in its order."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = optimizer.param_groups
    return tuple(names.get(id(p), "?") for group in groups for p in group["params"])


def batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """BatchNorm layers that keep running statistics."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


def running_means(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the running mean of every BatchNorm layer."""
    found = {}
    for name, module in batch_norms(model).items():
        found[name] = cast(Tensor, module.running_mean).detach().clone()
    return found


def thawed_norms(model: Classifier, batch_norm: str) -> set[str]:
    """The BatchNorm layers whose statistics a stage is meant to change."""
    layers = batch_norms(model)
    if batch_norm in ("train", "eval"):
        return set(layers) if batch_norm == "train" else set()
    return {
        name
        for name, layer in layers.items()
        if any(parameter.requires_grad for parameter in layer.parameters())
    }

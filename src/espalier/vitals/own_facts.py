"""What can be known of anybody's loop before it begins: facts, stages, data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import nn

from espalier.errors import RunError
from espalier.run_record import RunFacts, StageFacts
from espalier.vitals.datasets import Split, class_names, label_counts, loader_facts
from espalier.vitals.network import loss_facts, network_facts, optimizer_facts, outputs_of
from espalier.vitals.parts import Parts
from espalier.vitals.rates import Rates, rates_at, scheduled_rates

Interval = Literal["step", "epoch"]


@dataclass(frozen=True)
class Plan:
    """The rates that a loop means to use.

    Attributes:
        scheduler: Of torch; None where there is none, or where ``rates`` says it.
        interval: What the scheduler is stepped after; None: not known, and so no plan.
        rates: Rate of each step from 0, as a function or a list.
    """

    scheduler: Any = None
    interval: Interval | None = None
    rates: Any = None

    def sampled(self, steps: int | None, steps_per_epoch: int | None, every: int) -> Rates | None:
        """(step, rate) at steps that are measured; None where the plan is not known."""
        if self.rates is not None:
            known = steps if callable(self.rates) else len(self.rates)
            return rates_at(self.rates, known, every) if known else None
        if self.scheduler is None or self.interval is None or not steps or not steps_per_epoch:
            return None
        return scheduled_rates(self.scheduler, self.interval, steps, steps_per_epoch, every)

    @property
    def name(self) -> str | None:
        """Name of the schedule; None where the loop has no scheduler of torch."""
        return None if self.scheduler is None else type(self.scheduler).__name__


def checked_facts(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Facts that a person gave.

    Raises:
        RunError: A name is no fact; lists those that are.
    """
    allowed = [f.name for f in fields(RunFacts) if f.name != "stages"]
    unknown = sorted(set(given or {}) - set(allowed))
    if unknown:
        raise RunError(
            f"facts: {', '.join(unknown)} unknown; allowed: {', '.join(allowed)}",
            hint='Vitals(..., facts={"batch": 32, "mixup": 0.2})',
        )
    return dict(given or {})


def known_facts(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    classes: Sequence[str] | None,
    loss: Any,
    epochs: int | None,
    train: Split | None,
    val: Split | None,
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """All fields of ``RunFacts`` that can be told; what a person gave stands above what is read."""
    found: dict[str, Any] = {**network_facts(model), **optimizer_facts(optimizer)}
    found["head_classes"] = outputs_of(model)
    if loss is not None:
        found |= loss_facts(loss)
    if epochs is not None:
        found["epochs"] = epochs
    if train is not None:
        found |= loader_facts(train)
    names = tuple(classes) if classes is not None else None
    if names is None and train is not None:
        names = class_names(train)
    found["classes"] = names
    number = len(names) if names else None
    for name, split in (("train_counts", train), ("val_counts", val)):
        if split is not None:
            found[name] = label_counts(split, number)
    if val is not None:
        found["val_classes"] = class_names(val)
        transform = getattr(val.dataset, "transform", None)
        found["val_transform"] = None if transform is None else repr(transform)
    return {**found, **given}


def planned_stage(
    name: str, epochs: int | None, rates: tuple[float, float], meant: Sequence[str] | None
) -> StageFacts:
    """A stage as planned: the first rates are those of its optimizer when it begins."""
    return StageFacts(
        name=name,
        epochs=epochs,
        learning_rate=rates[0],
        backbone_learning_rate=rates[1],
        meant_to_train=None if meant is None else tuple(meant),
    )


def with_peak(stage: StageFacts, points: Rates | None) -> StageFacts:
    """The stage with the peaks of its planned rates; groups keep the ratio that they begin with."""
    head, backbone = stage.learning_rate or 0.0, stage.backbone_learning_rate or 0.0
    if not points:
        return stage
    peak = max(rate for _, rate in points)
    # A warmup from 0 leaves no ratio to go by.
    share = backbone / head if head > 0 else 1.0
    return replace(stage, learning_rate=peak, backbone_learning_rate=peak * share)


def meant_parts(wanted: Sequence[str] | str | None, parts: Parts, model: nn.Module) -> Any:
    """Part names that are meant to learn, from names of parts or of modules, or ``all``.

    Raises:
        RunError: A name is neither a part nor a module.
    """
    if wanted is None:
        return None
    if wanted == "all":
        return tuple(parts)
    chosen: set[str] = set()
    for name in [wanted] if isinstance(wanted, str) else wanted:
        chosen |= {name} if name in parts else _parts_of_module(name, parts, model)
    return tuple(part for part in parts if part in chosen)


def _parts_of_module(name: str, parts: Parts, model: nn.Module) -> set[str]:
    modules = dict(model.named_modules())
    if name not in modules:
        raise RunError(
            f"meant_to_train: {name!r} is neither a part nor a module of the network; its parts "
            f"are {', '.join(parts)}",
            hint='meant_to_train="all", or ("head",)',
        )
    own = {id(parameter) for parameter in modules[name].parameters()}
    return {part for part, members in parts.items() if own & {id(p) for p in members}}


def device_of(model: nn.Module) -> torch.device:
    """Where the network computes."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def inner_optimizer(optimizer: Any) -> Any:
    """The torch optimizer inside wrappers of Accelerate, Fabric and their like."""
    while not isinstance(optimizer, torch.optim.Optimizer) or hasattr(optimizer, "optimizer"):
        inner = getattr(optimizer, "optimizer", None)
        if inner is None:
            raise RunError(
                f"optimizer is a {type(optimizer).__name__}; allowed: a torch.optim.Optimizer",
                hint="Vitals(model, optimizer, folder)",
            )
        optimizer = inner
    return optimizer


def with_plan(facts: RunFacts, plan: Plan, every: int) -> RunFacts:
    """The facts with planned rates at the steps that are measured, where nobody gave any."""
    if facts.planned_rates is not None:
        return facts
    per_epoch = facts.steps_per_epoch
    steps = per_epoch * facts.epochs if per_epoch and facts.epochs else None
    return replace(facts, planned_rates=plan.sampled(steps, per_epoch, every))

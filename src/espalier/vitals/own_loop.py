"""Vital signs for anybody's training loop, in three lines, as files that ``diagnose`` reads."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from espalier.run_record import Ended, RunFacts
from espalier.vitals.datasets import Split, data_facts, fixed_batch, split_of
from espalier.vitals.epochs import EpochSums, train_line, val_line
from espalier.vitals.folder import About
from espalier.vitals.judged import Judged, judged_from
from espalier.vitals.network import rates, stage_facts
from espalier.vitals.norm_count import NormCount
from espalier.vitals.open_step import OpenStep, misplaced
from espalier.vitals.own_facts import (
    Interval,
    Plan,
    checked_facts,
    device_of,
    inner_optimizer,
    known_facts,
    meant_parts,
    planned_stage,
    with_peak,
    with_plan,
)
from espalier.vitals.own_record import OwnRecord
from espalier.vitals.parts import network_parts, norm_statistics, unwrapped
from espalier.vitals.preflight import preflight
from espalier.vitals.probing import PROBE_IMAGES, FixedProbe, Forward, ProbeFigures
from espalier.vitals.steps import StepGauge
from espalier.vitals.untouched import same_randomness

Item = TypeVar("Item")


class Vitals:
    """Writes the vital signs of a training loop into ``FOLDER/diagnostics``.

    Three lines in a loop: make it, call ``step`` between ``loss.backward()`` and
    ``optimizer.step()`` (before clipping and unscaling), call ``epoch`` after each validation::

        vitals = Vitals(model, optimizer, "runs/own/first", classes=names)
        ...
        loss.backward()
        vitals.step(loss, labels)
        optimizer.step()
        ...
        vitals.epoch(val=(labels, logits))

    What training computes stays the same, to the bit. Everything but the first three arguments may
    be left out; the rules that need it then say that they cannot judge. A disk that takes no more
    ends the record with a warning, not the training.

    Args:
        model: The network, wrapped (DDP, torch.compile) or not.
        optimizer: The one that steps it.
        folder: Of this run. A folder that holds the signs of another run stays as it is, and
            ``-2``, ``-3`` ... is written instead; ``vitals.folder`` says which.
        classes: Names in index order.
        loss: The criterion (a torch module or function), or its name.
        epochs: Planned.
        scheduler: Of torch, before its first step; needs ``scheduler_interval``.
        scheduler_interval: ``step`` or ``epoch``: after what the loop steps the scheduler.
        planned_rates: Instead: the rate of each optimizer step from 0, a list or a function.
        meant_to_train: Names of parts or modules that are meant to learn, or ``all``.
        train_loader: A loader, a data set of ``(image, label)``, or ``(images, labels)``.
        val_loader: The same of validation.
        probe: Training images as validation sees them, in one of these forms. Without it the
            images of ``train_loader`` are used where its transform draws nothing.
        forward: Logits of images, where that is not ``model(images)``.
        scaler: The ``GradScaler``, where there is one.
        clip_norm: Largest gradient norm; 0: no clipping.
        facts: Anything else that is known: fields of ``espalier.run_record.RunFacts``.
        stage: Name of the stage that begins.
        step_every: Steps between two that are measured; the first 20 all are.

    Raises:
        RunError: The folder cannot be made, or a name or a fact is unknown.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        folder: Path | str,
        *,
        classes: Sequence[str] | None = None,
        loss: Any = None,
        epochs: int | None = None,
        scheduler: Any = None,
        scheduler_interval: Interval | None = None,
        planned_rates: Any = None,
        meant_to_train: Sequence[str] | str | None = None,
        train_loader: Any = None,
        val_loader: Any = None,
        probe: Any = None,
        forward: Forward | None = None,
        scaler: Any = None,
        clip_norm: float | None = None,
        facts: Mapping[str, Any] | None = None,
        stage: str = "train",
        step_every: int = 10,
    ) -> None:
        given = checked_facts(facts)
        if clip_norm is not None:
            given.setdefault("clip_norm", float(clip_norm))
        given.setdefault("loss_scaled", scaler is not None)
        self._model = unwrapped(model)
        self._forward: Forward = forward or model
        self._parts = network_parts(self._model)
        self._gauge = StepGauge(self._parts, max(1, step_every))
        self._scaler = scaler
        self._hooks: list[Any] = []
        self._optimizer = inner_optimizer(optimizer)
        meant = meant_parts(meant_to_train, self._parts, self._model)
        train, val = split_of(train_loader), split_of(val_loader)
        with same_randomness(device_of(self._model)):
            data = data_facts(train, val)
            if probe is None and data.train is not None and data.train.redraw_change == 0:
                probe = train_loader
            chosen = split_of(probe)
            batch = fixed_batch(chosen, PROBE_IMAGES) if chosen is not None else None
        self._probe = None if batch is None else FixedProbe(*batch, self._forward)
        known = known_facts(
            self._model,
            self._optimizer,
            classes=classes,
            loss=loss,
            epochs=epochs,
            train=train,
            val=val,
            given=given,
        )
        about = About("own loop", facts=RunFacts(**known), data=data)
        self._record = OwnRecord(Path(folder), about)
        self._step = self._epoch = 0
        self._sums = EpochSums()
        self._norm_count = NormCount(self._model)
        self._open: OpenStep | None = None
        self._modes: dict[nn.Module, bool] = {}
        self._plan = Plan(scheduler, scheduler_interval, planned_rates)
        changes = data.train is not None and bool(data.train.redraw_change)
        self._preflight(train if changes else None)
        self._begin(stage, epochs, meant)

    @property
    def folder(self) -> Path:
        """Where this run is written."""
        return self._record.folder

    # --- the three lines

    def step(self, loss: Tensor | float, labels: Tensor | None = None, ids: Any = None) -> None:
        """Take the signs of one optimizer step; call it right after ``loss.backward()``.

        Args:
            loss: Of the step, a scalar; its value is read from the device only now and then.
            labels: Of the batch: class indices [B], or shares of classes [B, K].
            ids: What tells the images of the batch apart, such as their positions [B]; says how
                much of the data an epoch has seen.

        Raises:
            RunError: It stands at another place of the loop.
        """
        self._settle()
        # Before a scheduler moves them on.
        self._fastest = rates(self._optimizer, self._parts)
        value = loss.detach() if isinstance(loss, Tensor) else torch.tensor(float(loss))
        self._sums.add(value, labels, ids)
        self._norm_count.stepped()
        if self._gauge.due(self._step):
            self._modes = {module: module.training for module in self._model.modules()}
            self._gauge.before_step(self._step)
            self._open = OpenStep.begin(
                value, labels, self._scaler, self._optimizer, rate=self._fastest[0]
            )
        self._step += 1

    def epoch(
        self,
        train: Any = None,
        val: Any = None,
        *,
        seconds: float | None = None,
        best: bool = False,
        ema_accuracy: float = math.nan,
    ) -> None:
        """Take the signs of one epoch; call it after validation.

        Args:
            train: ``{"loss": ..., "accuracy": ...}`` or ``(labels, logits)`` as trained; without it
                the mean of the losses of the steps.
            val: The same of validation: ``(labels, logits)`` says most, also ``macro_f1`` may be
                given.
            seconds: Of the epoch; None: the time since the one before.
            best: Whether its weights are the best so far.
            ema_accuracy: Validation accuracy of averaged weights.

        Raises:
            RunError: What is given is none of these.
        """
        self._settle()
        normed = self._norm_count.since_step()
        facts = self._record.about.facts
        number = facts.head_classes if facts.classes is None else len(facts.classes)
        trained, judged = judged_from(train, None, "train"), judged_from(val, number or None, "val")
        self._epoch += 1
        place = {"epoch": self._epoch, "step": self._step, "stage": self._stage.name}
        row = train_line(
            self._sums,
            trained,
            self._measure_probe(self._epoch),
            start_norms=self._norms,
            norms=norm_statistics(self._model, self._parts),
            learning=[p for members in self._parts.values() for p in members],
            images=self._record.about.data.train_images,
            seconds=seconds,
        )
        head, backbone = self._fastest
        both = {"learning_rate": head, "backbone_learning_rate": backbone}
        line = val_line(judged, best=best, ema_accuracy=ema_accuracy, normed=normed)
        self._record.epoch({**place, **both, **row}, {**place, "learning_rate": head, **line})
        if judged.confusion is not None:
            self._record.confusion(self._epoch, judged.confusion.tolist())
        self._learn(judged)
        self._sums = EpochSums()
        if self._epoch == self._record.about.facts.epochs:
            self._end("finished")

    def stage(
        self,
        name: str,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        epochs: int | None = None,
        meant_to_train: Sequence[str] | str | None = None,
    ) -> None:
        """A new stage begins: other layers learn, or another optimizer steps.

        Args:
            name: Of the stage.
            optimizer: None: as before.
            epochs: Of the stage, as planned.
            meant_to_train: As for ``Vitals``; None: nobody says.
        """
        self._settle()
        if optimizer is not None:
            self._optimizer = inner_optimizer(optimizer)
        self._parts = network_parts(self._model)
        self._gauge = StepGauge(self._parts, self._gauge.every)
        meant = meant_parts(meant_to_train, self._parts, self._model)
        self._begin(name, epochs, meant)

    def batches(self, loader: Iterable[Item]) -> Iterator[Item]:
        """The batches of a loader, with the time that training waits for them on record."""
        iterator = iter(loader)
        while True:
            started = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._sums.wait(time.perf_counter() - started)
            yield batch

    def close(
        self, ended: Literal["finished", "stopped", "died"] = "finished", why: str = ""
    ) -> None:
        """Note how the run ended, and let go of the optimizer."""
        self._settle()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._end(ended, why)

    def _end(self, ended: Ended, why: str = "") -> None:
        self._record.change(ended=ended, why_ended=why)

    def __enter__(self) -> Vitals:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        elif issubclass(kind, KeyboardInterrupt):
            self.close("stopped", "KeyboardInterrupt")
        else:
            self.close("died", f"{kind.__name__}: {error}")

    # --- steps

    def _listen(self) -> None:
        """Be told by the optimizer when it steps."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = [
            self._optimizer.register_step_pre_hook(self._before_optimizer),
            self._optimizer.register_step_post_hook(self._after_optimizer),
        ]

    def _before_optimizer(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if self._open is not None:
            self._open.stepping(optimizer)

    def _after_optimizer(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        # Behind the step and not before it: where it is given a closure, that holds the backward.
        if self._step == 0:
            raise misplaced("optimizer.step() ran before the first vitals.step(loss)")
        if self._open is not None:
            self._open.stepped(optimizer)
            self._finish(self._open, stepped=True)

    def _settle(self) -> None:
        """Finish a step whose optimizer never stepped: left out by a scaler, or another stepped."""
        if self._open is not None:
            self._finish(self._open, stepped=False)

    def _finish(self, step: OpenStep, *, stepped: bool) -> None:
        self._open = None
        figures, update, angle = self._gauge.after_step()
        row = step.row(figures, update, angle, stepped=stepped)
        place = {"step": self._step, "epoch": self._epoch + 1, "stage": self._stage.name}
        self._record.step({**place, **row})
        self._sums.measured(row["grad_norm"], update)

    # --- the run as a whole

    def _begin(self, name: str, epochs: int | None, meant: Sequence[str] | None) -> None:
        self._fastest = rates(self._optimizer, self._parts)
        self._listen()
        self._norms = norm_statistics(self._model, self._parts)
        facts = self._record.about.facts
        if not facts.stages:
            facts = with_plan(facts, self._plan, self._gauge.every)
        planned = planned_stage(name, epochs, self._fastest, meant)
        if self._plan.name is not None and not facts.stages:
            planned = with_peak(replace(planned, schedule=self._plan.name), facts.planned_rates)
        self._stage = stage_facts(planned, self._model, self._parts, self._optimizer)
        stages = (*facts.stages, self._stage)
        self._record.change(facts=replace(facts, stages=stages))

    def _preflight(self, drawn: Split | None) -> None:
        """What the untrained network makes of the probe, and what a linear head would."""
        found = self._measure_probe(0)
        if found is None or self._probe is None:
            return
        tried = preflight(self._model, self._probe, found, drawn)
        self._record.change(preflight=tried, start={"dead": dict(found.dead)})

    def _measure_probe(self, seed: int) -> ProbeFigures | None:
        if self._probe is None:
            return None
        try:
            return self._probe.measure(self._model, self._parts, self._modes, seed)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            # Images or labels that this network does not take: a probe is not worth a training.
            warnings.warn(f"the probe cannot be measured and is left out: {error}", stacklevel=3)
            self._probe = None
            return None

    def _learn(self, judged: Judged) -> None:
        """What the first epoch tells: images per class, kind of outputs, modes of training."""
        if self._epoch > 1:
            return
        confusion = judged.confusion
        facts = self._record.about.facts
        if facts.train_counts is None and (facts.sampler or "none") == "none":
            facts = replace(facts, train_counts=self._sums.label_counts(len(facts.classes or ())))
        if facts.val_counts is None and confusion is not None:
            facts = replace(facts, val_counts=tuple(confusion.sum(axis=1).tolist()))
        if facts.steps_per_epoch is None and self._sums.steps:
            facts = replace(facts, steps_per_epoch=self._sums.steps)
        stages = facts.stages
        if self._modes and stages:
            last = stage_facts(stages[-1], self._model, self._parts, self._optimizer, self._modes)
            stages = (*stages[:-1], last)
        tried = replace(self._record.about.preflight, given_sum_to_one=judged.sums_to_one)
        self._record.change(facts=replace(facts, stages=stages), preflight=tried)

"""Where a run stands: all that a checkpoint must hold beside weights and optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from espalier.recipe.schema import EarlyStopping as StoppingSection
from espalier.recipe.schema import Stage
from espalier.records import EpochRow
from espalier.runs import epoch_row
from espalier.train.stopping import EarlyStopping
from espalier.train.weight_use import WeightUse
from espalier.vitals.parts import NormStatistics


@dataclass
class Totals:
    """Sums over the windows of an epoch so far; tensors stay on the device until the end."""

    loss: Tensor | float = 0.0
    correct: Tensor | float = 0.0
    images: int = 0
    batches: int = 0
    grad_norms: list[Tensor] = field(default_factory=list)
    update_norms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    # Of these seconds, those in which training waited for data.
    wait: float = 0.0
    # Step, loss and gradient norm of the steps that nobody has looked at; none when it is saved.
    unchecked: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)

    def to_plain(self) -> dict[str, Any]:
        """Plain numbers, exact: float32 survives the way through float."""
        return {
            "loss": float(self.loss),
            "correct": float(self.correct),
            "images": self.images,
            "batches": self.batches,
            "grad_norms": [float(norm) for norm in self.grad_norms],
            "update_norms": list(self.update_norms),
            "seconds": self.seconds,
            "wait": self.wait,
        }

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> Totals:
        """The inverse of ``to_plain``."""
        norms = [torch.tensor(norm) for norm in values["grad_norms"]]
        return cls(**{**values, "grad_norms": norms})


@dataclass
class State:
    """Position and memory of a run; randomness needs no state, because position decides it.

    Attributes:
        stage_index: The stage that trains, from 0.
        stage_epoch: Finished epochs of this stage.
        stage_step: Finished optimizer steps of this stage.
        epoch: Finished epochs of the run.
        step: Finished optimizer steps of the run: the one clock.
        batch: Finished micro-batches of the epoch under way.
        rows: One per finished epoch.
        best_score: Best monitored validation score so far; None before the first epoch.
        scores: Monitored scores of this stage, for the plateau schedule.
        stopper: Early stopping of this stage.
        stopped: Whether it has ended this stage.
        totals: Sums of the epoch under way.
        ended: Why the run is over; empty while it is not.
        views: Kept views of each image in this stage, 0 where frozen layers run live; None before
            that is decided. On record, because a resumed run must see the same views.
        norms: Statistics of BatchNorm when the stage began; they lie beside the logs.
        weight_use: Compares the loss with the class weights in the first epoch; None in others.
    """

    stopper: EarlyStopping
    stage_index: int = 0
    stage_epoch: int = 0
    stage_step: int = 0
    epoch: int = 0
    step: int = 0
    batch: int = 0
    rows: list[EpochRow] = field(default_factory=list)
    best_score: float | None = None
    scores: list[float] = field(default_factory=list)
    stopped: bool = False
    totals: Totals = field(default_factory=Totals)
    ended: str = ""
    views: int | None = None
    norms: Mapping[str, NormStatistics] = field(default_factory=dict)
    weight_use: WeightUse | None = None

    def stage_done(self, stage: Stage) -> bool:
        """Whether this stage has had its epochs, or stopped early."""
        return self.stopped or self.stage_epoch >= stage.epochs

    def begin_stage(self, index: int, stopper: EarlyStopping) -> None:
        """Move to the start of a stage."""
        self.stage_index, self.stage_epoch, self.stage_step = index, 0, 0
        self.scores, self.stopped, self.stopper = [], False, stopper
        self.views = None

    def begin_epoch(self) -> None:
        """Forget the sums of the epoch before."""
        self.batch, self.totals = 0, Totals()

    def to_plain(self) -> dict[str, Any]:
        """Numbers, strings and lists only, as a checkpoint may hold them."""
        return {
            "stage_index": self.stage_index,
            "stage_epoch": self.stage_epoch,
            "stage_step": self.stage_step,
            "epoch": self.epoch,
            "step": self.step,
            "batch": self.batch,
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "best_score": self.best_score,
            "scores": list(self.scores),
            "stopped": self.stopped,
            "stopper": self.stopper.state_dict(),
            "totals": self.totals.to_plain(),
            "ended": self.ended,
            "views": self.views,
        }

    @classmethod
    def from_plain(cls, values: dict[str, Any], stopper: EarlyStopping) -> State:
        """The inverse of ``to_plain``; ``stopper`` is that of the stage in the checkpoint."""
        stopper.load_state_dict(values["stopper"])
        own = {
            "rows": [epoch_row(row) for row in values["rows"]],
            "stopper": stopper,
            "totals": Totals.from_plain(values["totals"]),
        }
        return cls(**{**values, **own})


def stopper_for(stage: Stage, section: StoppingSection) -> EarlyStopping:
    """The early stopping of a stage as the recipe wants it."""
    return EarlyStopping(
        patience=stage.patience if stage.patience is not None else section.patience,
        min_delta=section.min_delta,
        monitor=section.monitor,
    )

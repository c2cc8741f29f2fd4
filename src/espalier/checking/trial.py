"""What is checked: the job exactly as training would have it, and a few of its images.

Every stage is opened by training's own ``open_session`` on a copy of the model, so that no check
sees what another one did to the weights.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from espalier.checking.steps import Steps, take_steps
from espalier.data.loader import Loader
from espalier.data.transforms import Transform
from espalier.models.build import KeyReport
from espalier.pipeline import make_job
from espalier.preparation import Prepared, start_model
from espalier.recipe.schema import Recipe, Stage
from espalier.runs import RunDir, find_run
from espalier.train.job import Job
from espalier.train.session import Session, batch_order, open_session
from espalier.train.state import State, stopper_for
from espalier.train.watch import Unwatched

IMAGES = 16


@dataclass(frozen=True)
class Trial:
    """A job that will never train, and what is asked about it.

    Attributes:
        job: As ``make_job`` puts it together; heads that would be solved for are stepped.
        weights: What became of every tensor of a weights file.
        val_transform: Instead of the one that training gives validation.
        earlier: A run whose label order must hold.
        picture: Where a picture of the first batch goes; None: nowhere.
    """

    job: Job
    weights: KeyReport | None = None
    val_transform: Transform | None = None
    earlier: RunDir | None = None
    picture: Path | None = None
    _steps: dict[int, Steps] = field(default_factory=dict, repr=False)

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return self.job.recipe

    @property
    def counts(self) -> dict[str, int]:
        """Training images per class, in class order."""
        return self.job.catalog.counts("train")

    @cached_property
    def session(self) -> Session:
        """The first stage, ready to train."""
        return self.open(0)[1]

    @cached_property
    def train(self) -> Loader:
        """A few training images, as training loads them: the first of the first epoch."""
        order = batch_order(self.job, self.session, 0).tolist()
        return few(cast(Loader, self.session.train(0)), list(dict.fromkeys(order))[:IMAGES])

    @cached_property
    def val(self) -> Loader:
        """A few validation images, evenly chosen, as validation loads them."""
        loader = cast(Loader, self.session.val)
        count = len(loader.samples)
        chosen = {int(place) for place in np.linspace(0, count - 1, min(IMAGES, count))}
        return few(loader, sorted(chosen), self.val_transform)

    def open(self, index: int, stage: Stage | None = None) -> tuple[Job, Session, State]:
        """A stage on a copy of the model, ready to train.

        Args:
            index: Of the stage.
            stage: What to open in its place.
        """
        stages = list(self.recipe.stages)
        stages[index] = stage or stages[index]
        job = dataclasses.replace(
            self.job,
            model=copy.deepcopy(self.job.model),
            recipe=self.recipe.model_copy(update={"stages": tuple(stages)}),
        )
        # 0 views: frozen layers run live, because the features of all images would take minutes.
        stopper = stopper_for(stages[index], self.recipe.early_stopping)
        state = State(stopper, stage_index=index, views=0)
        return job, open_session(job, state), state

    def steps(self, index: int) -> Steps:
        """Two optimizer steps of a stage, with all that moved; taken once."""
        if index not in self._steps:
            self._steps[index] = take_steps(*self.open(index), images=IMAGES)
        return self._steps[index]


def open_trial(
    prepared: Prepared,
    folder: Path,
    *,
    val_transform: Transform | None = None,
    earlier: RunDir | None = None,
    picture: Path | None = None,
) -> Trial:
    """The job of a recipe, put together by the parts that training uses.

    Args:
        prepared: Data and recipe, decided.
        folder: Stands for the run folder; nothing is written there.
        val_transform: As in ``Trial``.
        earlier: As in ``Trial``; None: the run whose split is used again, if any.
        picture: As in ``Trial``.
    """
    model, report = start_model(prepared)
    split_from = prepared.recipe.data.split_from
    earlier = earlier or (find_run(split_from) if split_from else None)
    prepared = dataclasses.replace(prepared, recipe=stepped(prepared.recipe))
    job = make_job(prepared, RunDir(folder / "run"), model, Unwatched())
    return Trial(job, report, val_transform, earlier, picture)


def stepped(recipe: Recipe) -> Recipe:
    """The recipe with heads stepped instead of solved for, and without pictures and logs."""
    logging = recipe.logging.model_copy(update={"curves": False, "tensorboard": False})
    stages = tuple(stage.model_copy(update={"solve": False}) for stage in recipe.stages)
    return recipe.model_copy(update={"stages": stages, "logging": logging})


def few(loader: Loader, positions: Iterable[int], transform: Transform | None = None) -> Loader:
    """The same loader for some of its samples, and with another transform where one is given."""
    found = copy.copy(loader)
    if transform is not None:
        found.transform, found.augment = transform, None
    chosen = list(positions)
    found.samples = tuple(loader.samples[place] for place in chosen)
    found.labels = loader.labels[chosen]
    return found


def pixels(loader: Loader, epoch: int = 0) -> npt.NDArray[np.uint8]:
    """All images of a loader [N, H, W, 3] as one epoch draws them."""
    order = np.arange(len(loader.samples), dtype=np.int64)
    batches = [batch.images for batch in loader.epoch(order, epoch)]
    found: npt.NDArray[np.uint8] = torch.cat(batches).permute(0, 2, 3, 1).cpu().numpy()
    return found

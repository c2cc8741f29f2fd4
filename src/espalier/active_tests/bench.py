"""What is tried: a run's model, fresh and trained, and its photographs, as far as they are here."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from espalier.checking.trial import Trial, open_trial
from espalier.data.catalog import read_catalog
from espalier.data.loader import Batch, Loader
from espalier.data.store_choice import side_for
from espalier.data.torchvision_sets import is_address
from espalier.data.transforms import transform_for
from espalier.errors import EspalierError, ModelError
from espalier.evaluate.predictor import checkpoint_of, choose_device
from espalier.models.build import Classifier
from espalier.models.checkpoints import load_checkpoint, rebuild_model
from espalier.models.grouped import keep_grouped_in_fp32
from espalier.models.inference import Normalizer, memory_format, predict_logits
from espalier.preparation import Prepared
from espalier.recipe.schema import Recipe
from espalier.records import Catalog, Sample, Split
from espalier.rules import CannotJudge
from espalier.runs import RunDir
from espalier.train.devices import detect_machine, usable_cores
from espalier.train.loaders import build_normalizer

BATCH = 32
FEWEST = 16
VAL_IMAGES = 512
# Pixels of all images that are held at once: 512 at 224 px are 77 MB.
HELD_BYTES = 200e6
T = TypeVar("T")


@dataclass(frozen=True)
class Clock:
    """How long a test may take; what it has by then counts, or is not enough.

    Attributes:
        seconds: Of wall time.
    """

    seconds: float
    started: float = field(default_factory=time.perf_counter)

    @property
    def passed(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self.started

    @property
    def over(self) -> bool:
        """Whether time is up."""
        return self.passed > self.seconds


@dataclass(frozen=True)
class Trained:
    """The newest weights of a run.

    Attributes:
        file: Name of the checkpoint.
        epoch: Finished epochs behind them.
    """

    model: Classifier
    file: str
    epoch: int


@dataclass(frozen=True)
class Judged:
    """What a model said of some images.

    Attributes:
        logits: [N, K].
        labels: Class indices [N].
    """

    logits: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """Share that is right."""
        return float((self.logits.argmax(axis=1) == self.labels).mean())


class Bench:
    """A run with everything that a test may need of it, each thing opened when first asked for.

    Args:
        run: Nothing in it is changed.
        folder: An empty one that stands for the run folder of trials.
    """

    def __init__(self, run: RunDir, folder: Path) -> None:
        self.run = run
        self.folder = folder
        self.catalog: Catalog = read_catalog(run.require(run.catalog_file))
        self.recipe = settled_here(run.recipe())
        self.device = torch.device(self.recipe.training.device)
        self.normalizer: Normalizer = build_normalizer(self.recipe).to(self.device)
        self._judged: Judged | None = None

    @property
    def trial(self) -> Trial:
        """The job of the run before its first step, with the training photographs that are here.

        Raises:
            CannotJudge: Photographs or starting weights are gone.
        """
        return given(self._trial)

    @cached_property
    def _trial(self) -> Trial | CannotJudge:
        try:
            here = self.here("train")
            prepared = Prepared(self.recipe, self.catalog, detect_machine())
            trial = open_trial(prepared, self.folder)
        except CannotJudge as reason:
            return reason
        except EspalierError as error:
            return CannotJudge(f"the start of the run cannot be built again: {error.message}")
        others = tuple(s for s in self.catalog.samples if s.split != "train")
        catalog = dataclasses.replace(self.catalog, samples=(*here, *others))
        trial = dataclasses.replace(trial, job=dataclasses.replace(trial.job, catalog=catalog))
        trial.job.model.to(self.device, memory_format=self._layout)  # type: ignore[call-overload]
        return trial

    @property
    def trained(self) -> Trained:
        """The model with its newest weights: those that the last epoch on record validated.

        Raises:
            CannotJudge: There is no checkpoint, or it cannot be read.
        """
        return given(self._trained)

    @cached_property
    def _trained(self) -> Trained | CannotJudge:
        try:
            path = self.run.last if self.run.last.exists() else checkpoint_of(self.run)
            checkpoint = load_checkpoint(path)
            model = rebuild_model(checkpoint)
        except EspalierError as error:
            return CannotJudge(f"needs the trained weights: {error.message}")
        keep_grouped_in_fp32(model, self.recipe.training.grouped_fp32 is True)
        model.to(self.device, memory_format=self._layout)  # type: ignore[call-overload]
        return Trained(model.eval(), path.name, int(checkpoint["epoch"]))

    @property
    def _layout(self) -> torch.memory_format:
        return memory_format(cast(bool, self.recipe.training.channels_last))

    def here(self, split: Split) -> tuple[Sample, ...]:
        """The photographs of a split that still lie where they were.

        Raises:
            CannotJudge: They are gone, all or nearly all.
        """
        samples = self.catalog.in_split(split)
        words = {"train": "training", "val": "validation"}.get(split, split)
        if not samples:
            raise CannotJudge(f"the run has no {words} photographs")
        found = tuple(s for s in samples if is_address(s.path) or Path(s.path).is_file())
        if len(found) < min(FEWEST, len(samples)):
            gone = next(sample for sample in samples if sample not in found)
            raise CannotJudge(
                f"{len(samples) - len(found)} of {len(samples)} {words} photographs are not where "
                f"they were: {gone.path}"
            )
        return found

    def some(self, split: Split, count: int) -> tuple[Sample, ...]:
        """So many photographs of a split at most, in a fixed order that mixes the classes."""
        samples = self.here(split)
        order = np.random.default_rng(0).permutation(len(samples))[:count]
        return tuple(samples[place] for place in order)

    def batches(self, samples: Sequence[Sample], imgsz: int, epoch: int = 0) -> Iterator[Batch]:
        """Photographs as validation sees them, in this order."""
        loader = Loader(
            samples,
            {name: index for index, name in enumerate(self.catalog.classes)},
            transform_for("val", self.recipe, imgsz),
            batch=BATCH,
            workers=cast(int, self.recipe.data.workers),
            seed=self.recipe.training.seed,
            side=side_for(self.recipe),
        )
        return loader.epoch(np.arange(len(samples), dtype=np.int64), epoch)

    def judge(self, model: nn.Module, batches: Iterable[Batch], clock: Clock) -> Judged:
        """Outputs in evaluation mode, until time is up; at least of one batch.

        Raises:
            CannotJudge: They are not finite.
        """
        rows: list[npt.NDArray[np.float32]] = []
        labels: list[npt.NDArray[np.int64]] = []
        for batch in batches:
            rows.append(self.outputs(model, batch))
            labels.append(batch.labels.cpu().numpy())
            if clock.over:
                break
        found = Judged(np.concatenate(rows), np.concatenate(labels))
        if not np.isfinite(found.logits).all():
            raise CannotJudge("the weights give outputs that are not finite")
        return found

    def outputs(self, model: nn.Module, batch: Batch) -> npt.NDArray[np.float32]:
        """What a module gives for one batch [B, K], in evaluation mode."""
        count = len(batch.labels)
        return predict_logits(
            model,
            [batch._replace(positions=torch.arange(count))],
            count,
            normalizer=self.normalizer,
            device=self.device,
            precision=self.recipe.training.precision,
            channels_last=cast(bool, self.recipe.training.channels_last),
        )

    @property
    def val_samples(self) -> tuple[Sample, ...]:
        """The validation photographs that tests look at."""
        size = self.trained.model.imgsz
        return self.some("val", min(VAL_IMAGES, max(BATCH, int(HELD_BYTES / (3 * size**2)))))

    def validation(self, clock: Clock) -> Judged:
        """What the newest weights say of validation photographs; computed once."""
        if self._judged is None:
            model = self.trained.model
            batches = self.batches(self.val_samples, model.imgsz)
            self._judged = self.judge(model, batches, clock)
        return self._judged


def given(found: T | CannotJudge) -> T:
    """What was opened.

    Raises:
        CannotJudge: It could not be opened.
    """
    if isinstance(found, CannotJudge):
        raise found
    return found


def settled_here(recipe: Recipe) -> Recipe:
    """The recipe of a run, on this machine: its device if it is here, no more threads than cores.

    Photographs are read from their files, because a few of them fill no store.
    """
    cores, training = usable_cores(), recipe.training
    changes: dict[str, object] = {"threads": min(cast(int, training.threads), cores)}
    try:
        changes["device"] = str(choose_device(training.device))
    except ModelError:
        changes |= {"device": "cpu", "precision": "fp32"}
    workers = min(cast(int, recipe.data.workers), cores)
    return recipe.model_copy(
        update={
            "training": training.model_copy(update=changes),
            "data": recipe.data.model_copy(update={"workers": workers, "split_from": None}),
        }
    )

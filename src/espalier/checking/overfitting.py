"""Can what trains learn one batch by heart? If not, it will learn nothing from many."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from espalier.checking.report import Verdict
from espalier.checking.trial import IMAGES, Trial
from espalier.models.build import model_facts
from espalier.models.inference import laid_out, memory_format
from espalier.recipe.resolve import nearest_sizes
from espalier.recipe.schema import Optimizer, Stage
from espalier.rules import CannotJudge
from espalier.train.job import Job
from espalier.train.loaders import build_loader
from espalier.train.optimizers import build_optimizer
from espalier.train.session import Session, enter_training_mode

STEPS = 40
SECONDS = 20.0
IMGSZ = 128
# Rates that learn a batch in every backbone, pretrained or not; those of a recipe are for epochs.
HEAD_RATE, BACKBONE_RATE = 5e-3, 1e-3
LEARNED_ACCURACY, LEARNED_SHARE = 0.95, 0.5


@dataclass(frozen=True)
class Curve:
    """Cross-entropy and accuracy on the batch, one figure per step."""

    losses: list[float]
    accuracies: list[float]

    @property
    def hopeless(self) -> bool:
        """Whether the loss is no number any more."""
        return not math.isfinite(self.losses[-1])

    @property
    def learned(self) -> bool:
        """Whether nearly all images are right and the loss has at least halved."""
        return (
            self.accuracies[-1] >= LEARNED_ACCURACY
            and self.losses[-1] <= LEARNED_SHARE * self.losses[0]
        )


def overfits(trial: Trial) -> Verdict:
    """A batch of 16 unaugmented images is learned by heart by what the last stage trains."""
    index = len(trial.recipe.stages) - 1
    stage = small(trial.recipe.stages[index], trial)
    job, session, _ = trial.open(index, stage)
    chosen = mixed_positions(trial)
    if len({trial.session.labels[place] for place in chosen}) < 2:
        raise CannotJudge("the training images are of one class: there is nothing to tell apart")
    images, labels = batch_of(job, session, stage, chosen)
    curve = learn(job, session, images, labels)
    evidence = (
        f"{len(labels)} images at {stage.imgsz} px, stage {stage.name}: loss {curve.losses[0]:.2f} "
        f"-> {curve.losses[-1]:.2f}, {curve.accuracies[-1]:.0%} right after "
        f"{len(curve.losses) - 1} steps"
    )
    if curve.learned:
        return Verdict(True, evidence)
    if len(curve.losses) <= STEPS and not curve.hopeless:
        raise CannotJudge(f"{SECONDS:g} s were not enough: {evidence}")
    return Verdict(
        False,
        evidence,
        "look at the labels of the batch, at the loss, and at what the stage trains",
    )


def small(stage: Stage, trial: Trial) -> Stage:
    """The stage at no more than 128 px, where its model takes that."""
    facts, size = model_facts(trial.recipe.model.name), cast(int, stage.imgsz)
    if not facts.fixed_size:
        size = min(size, nearest_sizes(IMGSZ, facts)[-1])
    return stage.model_copy(update={"imgsz": size, "imgsz_from": None})


def mixed_positions(trial: Trial) -> list[int]:
    """Positions of 16 training images, the classes in turn; of exact copies only the first."""
    by_class: dict[int, list[int]] = {}
    seen: set[str] = set()
    for place, sample in enumerate(trial.job.train):
        if sample.content not in seen:
            seen.add(sample.content)
            by_class.setdefault(int(trial.session.labels[place]), []).append(place)
    rounds = zip_longest(*(by_class[label] for label in sorted(by_class)))
    turns = [place for places in rounds for place in places if place is not None]
    return turns[:IMAGES]


def batch_of(job: Job, session: Session, stage: Stage, chosen: list[int]) -> tuple[Tensor, Tensor]:
    """Normalised images [N, 3, H, W] in their fixed view, and labels [N], on the device."""
    size = cast(int, stage.imgsz)
    samples = [job.train[place] for place in chosen]
    loader = build_loader(job, samples, "val", size, len(samples))
    batch = next(iter(loader.in_order()))
    device = job.fabric.device
    layout = memory_format(cast(bool, job.recipe.training.channels_last))
    images = laid_out(session.normalizer(batch.images.to(device)), layout)
    return images, batch.labels.to(device)


def learn(job: Job, session: Session, images: Tensor, labels: Tensor) -> Curve:
    """Step on one batch until it is learned, or steps or time are up."""
    own = build_optimizer(list(groups_of(session)), Optimizer(weight_decay=0.0))
    curve = Curve([], [])
    torch.manual_seed(job.recipe.training.seed)
    enter_training_mode(job, session)
    started = time.perf_counter()
    for _ in range(STEPS + 1):
        logits = session.model(images)
        plain = logits.detach().float()
        curve.losses.append(float(F.cross_entropy(plain, labels)))
        curve.accuracies.append(float((plain.argmax(dim=1) == labels).float().mean()))
        if curve.learned or curve.hopeless or time.perf_counter() - started > SECONDS:
            break
        own.zero_grad(set_to_none=True)
        job.fabric.backward(session.loss(logits, labels).mean())
        own.step()
    return curve


def groups_of(session: Session) -> Iterator[dict[str, Any]]:
    """What the stage trains, at rates at which a batch is learned in a few dozen steps."""
    seen: set[int] = set()
    for group in session.optimizer.param_groups:
        # An optimizer that holds a parameter twice is the matter of another check.
        own = [parameter for parameter in group["params"] if id(parameter) not in seen]
        seen.update(map(id, own))
        rate = HEAD_RATE if str(group["name"]).startswith("head") else BACKBONE_RATE
        yield {"name": group["name"], "params": own, "lr": rate, "weight_decay": 0.0}

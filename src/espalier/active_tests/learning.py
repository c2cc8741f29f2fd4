"""Tests of what can be learned: the first loss, one batch, rising rates, a linear head."""

from __future__ import annotations

import contextlib
import json
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from espalier.active_tests.bench import Bench, Clock
from espalier.active_tests.validating import Outcome
from espalier.checking.overfitting import Curve, batch_of, groups_of, mixed_positions
from espalier.checking.trial import Trial
from espalier.evaluate.probe import linear_probe
from espalier.models.build import model_facts
from espalier.recipe.resolve import nearest_sizes
from espalier.recipe.schema import Optimizer, Stage
from espalier.rules import CannotJudge
from espalier.train.job import Job
from espalier.train.loop import clip, unscale
from espalier.train.optimizers import build_optimizer
from espalier.train.session import Session, enter_training_mode
from espalier.vitals.probing import image_losses

STEPS = 60
# A few images are told apart at any size; 60 steps of MobileNetV2 take 14 s of a core at 96 px.
IMGSZ = 96
FIRST_IMAGES = 64
PROBE_IMAGES = 512
FEWEST_CLASSES = 2
RATES = 40
LOWEST_RATE, HIGHEST_RATE = 1e-6, 10.0
SMOOTHED = 5
DIVERGED, LOWERED = 2.0, 0.9


def first_loss(bench: Bench, clock: Clock) -> Outcome:
    """Plain cross-entropy of the untrained model on training photographs."""
    model, classes = bench.trial.job.model, len(bench.catalog.classes)
    size = cast(int, bench.recipe.stages[0].imgsz)
    batches = bench.batches(bench.some("train", FIRST_IMAGES), size)
    judged = bench.judge(model, batches, clock)
    loss = float(image_losses(judged.logits, judged.labels).mean())
    text = f"{loss:.3f} on {len(judged.labels)} images; ln {classes} = {math.log(classes):.3f}"
    return Outcome({"initial_loss": loss}, text)


def one_batch(bench: Bench, clock: Clock) -> Outcome:
    """Can what the last stage trains learn 16 photographs by heart?

    With plain cross-entropy and without dropout: it is the network that is asked, not the recipe.
    """
    trial, index = bench.trial, len(bench.recipe.stages) - 1
    stage, job, session, images, labels = opened(trial, index)
    without_dropout(job.model)
    own = build_optimizer(list(groups_of(session)), Optimizer(weight_decay=0.0))
    curve = Curve([], [])
    enter_training_mode(job, session)
    torch.manual_seed(job.recipe.training.seed)
    for _ in range(STEPS + 1):
        logits = session.model(images)
        loss = F.cross_entropy(logits.float(), labels)
        curve.losses.append(float(loss.detach()))
        curve.accuracies.append(float((logits.argmax(dim=1) == labels).float().mean()))
        if curve.learned or curve.hopeless or clock.over:
            break
        own.zero_grad(set_to_none=True)
        job.fabric.backward(loss)
        own.step()
    text = (
        f"{len(labels)} images at {stage.imgsz} px, stage {stage.name}: loss "
        f"{curve.losses[0]:.2f} -> {curve.losses[-1]:.2f}, {curve.accuracies[-1]:.0%} right after "
        f"{len(curve.losses) - 1} steps"
    )
    if len(curve.losses) <= STEPS and not curve.learned and not curve.hopeless:
        raise CannotJudge(f"{clock.seconds:.0f} s were not enough: {text}")
    figures = {"overfit_accuracy": curve.accuracies[-1], "overfit_loss": curve.losses[-1]}
    return Outcome(figures, text)


def opened(trial: Trial, index: int) -> tuple[Stage, Job, Session, Tensor, Tensor]:
    """A stage on a copy of the model, at few pixels, and 16 images of mixed classes for it."""
    stage = small(trial.recipe.stages[index], trial)
    job, session, _ = trial.open(index, stage)
    chosen = mixed_positions(trial)
    if len({trial.session.labels[place] for place in chosen}) < FEWEST_CLASSES:
        raise CannotJudge("the training photographs are of one class: nothing to tell apart")
    return stage, job, session, *batch_of(job, session, stage, chosen)


def small(stage: Stage, trial: Trial) -> Stage:
    """The stage at no more than 96 px, where its model takes that."""
    facts, size = model_facts(trial.recipe.model.name), cast(int, stage.imgsz)
    if not facts.fixed_size:
        size = min(size, nearest_sizes(IMGSZ, facts)[-1])
    return stage.model_copy(update={"imgsz": size, "imgsz_from": None})


def without_dropout(model: nn.Module) -> None:
    """Let nothing be dropped in training mode."""
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        elif isinstance(module, DropPath):
            module.drop_prob = 0.0


@dataclass(frozen=True)
class RateCurve:
    """Losses of a trial in which the rate of the head rises at every step.

    Attributes:
        rates: Of the steps.
        losses: Before each of these steps, in nats.
    """

    rates: Sequence[float]
    losses: Sequence[float]

    @property
    def diverging(self) -> float | None:
        """The rate whose step more than doubled the first loss, for two steps or for good."""
        limit = DIVERGED * self.losses[0]
        for place, (loss, following) in enumerate(pairwise([*self.losses, math.inf])):
            gone = not math.isfinite(loss) or (loss > limit and following > limit)
            if gone and place:
                return self.rates[place - 1]
        return None

    @property
    def steepest(self) -> float | None:
        """The rate at which the smoothed loss falls fastest; None where it never falls by 10 %."""
        limit = self.diverging
        known = [
            loss
            for rate, loss in zip(self.rates, self.losses, strict=True)
            if (limit is None or rate <= limit) and math.isfinite(loss)
        ]
        if len(known) <= SMOOTHED or min(known) > LOWERED * known[0]:
            return None
        smooth = np.convolve(known, np.full(SMOOTHED, 1 / SMOOTHED), "valid")
        # The change from one mean to the next is centred on the step in their middle.
        return self.rates[int(np.argmin(np.diff(smooth))) + SMOOTHED // 2]


def rising_rates(bench: Bench, clock: Clock) -> Outcome:
    """The rates of the fastest stage from far too low to far too high, on one batch."""
    index = fastest_stage(bench)
    stage, job, session, images, labels = opened(bench.trial, index)
    curve = climb(job, session, images, labels, clock)
    steepest, diverging = curve.steepest, curve.diverging
    if len(curve.rates) < RATES and diverging is None:
        raise CannotJudge(
            f"{clock.seconds:.0f} s were not enough to pass a rate of {curve.rates[-1]:.1e}"
        )
    planned = bench.recipe.stages[index].lr
    falls = f"falls fastest at {steepest:.1e}" if steepest else "falls at none of them"
    ends = f"diverges at {diverging:.1e}" if diverging else f"holds up to {HIGHEST_RATE:g}"
    text = f"stage {stage.name}: the loss {falls}, {ends}; planned are {planned:.1e}"
    return Outcome({"best_rate": steepest, "diverging_rate": diverging}, text)


def fastest_stage(bench: Bench) -> int:
    """The stage with the highest planned rate of those that step.

    Raises:
        CannotJudge: Every stage solves for its head.
    """
    stages = bench.recipe.stages
    stepped = [index for index, stage in enumerate(stages) if not stage.solve]
    if not stepped:
        raise CannotJudge("every stage solves for its head: no step has a rate")
    return max(stepped, key=lambda index: stages[index].lr)


def climb(job: Job, session: Session, images: Tensor, labels: Tensor, clock: Clock) -> RateCurve:
    """Step on one batch with the optimizer, the loss and the clipping of the run."""
    groups = session.optimizer.param_groups
    top = max(float(g["peak_lr"]) for g in groups if str(g["name"]).startswith("head"))
    rates: list[float] = []
    losses: list[float] = []
    enter_training_mode(job, session)
    torch.manual_seed(job.recipe.training.seed)
    for rate in np.geomspace(LOWEST_RATE, HIGHEST_RATE, RATES).tolist():
        for group in groups:
            group["lr"] = group["peak_lr"] * rate / top
        loss = session.loss(session.model(images), labels).mean()
        rates.append(rate)
        losses.append(float(loss.detach()))
        curve = RateCurve(rates, losses)
        if clock.over or (curve.diverging is not None and losses[-1] > DIVERGED * losses[0]):
            break
        if not math.isfinite(losses[-1]):
            break
        session.optimizer.zero_grad(set_to_none=True)
        job.fabric.backward(loss)
        unscale(job, session)
        clip(job, session)
        session.optimizer.step()
    return RateCurve(rates, losses)


def linear_head(bench: Bench, clock: Clock) -> Outcome:
    """What a linear head on the frozen pretrained backbone gives: if chance, labels are wrong."""
    if bench.recipe.model.weights == "none":
        raise CannotJudge("the backbone began without trained weights")
    accuracy, labels, source = (
        from_baseline(bench) or from_features(bench) or from_photographs(bench, clock)
    )
    chance = max(labels) / sum(labels)
    text = f"{accuracy:.0%} right; the most frequent class is {chance:.0%} ({source})"
    return Outcome({"probe_accuracy": accuracy, "probe_chance": chance}, text)


Probed = tuple[float, list[int], str]


def from_baseline(bench: Bench) -> Probed | None:
    """Accuracy, images of each class, and where from; None where the run has no baseline."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        plain = json.loads(bench.run.baseline_file.read_text(encoding="utf-8"))
        counts = [int(entry["support"]) for entry in plain["per_class"]]
        if sum(counts):
            return float(plain["accuracy"]), counts, f"{sum(counts)} images, baseline.json"
    return None


def from_features(bench: Bench) -> Probed | None:
    """The same on features that the run kept."""
    with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile):
        with np.load(bench.run.embeddings) as kept:
            features = np.asarray(kept["features"], dtype=np.float32)
            row_of = {str(name): row for row, name in enumerate(kept["sample_ids"])}
        samples = [s for s in bench.catalog.in_split("train") if s.sample_id in row_of]
        rows = [row_of[sample.sample_id] for sample in samples]
        groups = [sample.group or sample.content for sample in samples]
        labels = labels_of(bench, [cast(str, sample.label) for sample in samples])
        return probed(bench, features[rows], labels, groups, "embeddings.npz")
    return None


def from_photographs(bench: Bench, clock: Clock) -> Probed:
    """The same on some training photographs, looked at now."""
    samples = bench.some("train", PROBE_IMAGES)
    model = bench.trial.job.model
    batches = bench.batches(samples, cast(int, bench.recipe.stages[0].imgsz))
    seen = bench.judge(model.backbone, batches, clock)
    groups = [sample.group or sample.content for sample in samples][: len(seen.labels)]
    return probed(bench, seen.logits, seen.labels, groups, "looked at now")


def labels_of(bench: Bench, names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Class indices of class names."""
    index = {name: place for place, name in enumerate(bench.catalog.classes)}
    return np.array([index[name] for name in names], dtype=np.int64)


def probed(
    bench: Bench,
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    groups: Sequence[str],
    source: str,
) -> Probed:
    """Cross-validated accuracy of a linear head on features [N, F] of labels [N]."""
    probe = linear_probe(features, labels, bench.catalog.classes, groups=groups)
    counts = np.bincount(labels[probe.judged], minlength=len(bench.catalog.classes)).tolist()
    return probe.scores["accuracy"].value, counts, f"{probe.images} images, {source}"

"""Tests of the trained weights on validation photographs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from espalier.active_tests.bench import BATCH, Bench, Clock
from espalier.data.loader import Batch
from espalier.diagnose.matching import match_classes
from espalier.models.inference import autocast, laid_out
from espalier.rules import CannotJudge
from espalier.vitals.network import sums_to_one
from espalier.vitals.probing import busy_figures, image_losses

MODE_IMAGES = 256
FEWEST_IMAGES = 64


class Outcome(NamedTuple):
    """What a test found.

    Attributes:
        figures: Fields of ``Preflight``.
        text: In words.
    """

    figures: Mapping[str, Any]
    text: str


def outputs(bench: Bench, clock: Clock) -> Outcome:
    """Whether the outputs of the model are probabilities already."""
    judged = bench.validation(clock)
    summed = sums_to_one(torch.from_numpy(judged.logits))
    text = "each row sums to one: probabilities" if summed else "logits, as the loss wants them"
    return Outcome({"output_sums_to_one": summed}, f"{text} ({len(judged.labels)} images)")


def zero_input(bench: Bench, clock: Clock) -> Outcome:
    """What the trained model loses on validation labels when it is given no picture."""
    judged, model = bench.validation(clock), bench.trained.model
    size = model.imgsz
    with torch.inference_mode(), autocast(bench.device, bench.recipe.training.precision):
        blank = model(torch.zeros(1, 3, size, size, device=bench.device)).float().cpu().numpy()
    if not np.isfinite(blank).all():
        raise CannotJudge("the weights give outputs that are not finite for a blank picture")
    loss = float(image_losses(np.repeat(blank, len(judged.labels), 0), judged.labels).mean())
    seen = float(image_losses(judged.logits, judged.labels).mean())
    return Outcome({"zero_input_loss": loss}, f"loss {loss:.2f} without, {seen:.2f} with pictures")


def twice(bench: Bench, clock: Clock) -> Outcome:
    """By how much the logits differ between two validations, each reading its photographs anew."""
    model, samples = bench.trained.model, bench.val_samples[:BATCH]
    passes = [
        bench.judge(model, bench.batches(samples, model.imgsz, epoch), clock) for epoch in (0, 1)
    ]
    change = float(np.abs(passes[0].logits - passes[1].logits).max())
    text = f"the largest change of a logit is {change:.2g} ({len(samples)} images)"
    return Outcome({"repeat_change": change}, text)


def renamed(bench: Bench, clock: Clock) -> Outcome:
    """Accuracy after the best renaming of classes, found on one half and judged on the other.

    Judged where it was found, a renaming of many classes with few images each is right by chance.
    """
    judged, classes = bench.validation(clock), bench.catalog.classes
    if len(judged.labels) < min(FEWEST_IMAGES, len(bench.here("val"))):
        raise CannotJudge(f"{clock.seconds:.0f} s were not enough for {FEWEST_IMAGES} images")
    called = judged.logits.argmax(axis=1)
    matched = matched_accuracy(judged.labels, called, len(classes))
    names = {classes[a]: classes[b] for a, b in renaming(judged.labels, called, len(classes))}
    text = f"{judged.accuracy:.0%} right as named, {matched:.0%} after the best renaming"
    return Outcome(
        {"matched_accuracy": matched, "matched_classes": names},
        f"{text} ({len(judged.labels)} images)",
    )


def matched_accuracy(
    labels: npt.NDArray[np.int64], called: npt.NDArray[np.int64], classes: int
) -> float:
    """Accuracy [N] after renaming, each half of the images by the renaming found on the other."""
    halves = np.empty(len(labels), dtype=np.int64)
    # Every class with two images is in both halves.
    halves[labels.argsort(kind="stable")] = np.arange(len(labels)) % 2
    right = 0
    for half in (0, 1):
        found, judged = halves != half, halves == half
        names = np.arange(classes)
        for true, other in renaming(labels[found], called[found], classes):
            names[true] = other
        right += int((names[labels[judged]] == called[judged]).sum())
    return right / len(labels)


def renaming(
    labels: npt.NDArray[np.int64], called: npt.NDArray[np.int64], classes: int
) -> tuple[tuple[int, int], ...]:
    """(true class, what it seems to be) of each class that the best renaming changes."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (labels, called), 1)
    matching = match_classes(counts.tolist())
    return matching.renamed if matching is not None else ()


def modes(bench: Bench, clock: Clock) -> Outcome:
    """Validation accuracy with the whole network in training mode, beside evaluation mode."""
    trained = bench.trained
    epochs = len(bench.run.history().rows)
    if trained.epoch != epochs:
        raise CannotJudge(
            f"{trained.file} is of epoch {trained.epoch}, and {epochs} are on record: the two "
            "modes must be those of the last epoch"
        )
    samples = bench.val_samples[:MODE_IMAGES]
    found: list[tuple[int, float]] = []
    for batch in bench.batches(samples, trained.model.imgsz):
        found.append((len(batch.labels), busy_accuracy(bench, batch)))
        if clock.over:
            break
    images = sum(count for count, _ in found)
    accuracy = sum(count * share for count, share in found) / images
    if math.isnan(accuracy):
        raise CannotJudge("needs two validation photographs")
    plain = bench.validation(clock).accuracy
    text = f"{accuracy:.0%} right in training mode, {plain:.0%} in evaluation mode"
    return Outcome({"train_mode_accuracy": accuracy}, f"{text} ({images} images)")


def busy_accuracy(bench: Bench, batch: Batch) -> float:
    """Accuracy on one batch in training mode, without any trace of it in the model."""
    model = bench.trained.model
    images = laid_out(
        bench.normalizer(batch.images.to(bench.device)),
        torch.channels_last if bench.recipe.training.channels_last else torch.contiguous_format,
    )

    def train() -> None:
        model.train()
        torch.manual_seed(bench.recipe.training.seed)

    def forward() -> torch.Tensor:
        with autocast(bench.device, bench.recipe.training.precision):
            logits: torch.Tensor = model(images)
        return logits

    return busy_figures(model, train, forward, batch.labels.to(bench.device))[1]

"""Checks of the network before its first step: weights, outputs, first loss, class weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from espalier.checking.report import Verdict
from espalier.checking.trial import Trial
from espalier.data.balance import drawn_counts
from espalier.models.build import build_model
from espalier.models.inference import predict_logits
from espalier.models.weight_files import read_weights
from espalier.models.weights import MATCHED_SHARE_NEEDED
from espalier.recipe.schema import ClassWeighting
from espalier.rules import CannotJudge
from espalier.train.losses import build_loss

# Of the chance loss: our heads are within 0.01 of it, timm's start of MobileNetV2 is 7 times it.
FIRST_LOSS_TOLERANCE = 0.2
LARGEST_LOGIT = 50.0
LOSS_TOLERANCE = 1e-4


def weights_in_use(trial: Trial) -> Verdict:
    """The tensors of the backbone are those of the file, and not those of a random start."""
    section = trial.recipe.model
    if section.weights == "none":
        raise CannotJudge("model.weights is none: all weights are drawn at random")
    own = dict(matrices(trial.job.model.backbone))
    random = sum(torch.equal(value.cpu(), own[name]) for name, value in _random_start(trial))
    advice = "--weights with a file for this model, and look at the log line about matched tensors"
    if section.weights == "pretrained":
        evidence = f"{len(own) - random} of {len(own)} weight matrices differ from a random start"
        return Verdict(random == 0, evidence, advice if random else "")
    place = Path(section.weights)
    kept = {fingerprint(value) for value in read_weights(place).values()}
    found = sum(fingerprint(value) in kept for value in own.values())
    enough = found >= MATCHED_SHARE_NEEDED * len(own) and random == 0
    share = f"; {trial.weights.share:.1%} matched" if trial.weights is not None else ""
    evidence = f"{found} of {len(own)} weight matrices equal those of {place.name}{share}"
    if random:
        evidence += f"; {random} are those of a random start"
    return Verdict(enough, evidence, "" if enough else advice)


def _random_start(trial: Trial) -> Iterator[tuple[str, Tensor]]:
    """The weight matrices that the backbone would have if no weights were loaded."""
    section = trial.recipe.model.model_copy(update={"weights": "none"})
    torch.manual_seed(trial.recipe.training.seed)
    model, _ = build_model(section, trial.job.model.classes, imgsz=trial.job.model.imgsz)
    return matrices(model.backbone)


def matrices(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters of two or more dimensions: norms and biases may look alike by chance."""
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            yield name, parameter.detach().cpu()


def fingerprint(tensor: Tensor) -> tuple[int, float, float]:
    """Size and two sums: equal for equal tensors of any name and layout of the file."""
    values = tensor.detach().float().double()
    return tensor.numel(), float(values.sum()), float(values.square().sum())


def forward_pass(trial: Trial) -> Verdict:
    """Images of validation give finite logits, one per class."""
    logits = judged_logits(trial, trial.recipe.training.precision)
    wanted = (len(trial.val.samples), len(trial.job.catalog.classes))
    bad = int((~np.isfinite(logits)).any(axis=1).sum())
    evidence = f"{wanted[0]} images at {trial.val.transform.imgsz} px give {_shape(logits.shape)}"
    if logits.shape != wanted:
        evidence += f" logits; {_shape(wanted)} are wanted"
        return Verdict(False, evidence, "a head with one output per class")
    if bad:
        evidence += f" logits, not finite for {bad} of the images"
        return Verdict(False, evidence, "--precision fp32, or another --weights file")
    return Verdict(True, f"{evidence} finite logits")


def _shape(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))


def output_range(trial: Trial) -> Verdict:
    """Logits are of a moderate size, differ between images, and are no probabilities."""
    # In fp32: the outputs of a network that is not trained differ in digits that bf16 has not.
    logits = judged_logits(trial, "fp32")
    low, high = float(logits.min()), float(logits.max())
    evidence = f"from {low:.3g} to {high:.3g}"
    if not max(-low, high) <= LARGEST_LOGIT:
        return Verdict(
            False,
            f"{evidence}; within {LARGEST_LOGIT:g} of 0 is usual at the start",
            "a head that starts with smaller weights, and pixels normalised for the model",
        )
    if low >= 0 and np.allclose(logits.sum(axis=1), 1, atol=1e-3):
        return Verdict(
            False,
            f"{evidence}, each row summing to 1: probabilities",
            "leave out the softmax: the loss has its own",
        )
    if len(logits) > 1 and bool((np.ptp(logits, axis=0) == 0).all()):
        return Verdict(
            False, f"{evidence}, the same for all images", "other weights: the network sees nothing"
        )
    return Verdict(True, evidence)


def judged_logits(trial: Trial, precision: str) -> npt.NDArray[np.float32]:
    """Logits [N, K] of a few validation images, by the part that validation uses."""
    order = np.arange(len(trial.val.samples), dtype=np.int64)
    return predict_logits(
        trial.session.judged,
        trial.val.epoch(order, 0),
        len(order),
        normalizer=trial.session.normalizer,
        device=trial.job.fabric.device,
        precision=precision,
        channels_last=cast(bool, trial.recipe.training.channels_last),
    )


def first_loss(trial: Trial) -> Verdict:
    """The first loss is that of a model that knows nothing, on the same images."""
    steps = trial.steps(0)
    classes = len(trial.job.catalog.classes)
    evidence = (
        f"{steps.loss:.3f} on {len(steps.targets)} images; logits of 0 give {steps.chance:.3f} "
        f"(ln {classes} = {math.log(classes):.3f})"
    )
    off = abs(steps.loss - steps.chance)
    if off <= FIRST_LOSS_TOLERANCE * abs(steps.chance):
        return Verdict(True, evidence)
    above = steps.loss > steps.chance or not math.isfinite(steps.loss)
    advice = (
        "start the last layer of the head small: a spread of 0.02 / sqrt(features)"
        if above
        else "find out what the model knows before it has learned: labels that leak into the "
        "pixels, or a head that is trained already"
    )
    return Verdict(False, evidence, advice)


def class_weights_used(trial: Trial) -> Verdict:
    """The loss of a batch is the mean of its images' losses times their weights, worked out here.

    The weights come from the counts by the formulas of the documents, and from no other code.
    """
    steps, recipe = trial.steps(0), trial.recipe
    section = recipe.class_weighting
    counts = list(trial.counts.values())
    weights = plain_weights(counts, section)
    drawn = drawn_counts(counts, section.sampler)
    plain = build_loss(recipe.loss, class_weights=None, class_counts=drawn)
    of_each = plain.of_each_class(steps.logits).double().numpy()
    shares = steps.targets.double().numpy()
    if steps.targets.ndim == 1:
        shares = np.eye(len(counts))[steps.targets.numpy()]
    without = float((of_each * shares).sum(axis=1).mean())
    wanted = float((of_each * shares * weights).sum(axis=1).mean())
    evidence = f"{steps.loss:.4f}; worked out apart {wanted:.4f}, without weights {without:.4f}"
    used = weights[weights > 0]
    evidence += f"; weights up to {used.max() / used.min():.1f} : 1"
    if not abs(steps.loss - wanted) <= LOSS_TOLERANCE * max(abs(wanted), 1e-6):
        return Verdict(
            False, evidence, "give the loss the class weights of the recipe (build_loss)"
        )
    if section.strategy == "none":
        raise CannotJudge("class_weighting.strategy is none: every image counts alike")
    if abs(wanted - without) <= LOSS_TOLERANCE * abs(without):
        raise CannotJudge(f"these images weigh as much together as without weights: {evidence}")
    return Verdict(True, evidence)


def plain_weights(counts: list[int], section: ClassWeighting) -> npt.NDArray[np.float64]:
    """The weight of each class by the formula of its strategy, with a mean of 1 over the images."""
    most, total, classes = max(counts), sum(counts), sum(count > 0 for count in counts)
    formulas: dict[str, Callable[[int], float]] = {
        "none": lambda n: 1.0,
        "inverse": lambda n: total / (classes * n),
        "sqrt": lambda n: math.sqrt(most / n),
        "effective-number": lambda n: (1 - section.beta) / (1 - section.beta**n),
    }
    formula = formulas[section.strategy]
    found = [formula(count) if count else 0.0 for count in counts]
    if section.cap is not None:
        limit = section.cap * min(weight for weight in found if weight)
        found = [min(weight, limit) for weight in found]
    mean = sum(weight * count for weight, count in zip(found, counts, strict=True)) / total
    return np.array(found) / mean

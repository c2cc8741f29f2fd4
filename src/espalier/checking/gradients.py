"""Checks of each stage on two real steps: gradients, BatchNorm, their size, the optimizer."""

from __future__ import annotations

import math
from collections import Counter

from espalier.checking.report import Verdict
from espalier.checking.trial import Trial
from espalier.findings import listed
from espalier.rules import CannotJudge

SMALLEST_NORM, LARGEST_NORM = 1e-6, 100.0
TOLERANCE = 1e-3


def gradient_reaches(trial: Trial, index: int) -> Verdict:
    """Every parameter that the stage trains gets a gradient, and no other one, nor does it move."""
    steps = trial.steps(index)
    faults = (
        ("thawed or frozen against the stage", steps.misplaced),
        ("train and get no gradient", steps.learning - steps.reached),
        ("are frozen and get a gradient", steps.graded - steps.learning),
        ("are frozen and moved", steps.moved),
    )
    found = [f"{len(names)} {what}: {listed(sorted(names))}" for what, names in faults if names]
    if found:
        return Verdict(
            False,
            "; ".join(found),
            "look for detach(), no_grad() or an unused layer in the model, and at `train` of the "
            "stage",
        )
    frozen = len(steps.names) - len(steps.learning)
    return Verdict(
        True,
        f"{len(steps.learning)} tensors get one, {frozen} frozen ones do not, nor do they move",
    )


def norms_rest(trial: Trial, index: int) -> Verdict:
    """Statistics of BatchNorm move in the layers that are meant to learn, and in no other."""
    steps = trial.steps(index)
    if not steps.norms:
        raise CannotJudge("the model has no BatchNorm with running statistics")
    moved = {name for name, did in steps.norms.items() if did}
    wrong, still = moved - steps.thawed_norms, steps.thawed_norms - moved
    if wrong:
        return Verdict(
            False,
            f"{len(wrong)} frozen layers changed their statistics: {listed(sorted(wrong))}",
            "set_mode(model, stage) after every model.train(), or batch_norm: eval in the stage",
        )
    if still:
        return Verdict(
            False,
            f"{len(still)} layers that learn did not change theirs: {listed(sorted(still))}",
            "batch_norm: auto in the stage",
        )
    resting = len(steps.norms) - len(moved)
    return Verdict(True, f"statistics of {resting} layers stand still, of {len(moved)} they move")


def gradient_norm(trial: Trial, index: int) -> Verdict:
    """The norm of all gradients, before clipping, is neither below 1e-6 nor above 100.

    Behind clipping it is within ``clip_norm``.
    """
    steps, limit = trial.steps(index), trial.recipe.optimizer.clip_norm
    norm = steps.norm
    evidence = f"norm {norm:.3g} (from {SMALLEST_NORM:g} to {LARGEST_NORM:g})"
    if limit is not None and math.isfinite(norm):
        evidence += f", {steps.clipped:.3g} behind clipping at {limit:g}"
        if steps.clipped > limit * (1 + TOLERANCE):
            return Verdict(
                False, evidence, "clip after the gradients are unscaled, before the step"
            )
    if SMALLEST_NORM <= norm <= LARGEST_NORM:
        return Verdict(True, evidence)
    if norm < SMALLEST_NORM:
        advice = "the loss says nothing to the weights: look at the loss and at the head's start"
    elif math.isfinite(norm):
        advice = "a head that starts with smaller weights, and pixels normalised for the model"
    else:
        advice = "--precision fp32, and weights without NaN"
    return Verdict(False, evidence, advice)


def optimizer_holds(trial: Trial, index: int) -> Verdict:
    """The optimizer steps every parameter that trains, once, and no other one."""
    steps = trial.steps(index)
    held = Counter(steps.held)
    faults = (
        ("train and are not in it", steps.learning - set(held)),
        ("are in it and do not train", set(held) - steps.learning),
        ("are in it more than once", {name for name, times in held.items() if times > 1}),
    )
    found = [f"{len(names)} {what}: {listed(sorted(names))}" for what, names in faults if names]
    if found:
        return Verdict(
            False, "; ".join(found), "make the optimizer anew for every stage, after thawing"
        )
    return Verdict(True, f"{len(steps.held)} tensors, each once")

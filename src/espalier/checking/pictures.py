"""Checks of what the network sees: views of training and validation, normalisation, a picture."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from espalier.checking.report import Verdict
from espalier.checking.steps import first_window
from espalier.checking.trial import Trial, few, pixels
from espalier.data.transforms import TrainTransform, transform_for
from espalier.models.build import model_facts
from espalier.models.inference import Normalizer
from espalier.recipe.policies import resolve_steps
from espalier.report.batch import MOST_IMAGES, contact_sheet
from espalier.rules import CannotJudge
from espalier.train.loop import prepare

EPOCHS = 3
# In grey levels of 255: less is no change that training would notice.
LEAST_CHANGE = 0.5
# Chance that no image of so many is changed; above it, an unchanged batch proves nothing.
LUCK = 1e-3
COLOURS = 0.02
PIXELS = (0, 1, 64, 127, 128, 200, 254, 255)
TOLERANCE = 1e-3


def val_is_not_train(trial: Trial) -> Verdict:
    """Validation does not share the transform of training: the classic bug of one data set."""
    train, val = trial.train.transform, trial.val.transform
    names = f"training {type(train).__name__}, validation {type(val).__name__}"
    if train is val or isinstance(val, TrainTransform):
        return Verdict(
            False,
            f"{names}: it is augmented as training is, and its scores are of other pictures",
            "leave val_transform out, or take transform_for('val', recipe, imgsz)",
        )
    return Verdict(True, names)


def val_is_fixed(trial: Trial) -> Verdict:
    """The same validation image twice gives the same pixels, whatever the random numbers."""
    views = [pixels(trial.val, epoch) for epoch in range(EPOCHS)]
    moving = sum(any((a != view[i]).any() for view in views[1:]) for i, a in enumerate(views[0]))
    evidence = f"{len(views[0])} images, {EPOCHS} times: {moving} differ"
    advice = "a validation transform without anything random"
    return Verdict(moving == 0, evidence, advice if moving else "")


def train_is_random(trial: Trial) -> Verdict:
    """The same training image in two epochs gives two views."""
    views = [pixels(trial.train, epoch) for epoch in range(EPOCHS)]
    moving = sum(any((a != view[i]).any() for view in views[1:]) for i, a in enumerate(views[0]))
    evidence = f"{moving} of {len(views[0])} images differ over {EPOCHS} epochs"
    return _drawn(trial, moving > 0, evidence, len(views[0]) * (EPOCHS - 1))


def augmentation_applies(trial: Trial) -> Verdict:
    """How far training views are from the fixed view of the same images, in grey levels."""
    plain = transform_for("val", trial.recipe, trial.train.transform.imgsz)
    fixed = few(trial.train, range(len(trial.train.samples)), plain)
    still = pixels(fixed).astype(np.float32)
    change = np.mean([np.abs(pixels(trial.train, e) - still).mean() for e in range(EPOCHS)])
    evidence = (
        f"{trial.recipe.augment.policy}: mean change {change:.1f} of 255 grey levels on "
        f"{len(still)} images"
    )
    return _drawn(trial, bool(change >= LEAST_CHANGE), evidence, EPOCHS * len(still))


def _drawn(trial: Trial, changed: bool, evidence: str, draws: int) -> Verdict:
    """The verdict on random views, unless chance alone explains why none of them changed."""
    augment = trial.recipe.augment
    steps = resolve_steps(augment.policy, augment.steps)
    unchanged = float(np.prod([1 - step["p"] for step in steps.values()]))
    if unchanged == 1:
        raise CannotJudge(f"augment.policy is {augment.policy}: no step of it happens")
    if not changed and unchanged**draws > LUCK:
        raise CannotJudge(f"its steps are too rare for {draws} views; {evidence}")
    advice = "give training the transform of its split: transform_for('train', ...)"
    return Verdict(changed, evidence, "" if changed else advice)


def normalisation(trial: Trial) -> Verdict:
    """Pixels become (x / 255 - mean) / std, in training and validation, as the model expects."""
    data, model = trial.recipe.data, trial.recipe.model
    mean, std = np.array(data.mean), np.array(data.std)
    wanted = (np.array(PIXELS)[:, None] / 255 - mean) / std
    grey = torch.tensor(PIXELS, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    given = trial.session.normalizer(grey.to(trial.job.fabric.device))[:, :, 0, 0].cpu().numpy()
    # What prediction will use, later and elsewhere, from the same recipe.
    predicted = Normalizer(cast(tuple[float], data.mean), cast(tuple[float], data.std))(grey)
    evidence = f"mean {_numbers(mean)}, std {_numbers(std)}"
    off = max(np.abs(given - wanted).max(), np.abs(given - predicted[:, :, 0, 0].numpy()).max())
    if off > TOLERANCE:
        return Verdict(
            False,
            f"{evidence}: pixels reach the network up to {off:.2f} away from that",
            "normalise with data.mean and data.std, once, in training and validation",
        )
    facts = model_facts(model.name)
    if model.weights != "none" and not np.allclose([mean, std], [facts.mean, facts.std], atol=1e-3):
        return Verdict(
            False,
            f"{evidence}; the weights of {model.name} expect mean {_numbers(np.array(facts.mean))},"
            f" std {_numbers(np.array(facts.std))}",
            "leave data.mean and data.std out: the model's own are taken",
        )
    return Verdict(True, f"{evidence}; {_seen(trial)}")


def _seen(trial: Trial) -> str:
    """What the channels of both parts come to, on average."""
    figures = []
    for name, loader in (("training", trial.train), ("validation", trial.val)):
        images = torch.from_numpy(pixels(loader)).permute(0, 3, 1, 2)
        seen = trial.session.normalizer(images.to(trial.job.fabric.device))
        figures.append(f"{name} {float(seen.mean()):+.2f} +- {float(seen.std()):.2f}")
    return ", ".join(figures)


def _numbers(values: npt.NDArray[np.float64]) -> str:
    return " ".join(f"{value:.3g}" for value in values)


def draw_batch(trial: Trial) -> Verdict:
    """The first training images drawn back from what the network was given: mixed, if it mixes."""
    if trial.picture is None:
        raise CannotJudge("not asked for (--picture batch.jpg)")
    job, session, state = trial.open(0)
    window = first_window(job, session, MOST_IMAGES)
    parts = [prepare(job, session, state, batch, i) for i, batch in enumerate(window)]
    seen = torch.cat([images for images, _ in parts]).float().cpu()
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in (job.recipe.data.mean, job.recipe.data.std)
    )
    shown = ((seen * std + mean) * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    names = [_caption(target, job.catalog.classes) for _, ts in parts for target in ts]
    contact_sheet(shown, names, trial.picture)
    return Verdict(
        True, f"{min(len(shown), MOST_IMAGES)} images as the network sees them in {trial.picture}"
    )


def _caption(target: torch.Tensor, classes: tuple[str, ...]) -> str:
    """The class of an index; of shares, those above 1 %, largest first."""
    if target.ndim == 0:
        return classes[int(target)]
    shares = sorted(zip(target.tolist(), classes, strict=True), reverse=True)
    if shares[0][0] > 0.99:
        return shares[0][1]
    return " + ".join(f"{share:.0%} {name}" for share, name in shares if share > 0.01)

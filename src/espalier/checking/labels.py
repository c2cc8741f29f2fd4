"""Checks of labels: enough images of each class, one order everywhere, draws as planned."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np

from espalier.checking.report import Verdict
from espalier.checking.trial import Trial
from espalier.data.catalog import read_catalog
from espalier.data.manifests import is_manifest
from espalier.data.torchvision_sets import is_address
from espalier.evaluate.predictor import checkpoint_of
from espalier.findings import listed
from espalier.models.checkpoints import load_checkpoint
from espalier.records import SPLITS, Sample, counts_line
from espalier.rules import CannotJudge
from espalier.runs import RunDir
from espalier.train.features import Batches
from espalier.train.session import batch_order

FEWEST = 2
RARE = 50
SHOWN = 3
DRAWN_EPOCHS = 20
# Of a count's own spread: a fair draw strays further in one class of fifteen thousand.
SIGMAS = 4.0


def class_distribution(trial: Trial) -> Verdict:
    """Every class has images to train on; the counts and how unequal they are."""
    counts = trial.counts
    evidence = counts_line(counts)
    rare = [name for name, count in counts.items() if count < RARE]
    if rare:
        evidence += f"; {len(rare)} with fewer than {RARE}: {listed(rare)}"
    few = [f"{name} {count}" for name, count in counts.items() if count < FEWEST]
    if few:
        return Verdict(
            False,
            f"{counts_line(counts)}; too few to train on: {listed(few)}",
            "gather more of them, merge them with another class, or leave them out",
        )
    return Verdict(True, evidence)


def label_order(trial: Trial) -> Verdict:
    """Folder, catalog, loaders and an earlier run agree on what each class index means."""
    problems = [*wrong_indices(trial), *wrong_folders(trial), *strange_classes(trial)]
    against = []
    if trial.earlier is not None:
        problems += wrong_order(trial)
        against.append(f"the run {trial.earlier.name}")
    if problems:
        return Verdict(
            False,
            "; ".join(problems[:SHOWN]),
            "name the folders alike in all parts; data.classes fixes the order",
        )
    images = sum(len(trial.job.catalog.in_split(split)) for split in SPLITS)
    places = ["folders" if names_folders(trial) else "manifest", "catalog", "loaders", *against]
    return Verdict(
        True,
        f"{len(trial.job.catalog.classes)} classes, {images:,} images: {', '.join(places)} agree",
    )


def wrong_indices(trial: Trial) -> list[str]:
    """Images whose index in a loader is not that of their class in the catalog."""
    classes = trial.job.catalog.classes
    problems = []
    for name, loader in (("training", trial.session.train(0)), ("validation", trial.session.val)):
        indices = indices_of(loader)
        wrong = [
            sample
            for sample, index in zip(loader.samples, indices, strict=True)
            if not 0 <= index < len(classes) or classes[index] != sample.label
        ]
        if wrong:
            problems.append(
                f"{len(wrong)} {name} images have the index of another class: {wrong[0].path}"
            )
    return problems


def indices_of(loader: Batches) -> list[int]:
    """The class index of every sample, as batches will carry it."""
    found: list[int] = getattr(loader, "labels").tolist()  # noqa: B009
    return found


def names_folders(trial: Trial) -> bool:
    """Whether labels come from the names of folders."""
    source = str(trial.recipe.data.source)
    return not is_address(source) and not is_manifest(Path(source))


def wrong_folders(trial: Trial) -> list[str]:
    """Images that do not lie in the folder of their class."""
    if not names_folders(trial):
        return []
    root = os.path.abspath(str(trial.recipe.data.source))
    # A sample with a reason was corrected by a person, one with an origin was painted: neither
    # need lie in the folder of its class.
    wrong = [
        sample
        for split in SPLITS
        for sample in trial.job.catalog.in_split(split)
        if not (sample.reason or sample.origin or lies_in_class(sample, root))
    ]
    if not wrong:
        return []
    first = wrong[0]
    return [f"{len(wrong)} images are not of their folder's class: {first.path} ({first.label})"]


def lies_in_class(sample: Sample, root: str) -> bool:
    """Whether one of the folders between the root and the file has the name of the label."""
    inner = os.path.relpath(os.path.dirname(sample.path), root)
    names = {unicodedata.normalize("NFC", name) for name in inner.split(os.sep)}
    return sample.label in names


def strange_classes(trial: Trial) -> list[str]:
    """Classes that validation or test has and training has not."""
    known = {name for name, count in trial.counts.items() if count}
    problems = []
    for split in ("val", "test"):
        counts = trial.job.catalog.counts(split)
        strange = [name for name, count in counts.items() if count and name not in known]
        if strange:
            problems.append(f"{split} has classes that train has not: {listed(strange)}")
    return problems


def wrong_order(trial: Trial) -> list[str]:
    """Class indices that mean another class in the checkpoint of the earlier run."""
    assert trial.earlier is not None
    learned = learned_classes(trial.earlier)
    classes = trial.job.catalog.classes
    pairs = enumerate(zip(learned, classes, strict=False))
    differing = [f"{index}: {old} -> {new}" for index, (old, new) in pairs if old != new]
    if len(learned) != len(classes):
        differing.append(f"{len(learned)} classes -> {len(classes)}")
    return [f"other than in {trial.earlier.name}: {listed(differing)}"] if differing else []


def learned_classes(run: RunDir) -> tuple[str, ...]:
    """The label mapping of a run's weights; of its catalog, as long as it has none."""
    if run.best.exists() or run.last.exists():
        return tuple(load_checkpoint(checkpoint_of(run))["classes"])
    return read_catalog(run.require(run.catalog_file)).classes


def sampler_draws(trial: Trial) -> Verdict:
    """Every image once; or with a sampler, each class as often as planned, over twenty epochs."""
    sampler = trial.recipe.class_weighting.sampler
    labels = trial.session.labels
    if sampler == "none":
        order = batch_order(trial.job, trial.session, 0)
        once = np.array_equal(np.sort(order), np.arange(len(labels)))
        evidence = f"{len(np.unique(order)):,} of {len(labels):,} images in an epoch"
        return Verdict(once, evidence, "" if once else "class_weighting.sampler draws with repeats")
    orders = [batch_order(trial.job, trial.session, epoch) for epoch in range(DRAWN_EPOCHS)]
    drawn = np.bincount(labels[np.concatenate(orders)], minlength=len(trial.counts))
    counts = np.array(list(trial.counts.values()), dtype=np.float64)
    if (counts == 0).any():
        raise CannotJudge("a class has no training image to be drawn")
    wanted = counts ** {"sqrt": 0.5, "balanced": 0.0}[sampler]
    share = wanted / wanted.sum()
    spread = np.sqrt(drawn.sum() * share * (1 - share))
    off = np.abs(drawn - drawn.sum() * share) / np.maximum(spread, 1.0)
    worst = int(off.argmax())
    evidence = (
        f"{sampler}: {list(trial.counts)[worst]} makes {drawn[worst] / drawn.sum():.1%} of "
        f"{DRAWN_EPOCHS} epochs, {share[worst]:.1%} is planned (the furthest off)"
    )
    fair = bool(off[worst] <= SIGMAS)
    return Verdict(fair, evidence, "" if fair else "give the loader the order of epoch_order")

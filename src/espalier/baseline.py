"""The first honest score, before any training: a linear head on the frozen backbone.

One pass over the training images gives their features; a linear head is fitted to them and judged
by cross-validation. Fine-tuning must beat that. The features stay with the run, because they also
tell near-duplicates, suspect labels and hard classes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from espalier import files
from espalier.evaluate.probe import Probe, linear_probe
from espalier.report.context import baseline_from
from espalier.report.worth import baseline_text
from espalier.train.job import Job
from espalier.train.kept import fixed_loader, keep_backbone

FEWEST_CLASSES = 2


@dataclass(frozen=True)
class InstantBaseline:
    """What the one pass before training gave.

    Attributes:
        probe: How well a linear head does.
        sample_ids: Of the training images, length N.
        labels: Class indices [N].
        features: Pooled features [N, F].
    """

    probe: Probe
    sample_ids: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    features: npt.NDArray[np.float32]


def instant_baseline(job: Job) -> InstantBaseline | None:
    """Judge a linear head on the frozen backbone, say it, and put it on record.

    None where it would say nothing: the backbone has no trained weights, there is one class only,
    or the recipe does without (``features.baseline``).
    """
    if not job.recipe.features.baseline or job.recipe.model.weights == "none":
        return None
    labels = np.array([job.class_index[cast(str, s.label)] for s in job.train], dtype=np.int64)
    if len(np.unique(labels)) < FEWEST_CLASSES:
        return None
    started = time.perf_counter()
    features = frozen_features(job)
    groups = [sample.group or sample.content for sample in job.train]
    probe = linear_probe(
        features, labels, job.catalog.classes, seed=job.recipe.training.seed, groups=groups
    )
    seconds = time.perf_counter() - started
    record = probe.to_json()
    job.watch.on_note(baseline_text(baseline_from(record), seconds))
    files.write_text(job.run.baseline_file, json.dumps(record, indent=2) + "\n")
    ids = tuple(sample.sample_id for sample in job.train)
    files.write_whole(job.run.embeddings, lambda place: write_embeddings(place, ids, features))
    return InstantBaseline(probe, ids, labels, features)


def frozen_features(job: Job) -> npt.NDArray[np.float32]:
    """Pooled features [N, F] of the training images in their one fixed view."""
    keeper = keep_backbone(job, pause=lambda: None)
    kept = keeper(fixed_loader(job, job.stages[0]), 0)
    job.model.train()
    return kept.matrix()


def write_embeddings(
    place: Path, sample_ids: Sequence[str], features: npt.NDArray[np.float32]
) -> None:
    """Features as float16 [N, F], and the ids of their samples."""
    limit = np.finfo(np.float16).max
    halves = np.clip(features, -limit, limit).astype(np.float16)
    with place.open("wb") as file:
        np.savez(file, sample_ids=np.array(sample_ids), features=halves)

"""Features of a data set from a frozen backbone, and what a linear head makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from espalier.audit.confident import calibrated_probabilities
from espalier.audit.groups import Chains
from espalier.audited import Embedded, Pair
from espalier.data.store_choice import side_for
from espalier.errors import DataError, ModelError, WeightsError
from espalier.evaluate.probe import Probe, check_features, linear_probe
from espalier.models.grouped import keep_grouped_in_fp32
from espalier.models.inference import judging_batch
from espalier.preparation import Prepared, start_model
from espalier.records import SPLITS, Catalog, Sample
from espalier.runs import RunDir
from espalier.train.devices import open_fabric
from espalier.train.job import Job
from espalier.train.kept import keep_backbone
from espalier.train.loaders import build_loader, judged_imgsz
from espalier.train.watch import Unwatched

Note = Callable[[str], None]


class _Notes(Unwatched):
    """Passes notes on, and nothing else."""

    def __init__(self, note: Note) -> None:
        self._note = note

    def on_note(self, text: str) -> None:
        """Pass it on."""
        self._note(text)


def embed(prepared: Prepared, note: Note) -> tuple[Embedded | None, str]:
    """Features of all readable images of a frozen backbone, or None and why there are none."""
    if prepared.recipe.model.weights == "none":
        return None, "the backbone has no trained weights"
    if not prepared.catalog.classes:
        return None, "no image has a label"
    try:
        model, _ = start_model(prepared)
    except (WeightsError, ModelError) as error:
        return None, f"{error.message}; --weights FILE names a file of weights"
    recipe, catalog = prepared.recipe, prepared.catalog
    keep_grouped_in_fp32(model, recipe.training.grouped_fp32 is True)
    job = Job(
        recipe,
        catalog,
        RunDir(Path()),
        model,
        np.ones(len(catalog.classes)),
        open_fabric(recipe),
        _Notes(note),
        side=side_for(recipe),
        store=prepared.store,
    )
    samples, features = split_features(job)
    labels = np.array([job.class_index[cast(str, s.label)] for s in samples], dtype=np.int64)
    try:
        check_features(features, labels, len(catalog.classes))
    except DataError as error:
        return None, f"{error.message}; {error.hint}"
    return (
        Embedded(
            model=recipe.model.name,
            sample_ids=tuple(sample.sample_id for sample in samples),
            features=features,
            labels=labels,
            probabilities=None,
            judged=np.zeros(len(samples), dtype=np.bool_),
        ),
        "",
    )


def split_features(job: Job) -> tuple[tuple[Sample, ...], npt.NDArray[np.float32]]:
    """Labelled samples and their features [N, F], split by split.

    Each split is a set of kept features of its own, so that those of training are the ones that
    the instant baseline of a run has kept or will find.
    """
    keeper = keep_backbone(job, pause=lambda: None)
    imgsz = judged_imgsz(job.recipe, job.stages[0])
    samples: list[Sample] = []
    parts: list[npt.NDArray[np.float32]] = []
    for split in SPLITS:
        chosen = tuple(s for s in job.catalog.in_split(split) if s.label is not None)
        if chosen:
            loader = build_loader(job, chosen, "val", imgsz, judging_batch(imgsz))
            parts.append(keeper(loader, 0).matrix())
            samples.extend(chosen)
    return tuple(samples), np.concatenate(parts)


def with_probabilities(
    embedded: Embedded, catalog: Catalog, pairs: Sequence[Pair] = ()
) -> Embedded:
    """The same with cross-validated probabilities; copies of an image never vouch for its label."""
    groups = independent_groups(catalog, pairs)
    try:
        probe = linear_probe(
            embedded.features,
            embedded.labels,
            catalog.classes,
            groups=[groups[sample] for sample in embedded.sample_ids],
        )
    except DataError:
        return embedded
    return probed(embedded, probe)


def probed(embedded: Embedded, probe: Probe) -> Embedded:
    """Features with what the probe said of each image."""
    probabilities = calibrated_probabilities(probe.logits, embedded.labels, probe.judged)
    return replace(embedded, probabilities=probabilities, judged=probe.judged)


def independent_groups(catalog: Catalog, pairs: Sequence[Pair]) -> dict[str, str]:
    """``sample_id`` -> a name that all images share which may not stand on both sides."""
    chains = Chains()
    for first, second in _ties(catalog, pairs):
        chains.join(first, second)
    return {s.sample_id: str(chains.root(s.sample_id)) for s in catalog.samples}


def _ties(catalog: Catalog, pairs: Sequence[Pair]) -> Iterator[tuple[str, str]]:
    for sample in catalog.samples:
        yield sample.sample_id, f"content {sample.content}"
        if sample.origin:
            # What is painted on a photograph is a near copy of it.
            yield sample.sample_id, f"content {sample.origin}"
        if sample.group:
            yield sample.sample_id, f"group {sample.group}"
    for pair in pairs:
        yield pair.first, pair.second

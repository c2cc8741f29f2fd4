"""The cheap part of an audit, which every training run does with what it knows anyway."""

from __future__ import annotations

import json
import shlex
from typing import Final

import numpy as np

import espalier.audit.rules
from espalier import files
from espalier.audit.copies import exact_pairs
from espalier.audited import Audited, Embedded
from espalier.auditing.features import probed
from espalier.baseline import InstantBaseline
from espalier.findings import Report
from espalier.rules import rules_in, run_rules
from espalier.train.job import Job
from espalier.train.loaders import judged_imgsz

# What needs no look at the pixels: the other rules would have to say that they cannot judge.
RULES: Final = (
    *("unreadable_images", "exact_duplicates", "duplicates_across_splits", "conflicting_labels"),
    *("class_missing_in_split", "classes_too_small", "class_imbalance", "label_mapping"),
    *("label_suspects", "inseparable_classes", "hard_classes"),
)


def audit_training(job: Job, baseline: InstantBaseline | None) -> Report:
    """Judge the data by labels, splits, equal files and the features of the instant baseline.

    What matters is told to the watch; all of it stands in ``audit.json`` of the run.
    """
    audited = Audited(
        catalog=job.catalog,
        given_split=job.catalog.given_split,
        pairs=tuple(exact_pairs(job.catalog.samples)),
        embedded=None if baseline is None else _embedded(job, baseline),
        unknown={"embedded": "there is no instant baseline"},
        imgsz=judged_imgsz(job.recipe, job.stages[-1]),
    )
    rules = [rule for rule in rules_in(espalier.audit.rules) if rule.name in RULES]
    report = run_rules(rules, audited)
    files.write_text(job.run.audit_file, json.dumps(report.to_json(), indent=2) + "\n")
    for text in worth_saying(report, str(job.catalog.source)):
        job.watch.on_note(text)
    return report


def worth_saying(report: Report, source: str) -> list[str]:
    """A line for each finding that costs accuracy or trust, and where to see more."""
    serious = [finding for finding in report.findings if finding.severity != "info"]
    if not serious:
        return []
    lines = [f"{finding.severity}: {finding.cause}. {finding.advice[0]}" for finding in serious]
    return [*lines, f"to see it: espalier audit {shlex.quote(source)}"]


def _embedded(job: Job, baseline: InstantBaseline) -> Embedded:
    embedded = Embedded(
        model=job.recipe.model.name,
        sample_ids=baseline.sample_ids,
        features=baseline.features,
        labels=baseline.labels,
        probabilities=None,
        judged=np.zeros(len(baseline.labels), dtype=np.bool_),
    )
    return probed(embedded, baseline.probe)

"""One set of photographs: audited as it is, with wrong labels, and with planted problems."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.audit import score, sets
from benchmarks.audit.plant import ODDITIES, Labelled, Planted, mislabelled, plant_all
from benchmarks.audit.sets import Found
from espalier.findings import SEVERITIES

Record = dict[str, Any]
VARIANTS: tuple[tuple[str, float, Literal["random", "by class"]], ...] = (
    ("5 % random", 0.05, "random"),
    ("10 % random", 0.10, "random"),
    ("20 % random", 0.20, "random"),
    ("10 % by class", 0.10, "by class"),
)
FILTERS = ("prune_by_noise_rate", "prune_by_class", "both", "confident_learning")
"""Of cleanlab; the first is its default."""


@dataclass(frozen=True)
class Asked:
    """What all audits of one benchmark share."""

    weights: Path
    imgsz: int
    seed: int


# ---- the set as it is


def clean_facts(found: Found, folder: Path, judged: Mapping[frozenset[str], bool]) -> Record:
    """What an audit says of photographs in which nothing was planted, and whether it is true."""
    findings = found.record["findings"]
    named = {frozenset(link) for link in score.linked(found.record)}
    equal = {pair for pair in named if len({(folder / path).read_bytes() for path in pair}) == 1}
    return {
        "images": len(found.audit.audited.catalog.samples),
        "cpu_seconds": round(found.cpu_seconds, 1),
        "above_info": [
            {"rule": f["rule"], "severity": f["severity"], "cause": f["cause"]}
            for f in findings
            if SEVERITIES.index(f["severity"]) > 0
        ],
        "info": [f["rule"] for f in findings if f["severity"] == "info"],
        "equal_pairs": len(equal),
        "pairs": judged_by_eye(named - equal, judged),
    }


def judged_by_eye(
    seen: Collection[frozenset[str]], judged: Mapping[frozenset[str], bool]
) -> Record:
    """How many of the pairs that rules name a person found to be the same photograph."""
    right = sum(judged.get(pair, False) for pair in seen)
    wrong = sum(not judged.get(pair, True) for pair in seen)
    return {
        "named": len(seen),
        "same": right,
        "different": wrong,
        "not_looked_at": len(seen) - right - wrong,
        "precision": score.share(right, right + wrong),
    }


# ---- wrong labels


def measure_labels(folder: Path, clean: Found, work: Path, asked: Asked) -> list[Record]:
    """Every variant of wrong labels, on the same photographs."""
    rows = rows_of(clean, folder)
    expected = {path for case in score.cases_of(clean.record, "label_suspects") for path in case}
    theirs = by_cleanlab(clean, folder)
    found = []
    for number, (variant, share, how) in enumerate(VARIANTS):
        wrong = mislabelled(rows, share, how, asked.seed + number)
        manifest = sets.write_manifest(wrong, folder, work / f"labels-{number}.csv")
        audit = sets.audited(manifest, folder, asked.weights, asked.imgsz)
        planted = {
            row.path for row, right in zip(wrong, rows, strict=True) if row.label != right.label
        }
        scored = score_labels(audit, folder, planted, expected, theirs, asked.seed)
        found.append({"variant": variant, "planted_share": share, **scored})
    return found


def rows_of(found: Found, folder: Path) -> list[Labelled]:
    """The photographs of an audit as rows of a manifest, in the order of its catalog."""
    splits = sets.splits_of(found.audit.audited.catalog, folder)
    return [
        Labelled(path, sample.label or "", splits[path])
        for path, sample in zip(splits, found.audit.audited.catalog.samples, strict=True)
    ]


def score_labels(
    found: Found,
    folder: Path,
    planted: set[str],
    ours_before: set[str],
    theirs_before: Mapping[str, set[str]],
    seed: int,
) -> Record:
    """Ours and cleanlab's suspects on the same probabilities.

    Twice: with everything that was not planted counted as right, and without the images that each
    tool suspected before anything was planted, natural errors among them.
    """
    paths = paths_of(found, folder)
    wrong = np.array([path in planted for path in paths])
    said = {path for case in score.cases_of(found.record, "label_suspects") for path in case}
    ours = np.array([path in said for path in paths])
    every = np.ones(len(paths), dtype=np.bool_)
    record: Record = {
        "cpu_seconds": round(found.cpu_seconds, 1),
        "ours": score.score_flags(ours, wrong, every).to_json(),
        "suspected_before": len(ours_before),
        "estimate": estimate(found),
        "cleanlab": {},
    }
    fresh = np.array([path in planted or path not in ours_before for path in paths])
    record["ours_without_earlier"] = score.score_flags(ours, wrong, fresh).to_json()
    for name, flagged in by_cleanlab(found, folder).items():
        theirs = np.array([path in flagged for path in paths])
        old = ours_before | theirs_before[name]
        both_fresh = np.array([path in planted or path not in old for path in paths])
        record["cleanlab"][name] = {
            "counts": score.score_flags(theirs, wrong, every).to_json(),
            "f1": score.compared(ours, theirs, wrong, every, seed),
            "f1_without_earlier": score.compared(ours, theirs, wrong, both_fresh, seed),
        }
    return record


def estimate(found: Found) -> dict[str, float]:
    """The share of wrong labels that the rule estimates."""
    finding = next((f for f in found.record["findings"] if f["rule"] == "label_suspects"), None)
    return {e["name"]: e["value"] for e in finding["evidence"]} if finding else {}


def paths_of(found: Found, folder: Path) -> list[str]:
    """Files of the embedded images, in their order."""
    embedded = found.audit.audited.require_embedded()
    by_id = dict(
        zip(
            (sample.sample_id for sample in found.audit.audited.catalog.samples),
            sets.splits_of(found.audit.audited.catalog, folder),
            strict=True,
        )
    )
    return [by_id[name] for name in embedded.sample_ids]


def by_cleanlab(found: Found, folder: Path) -> dict[str, set[str]]:
    """Files that each filter of cleanlab suspects; nothing where it is not installed."""
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        return {}
    embedded, probabilities = found.audit.audited.require_probabilities()
    used = np.flatnonzero(embedded.judged)
    paths = paths_of(found, folder)
    suspects = {}
    for name in FILTERS:
        mask = find_label_issues(
            embedded.labels[used], probabilities[used], filter_by=name, n_jobs=1
        )
        suspects[name] = {paths[row] for row in used[mask].tolist()}
    return suspects


# ---- copies, broken and odd files


def measure_planted(folder: Path, clean: Found, asked: Asked) -> Record:
    """Plant into the folder, audit it, and count rule by rule."""
    planted = plant_all(folder, asked.seed)
    found = sets.audited(folder, folder, asked.weights, asked.imgsz)
    splits = sets.splits_of(found.audit.audited.catalog, folder)
    natural = score.linked(clean.record)
    before = {rule: flat(score.cases_of(clean.record, rule)) for rule in ("unreadable_images",)}
    wanted = by_copy_rule(planted, splits)
    every = [(one.path, one.source) for one in planted if one.source != one.path]
    rules = {
        rule: score.score_copies(
            score.cases_of(found.record, rule), [links(one) for one in wanted[rule]],
            [*every, *natural],
        )
        for rule in score.COPY_RULES
    }  # fmt: skip
    broken = [one.path for one in planted if one.kind == "broken"]
    cases = score.cases_of(found.record, "unreadable_images")
    rules["unreadable_images"] = score.score_files(cases, broken, before["unreadable_images"])
    return {
        "cpu_seconds": round(found.cpu_seconds, 1),
        "planted": len(planted),
        "rules": {
            rule: one.to_json() for rule, one in (rules | odd(planted, found, clean)).items()
        },
        "near_by_change": by_change(planted, found),
        "missed": missed(planted, wanted, found),
    }


def by_copy_rule(planted: Sequence[Planted], splits: Mapping[str, str]) -> dict[str, list[Planted]]:
    """Which rule should name each planted copy: by bytes, label and the parts that it lies in."""
    wanted: dict[str, list[Planted]] = defaultdict(list)
    for one in planted:
        if one.source == one.path:
            continue
        crosses = splits[one.path] != splits[one.source]
        if label_of(one.path) != label_of(one.source):
            wanted["conflicting_labels"].append(one)
        elif one.kind == "exact":
            wanted["duplicates_across_splits" if crosses else "exact_duplicates"].append(one)
        else:
            wanted["near_duplicates_across_splits" if crosses else "near_duplicates"].append(one)
    return wanted


def label_of(path: str) -> str:
    return path.split("/")[1]


def links(one: Planted) -> score.Link:
    return one.path, one.source


def odd(planted: Sequence[Planted], found: Found, clean: Found) -> dict[str, score.Score]:
    """Rules about pictures that are odd in themselves."""
    wanted: dict[str, list[str]] = {how.partition(",")[0]: [] for how in ODDITIES}
    for one in planted:
        if one.kind == "odd":
            wanted[one.how.partition(",")[0]].append(one.path)
    # A strip is small, a black picture has one tone, a text is no picture: no false alarm.
    known = {one.path for one in planted if one.kind in ("odd", "broken")}
    return {
        rule: score.score_files(
            score.cases_of(found.record, rule),
            paths,
            known | flat(score.cases_of(clean.record, rule)),
        )
        for rule, paths in wanted.items()
    }


def flat(cases: score.Cases) -> set[str]:
    return {path for case in cases for path in case}


def by_change(planted: Sequence[Planted], found: Found) -> Record:
    """Recall of near copies by what was changed, whichever rule named them."""
    root = score.roots(score.linked(found.record))
    counts: dict[str, list[bool]] = defaultdict(list)
    for one in planted:
        if one.kind == "near":
            ends = root.get(one.path), root.get(one.source)
            counts[one.how].append(ends[0] is not None and ends[0] == ends[1])
    return {how: {"planted": len(hits), "found": sum(hits)} for how, hits in counts.items()}


def missed(
    planted: Sequence[Planted], wanted: Mapping[str, Sequence[Planted]], found: Found
) -> list[Record]:
    """What was planted and not named, to be looked into."""
    lost = []
    for rule, ones in wanted.items():
        cases = [set(case) for case in score.cases_of(found.record, rule)]
        lost += [
            {"rule": rule, "how": one.how, "path": one.path, "source": one.source}
            for one in ones
            if not any({one.path, one.source} <= case for case in cases)
        ]
    named = {rule.partition(",")[0]: flat(score.cases_of(found.record, rule.partition(",")[0]))
             for rule in ODDITIES}  # fmt: skip
    named["unreadable_images"] = flat(score.cases_of(found.record, "unreadable_images"))
    for one in planted:
        rule = "unreadable_images" if one.kind == "broken" else one.how.partition(",")[0]
        if one.source == one.path and one.path not in named[rule]:
            lost.append({"rule": rule, "how": one.how, "path": one.path, "source": one.source})
    return lost

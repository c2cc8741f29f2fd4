"""One series of photographs scattered over training, validation and test.

What it looks at: files whose names make them a series (a running number behind a name of its own,
    times, camera counters), and whether pairs or features say that its images are alike.
Why it matters: two shots of one plant or patient are nearly one: the score says how well known
    things are recognised, and falls on the first new one.
When it is wrong: names that follow the order of collection, with different things side by side.
What to do: give each series one group, or let a pattern do it: `--group-by REGEX`.
Source: Kapoor and Narayanan 2023, Leakage and the reproducibility crisis; fault D7.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from espalier.audit.groups import OWN_SPLIT_STAYS, in_turn
from espalier.audit.series import guessed_series
from espalier.audited import Audited, Embedded
from espalier.findings import Case, Correction, Evidence, Finding
from espalier.records import SPLITS, Sample
from espalier.rules import CannotJudge, threshold

CODE = "AUD015"
Series = Mapping[str, tuple[Sample, ...]]


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    alike: float = threshold(
        0.85, "share", "of comparisons in which images of one series are the more alike ones"
    )
    compared: float = threshold(20, "comparisons", "that are needed to judge by features")


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding where a series lies in several parts and its images are alike."""
    free = [sample for sample in subject.readable if not sample.group]
    if len({sample.split for sample in free}) < 2:
        raise CannotJudge("the data has one part only, or every image has a group")
    guessed = guessed_series(free)
    scattered = {n: s for n, s in guessed.items() if len({one.split for one in s}) > 1}
    if not scattered:
        return None
    if subject.pairs is None and subject.embedded is None:
        raise CannotJudge("names look like series, but no picture was compared with another")
    paired = _paired(subject, scattered)
    alike, compared = _alike(subject.embedded, guessed)
    by_features = compared >= thresholds.compared and alike >= thresholds.alike
    confirmed = scattered if by_features else {name: scattered[name] for name in paired}
    if not confirmed:
        return None
    count = sum(len(series) for series in confirmed.values())
    return Finding(
        rule="group_leakage",
        code=CODE,
        severity="warning",
        cause=f"{len(confirmed):,} series of {count:,} images in all lie in several parts",
        evidence=(
            Evidence("scattered series with pairs that look alike", float(len(paired)), 1.0),
            *_by_features(alike, compared, thresholds),
        ),
        confidence=0.9 if by_features and paired else 0.75,
        advice=(
            *(OWN_SPLIT_STAYS,) * subject.given_split,
            "Accept the groups, or name them by a pattern: --group-by REGEX.",
            "Expect lower scores then: they are the honest ones.",
        ),
        cases=tuple(_case(n, s, paired.get(n, 0)) for n, s in _most_pairs(confirmed, paired)),
        consequences=("near_duplicates_across_splits",),
    )


def _paired(subject: Audited, scattered: Series) -> dict[str, int]:
    """Pairs that join two images of one scattered series, by series; none is left out."""
    home = {sample.sample_id: name for name, series in scattered.items() for sample in series}
    found: dict[str, int] = {}
    for pair in subject.pairs or ():
        name = home.get(pair.first)
        if pair.kind != "exact" and name is not None and name == home.get(pair.second):
            found[name] = found.get(name, 0) + 1
    return found


def _alike(embedded: Embedded | None, guessed: Series) -> tuple[float, int]:
    """How often two images of a series are more alike than two of one label in other series.

    Returns:
        The share of comparisons, ties counted half, and their number; 0.5 without any.
    """
    if embedded is None:
        return 0.5, 0
    centred = embedded.features - embedded.features.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    units = centred / np.maximum(lengths, 1e-12)
    rows = {name: row for row, name in enumerate(embedded.sample_ids)}
    wins = [
        0.5 + 0.5 * float(np.sign(units[one] @ units[mate] - units[one] @ units[stranger]))
        for one, mate, stranger in _triplets(guessed, rows)
    ]
    return (sum(wins) / len(wins), len(wins)) if wins else (0.5, 0)


def _triplets(guessed: Series, rows: Mapping[str, int]) -> Iterator[tuple[int, int, int]]:
    """An image, the next one of its series, and one of the same label in another series."""
    by_label: dict[str | None, list[list[int]]] = {}
    for series in guessed.values():
        known = [rows[sample.sample_id] for sample in series if sample.sample_id in rows]
        by_label.setdefault(series[0].label, []).append(known)
    for known_series in by_label.values():
        for number, series_rows in enumerate(known_series):
            # Not the neighbour: series that follow each other may show one thing after all.
            others = known_series[(number + max(1, len(known_series) // 2)) % len(known_series)]
            if others is series_rows or not others:
                continue
            for at, (one, mate) in enumerate(itertools.pairwise(series_rows)):
                yield one, mate, others[at % len(others)]


def _by_features(alike: float, compared: int, thresholds: Thresholds) -> tuple[Evidence, ...]:
    if compared < thresholds.compared:
        return ()
    return (
        Evidence("images of a series are the more alike ones", alike, thresholds.alike, "share"),
    )


def _most_pairs(
    confirmed: Series, paired: Mapping[str, int]
) -> list[tuple[str, tuple[Sample, ...]]]:
    return sorted(confirmed.items(), key=lambda one: (-paired.get(one[0], 0), -len(one[1])))


def _case(name: str, series: Sequence[Sample], pairs: int) -> Case:
    parts = [split for split in SPLITS if any(sample.split == split for sample in series)]
    seen = f"; {pairs} pairs look alike" if pairs else ""
    return Case(
        samples=tuple(sample.sample_id for sample in in_turn(series, lambda one: one.split)),
        text=f"{name}: {len(series)} images in {' and '.join(parts)}{seen}",
        score=float(pairs) + len(series) / 1000,
        corrections=tuple(
            Correction(sample.sample_id, "group", name, "one series by name and likeness")
            for sample in series
        ),
        label=series[0].label or "",
    )

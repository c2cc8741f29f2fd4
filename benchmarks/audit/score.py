"""What was found of what was planted: plain counting, on the findings as ``--json`` has them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]
Link = tuple[str, str]
Cases = Sequence[Sequence[str]]

COPY_RULES = (
    "exact_duplicates",
    "near_duplicates",
    "duplicates_across_splits",
    "near_duplicates_across_splits",
    "conflicting_labels",
)
DRAWS = 2000


@dataclass(frozen=True)
class Score:
    """How many were planted, how many of them found, and how many false alarms came with them."""

    planted: int
    found: int
    false: int

    def __add__(self, other: Score) -> Score:
        return Score(
            self.planted + other.planted, self.found + other.found, self.false + other.false
        )

    def to_json(self) -> dict[str, Any]:
        """Counts, and recall and precision with their 95 % intervals; None of nothing."""
        return {
            "planted": self.planted,
            "found": self.found,
            "false": self.false,
            "recall": share(self.found, self.planted),
            "precision": share(self.found, self.found + self.false),
        }


def share(part: int, whole: int) -> dict[str, float] | None:
    """A share with Wilson's 95 % score interval; None of nothing."""
    if not whole:
        return None
    z, p = 1.959964, part / whole
    middle = p + z * z / (2 * whole)
    reach = z * math.sqrt(p * (1 - p) / whole + z * z / (4 * whole * whole))
    scale = 1 + z * z / whole
    return {
        "value": round(p, 4),
        "low": round(max(0.0, (middle - reach) / scale), 4),
        "high": round(min(1.0, (middle + reach) / scale), 4),
    }


def cases_of(record: Mapping[str, Any], rule: str) -> list[list[str]]:
    """Paths of each case of a rule; nothing where it did not fire."""
    return [
        case["paths"]
        for finding in record["findings"]
        if finding["rule"] == rule
        for case in finding["cases"]
    ]


def linked(record: Mapping[str, Any]) -> list[Link]:
    """Which files an audit says show the same picture, by any of its rules."""
    groups = [case for rule in COPY_RULES for case in cases_of(record, rule)]
    return [(group[0], other) for group in groups for other in group[1:]]


def score_copies(cases: Cases, planted: Sequence[Link], known: Iterable[Link]) -> Score:
    """A planted copy is found where a case shows it with its source.

    False are the joins that neither what was planted nor what is known explains: a case of five
    files that fall into two groups of copies joins them once too often.

    Args:
        cases: Files that a rule says to be copies of each other.
        planted: Copy and source, for this rule.
        known: All other copies: planted for other rules, or in the photographs anyway.
    """
    together = [set(case) for case in cases]
    found = sum(any({copy, source} <= case for case in together) for copy, source in planted)
    root = roots([*planted, *known])
    false = sum(len({root.get(path, path) for path in case}) - 1 for case in together)
    return Score(len(planted), found, false)


def roots(links: Iterable[Link]) -> dict[str, str]:
    """The same name for all files that hang together."""
    above: dict[str, str] = {}

    def root(name: str) -> str:
        while above.setdefault(name, name) != name:
            name = above[name]
        return name

    for one, other in links:
        above[root(one)] = root(other)
    return {name: root(name) for name in above}


def score_files(cases: Cases, planted: Collection[str], known: Collection[str]) -> Score:
    """For rules about single files; what the rule says of the clean set counts for nothing."""
    said = {path for case in cases for path in case}
    wanted = set(planted)
    return Score(len(wanted), len(said & wanted), len(said - wanted - set(known)))


# ---- suspect labels


def score_flags(flagged: Flags, wrong: Flags, counts: Flags) -> Score:
    """Suspects [N] against labels that are wrong on purpose, among the rows that count."""
    return Score(
        int((wrong & counts).sum()),
        int((flagged & wrong & counts).sum()),
        int((flagged & ~wrong & counts).sum()),
    )


def f1(score: Score) -> float:
    """Harmonic mean of recall and precision."""
    total = score.planted + score.found + score.false
    return 2 * score.found / total if total else 0.0


def compared(ours: Flags, theirs: Flags, wrong: Flags, counts: Flags, seed: int) -> dict[str, Any]:
    """F1 of both and their difference, with 95 % bootstrap intervals over the images."""
    code = (4 * ours + 2 * theirs + wrong).astype(np.int64)[counts]
    table = np.bincount(code, minlength=8)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(code), table / len(code), size=DRAWS)
    mine, other = _f1_of(draws, 4), _f1_of(draws, 2)
    return {
        "ours": _with_interval(f1(score_flags(ours, wrong, counts)), mine),
        "theirs": _with_interval(f1(score_flags(theirs, wrong, counts)), other),
        "difference": _with_interval(
            f1(score_flags(ours, wrong, counts)) - f1(score_flags(theirs, wrong, counts)),
            mine - other,
        ),
    }


def _f1_of(draws: npt.NDArray[np.int64], bit: int) -> npt.NDArray[np.float64]:
    """F1 of each draw [D] from counts by code [D, 8]; ``bit`` says who flags."""
    codes = np.arange(8)
    flags, wrong = codes & bit > 0, codes & 1 > 0
    hits = draws[:, flags & wrong].sum(axis=1)
    total = draws[:, flags].sum(axis=1) + draws[:, wrong].sum(axis=1)
    found: npt.NDArray[np.float64] = 2 * hits / np.maximum(1, total)
    return found


def _with_interval(value: float, draws: npt.NDArray[np.float64]) -> dict[str, float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"value": round(value, 4), "low": round(float(low), 4), "high": round(float(high), 4)}

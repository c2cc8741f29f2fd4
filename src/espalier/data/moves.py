"""Moves that a person accepted hold through the split: what is free in it gives way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from espalier.records import Sample, Split

Samples = tuple[Sample, ...]
Notes = tuple[str, ...]


def split_around(
    samples: Sequence[Sample],
    moves: Mapping[str, Split],
    split: Callable[[Sequence[Sample]], tuple[Samples, Notes]],
) -> tuple[Samples, Notes]:
    """The samples split as if nothing had been moved, but that moves hold.

    Copies and the group of a moved image go along, unless a person has put them where they are.

    Args:
        samples: In the parts that a person gave them; moves not yet made.
        moves: ``sample_id`` -> part.
        split: Puts samples into parts, and gives notes.
    """
    given = {s.split for s in samples if s.status == "ok"} - {None}
    early = {
        s.sample_id: moves[s.sample_id]
        for s in samples
        if s.split and moves.get(s.sample_id) in given
    }
    # Moves between given parts come first, so that notes on leaks are about what is left of them.
    asked = in_parts(samples, early)
    made, notes = split(asked)
    pairs = list(zip(asked, made, strict=True))
    was_divided = any(a.split == "train" and m.split != "train" for a, m in pairs)
    free = {a.sample_id for a in asked if a.split is None or (was_divided and a.split == "train")}
    return in_parts(made, _with_company(made, moves, free)), notes


def in_parts(samples: Sequence[Sample], parts: Mapping[str, Split | None]) -> Samples:
    """The samples, those that are named put into other parts."""
    return tuple(replace(s, split=parts.get(s.sample_id, s.split)) for s in samples)


def _with_company(
    samples: Sequence[Sample], moves: Mapping[str, Split], free: set[str]
) -> dict[str, Split]:
    """The moves, and those that go along: over any number of copies and groups."""
    parts = dict(moves)
    usable = [sample for sample in samples if sample.status == "ok"]
    while True:
        ties = {tie: parts[s.sample_id] for s in usable if s.sample_id in parts for tie in _ties(s)}
        more = {
            s.sample_id: ties[tie]
            for s in usable
            if s.sample_id in free and s.sample_id not in parts
            for tie in _ties(s)
            if tie in ties
        }
        if not more:
            return parts
        parts.update(more)


def _ties(sample: Sample) -> list[tuple[str, str]]:
    """What binds an image to others, the strongest last: where two bind apart, that one holds."""
    group = [] if sample.group is None else [("group", sample.group)]
    return [*group, ("content", sample.content)]

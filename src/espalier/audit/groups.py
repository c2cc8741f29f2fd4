"""Images that hang together by pairs: which splits and which labels such a group touches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from espalier.audited import Audited, Pair
from espalier.records import SPLITS, Sample, Split

T = TypeVar("T")

OWN_SPLIT_STAYS = (
    "What you have put into a part stays there, whatever its group: put all pictures into one "
    "folder per class first, and Espalier makes the split."
)
"""Advice where groups alone would change nothing."""


class Chains:
    """Which things hang together: joined one pair at a time."""

    def __init__(self) -> None:
        self._above: dict[Hashable, Hashable] = {}

    def joined(self, one: Hashable, other: Hashable) -> bool:
        """Whether there is a chain of joined pairs between the two."""
        return self.root(one) == self.root(other)

    def join(self, one: Hashable, other: Hashable) -> bool:
        """Join two; False where they hang together already."""
        root, other_root = self.root(one), self.root(other)
        self._above[other_root] = root
        return root != other_root

    def root(self, one: Hashable) -> Hashable:
        """The same thing for all that hang together."""
        above = self._above
        while above.get(one, one) != one:
            above[one] = above.get(above[one], above[one])
            one = above[one]
        return one


@dataclass(frozen=True)
class Group:
    """Images that show the same picture.

    Attributes:
        samples: In catalog order, at least two.
        pairs: What joins them.
    """

    samples: tuple[Sample, ...]
    pairs: tuple[Pair, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """``sample_id`` of each."""
        return tuple(sample.sample_id for sample in self.samples)

    def names_by_turns(self, kind: Callable[[Sample], Hashable]) -> tuple[str, ...]:
        """The same, the first of each kind ahead: a gallery shows the first few only."""
        return tuple(sample.sample_id for sample in in_turn(self.samples, kind))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels it carries, each once; images without one do not count."""
        return tuple(sorted({sample.label for sample in self.samples if sample.label}))

    @property
    def splits(self) -> tuple[Split, ...]:
        """The parts of the data it lies in, in their order."""
        return tuple(s for s in SPLITS if any(sample.split == s for sample in self.samples))

    @property
    def similarity(self) -> float:
        """Of its weakest pair."""
        return min((pair.similarity for pair in self.pairs), default=0.0)

    @property
    def how(self) -> str:
        """What told, of its weakest pair."""
        return min(self.pairs, key=lambda pair: pair.similarity).how if self.pairs else ""

    @property
    def crosses(self) -> bool:
        """Whether different files, not only equal ones, lie in different splits."""
        contents: dict[str, set[str]] = {}
        for sample in self.samples:
            if sample.split:
                contents.setdefault(sample.split, set()).add(sample.content)
        return len(contents) > 1 and len(set.union(*contents.values())) > 1

    def within(self, split: Split | None) -> Group:
        """Its images of one split."""
        samples = tuple(sample for sample in self.samples if sample.split == split)
        return Group(samples, self.pairs)

    def judged(self) -> tuple[Sample, ...]:
        """The images to keep where it lies in several splits: test before val before train."""
        last = self.splits[-1]
        return tuple(sample for sample in self.samples if sample.split == last)


def in_turn(things: Iterable[T], kind: Callable[[T], Hashable]) -> list[T]:
    """The first thing of each kind, then the second of each, each in the given order."""
    seen: Counter[Hashable] = Counter()
    ranked = []
    for thing in things:
        seen[kind(thing)] += 1
        ranked.append((seen[kind(thing)], thing))
    return [thing for _, thing in sorted(ranked, key=lambda one: one[0])]


def exact_groups(subject: Audited) -> list[Group]:
    """Groups of equal files; ``CannotJudge`` where nobody looked for copies."""
    return _groups(subject, [pair for pair in subject.require_pairs() if pair.kind == "exact"])


def near_groups(subject: Audited) -> list[Group]:
    """Groups with at least two different files; ``CannotJudge`` where nobody looked for copies."""
    same = [pair for pair in subject.require_pairs() if pair.kind in ("exact", "near")]
    return [
        group
        for group in _groups(subject, same)
        if any(pair.kind == "near" for pair in group.pairs)
    ]


def same_groups(subject: Audited) -> list[Group]:
    """Groups of equal or nearly equal files; ``CannotJudge`` where nobody looked for copies."""
    same = [pair for pair in subject.require_pairs() if pair.kind in ("exact", "near")]
    return _groups(subject, same)


def most_leaked(subject: Audited, groups: Sequence[Group]) -> tuple[int, Split]:
    """The part, val or test, with the largest share of copies of images of the parts before it.

    Returns:
        Its number of such images, and the part.
    """
    found: list[tuple[float, int, Split]] = []
    for split in SPLITS[1:]:
        before = set(SPLITS[: SPLITS.index(split)])
        leaked = sum(len(g.within(split).samples) for g in groups if before & set(g.splits))
        found.append((leaked / max(1, len(subject.catalog.in_split(split))), leaked, split))
    _, leaked, split = max(found)
    return leaked, split


def _groups(subject: Audited, pairs: Iterable[Pair]) -> list[Group]:
    known = set(subject.samples)
    listed = [pair for pair in pairs if pair.first in known and pair.second in known]
    chains = Chains()
    for pair in listed:
        chains.join(pair.first, pair.second)
    members: dict[Hashable, list[Sample]] = {}
    joining: dict[Hashable, list[Pair]] = {}
    for pair in listed:
        joining.setdefault(chains.root(pair.first), []).append(pair)
    for sample in subject.catalog.samples:
        root = chains.root(sample.sample_id)
        if root in joining:
            members.setdefault(root, []).append(sample)
    return [Group(tuple(members[root]), tuple(found)) for root, found in joining.items()]

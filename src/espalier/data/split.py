"""Which image trains, which validates, which tests; each independent image in exactly one part.

Exact copies (equal bytes) and images of one group count as one *unit*, which is never divided. The
draw depends on the bytes of the images and on the seed alone: not on names, folders or their order.

Per class, by its number of units:

- 1: it trains. Nothing can be said about how well that class is recognised.
- 2: one trains, one tests (where no test part is made: one trains, one validates).
- 3: one in each part.
- more: the shares, rounded per class, and at least one unit in each part.

Where a data set brings some parts, only the missing ones are made, out of its training images; a
missing part takes its share of these. What a person has assigned is never moved otherwise.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from espalier.errors import DataError
from espalier.records import SPLITS, Sample, Split

SPLIT_WORDS: dict[str, Split] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Names of folders and words in manifests for each part."""

# The order in which a class with few units reaches the parts.
_COVERAGE: tuple[Split, ...] = ("train", "test", "val")

Shares = Mapping[Split, float]


@dataclass(frozen=True)
class _Unit:
    """Images that stay together: their positions, labels, and a place in the draw."""

    members: tuple[int, ...]
    labels: Counter[str]
    draw: str

    @property
    def size(self) -> int:
        return len(self.members)


def assign_splits(
    samples: Sequence[Sample], *, val_share: float, test_share: float, seed: int
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """The samples with their part of the data, as the rules above say; and notes for a person.

    Unreadable samples keep what they were given. Shares are in [0, 1); a share of 0 makes no part.
    """
    shares: dict[Split, float] = {
        "train": 1.0 - val_share - test_share,
        "val": val_share,
        "test": test_share,
    }
    usable = [i for i, sample in enumerate(samples) if sample.status == "ok"]
    given = {samples[i].split for i in usable} - {None}
    missing = [part for part in SPLITS[1:] if shares[part] > 0 and part not in given]
    notes = _leaks(samples, usable)
    if given and not missing:
        pool = {i for i in usable if samples[i].split is None}
        base = usable
        shares = {part: share for part, share in shares.items() if share > 0 or part == "train"}
    else:
        pool = {i for i in usable if samples[i].split in (None, "train")}
        base = sorted(pool)
        held_out: dict[Split, float] = {part: shares[part] for part in missing}
        shares = {"train": 1.0 - sum(held_out.values()), **held_out}
    if not pool:
        return tuple(samples), tuple(notes)
    parts, rules = _divide(samples, usable, pool, base, shares, seed)
    notes += _made(given, missing, parts) + (rules if missing else [])
    return _with_parts(samples, parts), tuple(notes)


def follow_split(
    samples: Sequence[Sample], earlier: Sequence[Sample], *, seed: int
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """The samples in the parts that equal bytes had earlier; new ones keep the earlier shares.

    Raises:
        DataError: None of the images was in the earlier split.
    """
    known = {e.content: e.split for e in reversed(earlier) if e.status == "ok" and e.split}
    usable = [i for i, sample in enumerate(samples) if sample.status == "ok"]
    kept = {i: known[samples[i].content] for i in usable if samples[i].content in known}
    if not kept:
        raise DataError(
            f"none of the {len(usable):,} images is in the earlier split, by their bytes",
            hint="name the run that was trained on these images, or leave split_from out",
        )
    overruled = sum(samples[i].split not in (None, part) for i, part in kept.items())
    marked = _with_parts(samples, kept)
    pool = {i for i in usable if marked[i].split is None}
    found = Counter(known.values())
    shares: dict[Split, float] = {
        part: found[part] / found.total() for part in SPLITS if found[part] > 0
    }
    parts = _divide(marked, usable, pool, usable, shares, seed)[0] if pool else {}
    notes = _leaks(marked, usable)
    notes += _followed(len(kept), len(pool), overruled, known, samples)
    return _with_parts(marked, parts), tuple(notes)


def _with_parts(samples: Sequence[Sample], parts: Mapping[int, Split | None]) -> tuple[Sample, ...]:
    return tuple(
        replace(sample, split=parts[i]) if i in parts else sample
        for i, sample in enumerate(samples)
    )


def _divide(
    samples: Sequence[Sample],
    usable: Sequence[int],
    pool: set[int],
    base: Sequence[int],
    shares: Shares,
    seed: int,
) -> tuple[dict[int, Split], list[str]]:
    """A part for every image of the pool; notes on classes with few units.

    Args:
        samples: All samples.
        usable: Positions of readable samples.
        pool: Positions of those to assign.
        base: Positions that the shares are meant of.
        shares: Of the parts that may be assigned to; they sum to 1.
        seed: Of the draw.
    """
    parts: dict[int, Split] = {}
    units: list[_Unit] = []
    for members in _components(samples, usable):
        free = [i for i in members if i in pool]
        fixed = {samples[i].split for i in members if i not in pool}
        if fixed:
            home = next(part for part in SPLITS if part in fixed)
            parts.update({i: samples[i].split or home for i in free})
        elif free:
            units.append(_unit(samples, free, seed))
    placed = _Placement(shares, Counter(_label(samples[i]) for i in base))
    for i in base:
        part = parts.get(i, samples[i].split if i not in pool else None)
        if part is not None:
            placed.have[_label(samples[i])][part] += 1
    for unit, part in placed.place(units):
        parts.update(dict.fromkeys(unit.members, part))
    return parts, _small_classes(units, tuple(shares))


def _unit(samples: Sequence[Sample], members: Sequence[int], seed: int) -> _Unit:
    first = min(samples[i].content for i in members)
    draw = hashlib.sha256(f"{seed}:{first}".encode()).hexdigest()
    return _Unit(tuple(members), Counter(_label(samples[i]) for i in members), draw)


def _label(sample: Sample) -> str:
    return sample.label or ""


def _components(samples: Sequence[Sample], usable: Sequence[int]) -> list[list[int]]:
    """Positions joined by equal bytes or equal group, over any number of links."""
    parent = {i: i for i in usable}

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    first: dict[tuple[str, str], int] = {}
    for i in usable:
        keys = [("content", samples[i].content)]
        keys += [("group", group)] if (group := samples[i].group) is not None else []
        for key in keys:
            parent[root(i)] = root(first.setdefault(key, i))
    joined: dict[int, list[int]] = defaultdict(list)
    for i in usable:
        joined[root(i)].append(i)
    return list(joined.values())


class _Placement:
    """Units placed one after the other: first so that each part sees each class, then by shares."""

    def __init__(self, shares: Shares, totals: Mapping[str, int]) -> None:
        self.parts = [part for part in _COVERAGE if part in shares]
        self.have: dict[str, Counter[Split]] = {name: Counter() for name in totals}
        self.wanted = {name: _quota(total, shares) for name, total in totals.items()}
        self.placed: dict[str, Split] = {}

    def place(self, units: Sequence[_Unit]) -> list[tuple[_Unit, Split]]:
        """Every unit with its part."""
        self._cover(units)
        for unit in sorted(units, key=lambda unit: (-unit.size, unit.draw)):
            if unit.draw not in self.placed:
                self._put(unit, max(self.parts, key=lambda part: self._gain(unit, part)))
        return [(unit, self.placed[unit.draw]) for unit in units]

    def _cover(self, units: Sequence[_Unit]) -> None:
        """One unit of each class to each part, as far as they reach; large ones train."""
        by_class: dict[str, list[_Unit]] = defaultdict(list)
        for unit in sorted(units, key=lambda unit: (unit.size, unit.draw)):
            for name in unit.labels:
                by_class[name].append(unit)
        rarest_first = sorted(by_class, key=lambda name: (len(by_class[name]), name))
        # All classes train before any is held out: a unit of two classes must not leave one of
        # them with nothing to train on.
        for part in self.parts:
            for name in rarest_first:
                free = [unit for unit in by_class[name] if unit.draw not in self.placed]
                if free and not self.have[name][part]:
                    self._put(free[-1] if part == "train" else free[0], part)

    def _put(self, unit: _Unit, part: Split) -> None:
        self.placed[unit.draw] = part
        for name, count in unit.labels.items():
            self.have[name][part] += count

    def _gain(self, unit: _Unit, part: Split) -> int:
        """How much the squared distance to the wanted counts falls."""
        return sum(
            count * (2 * (self.wanted[name][part] - self.have[name][part]) - count)
            for name, count in unit.labels.items()
        )


def _quota(total: int, shares: Shares) -> dict[Split, int]:
    """Images wanted per part, of one class: rounded half up, none of the held-out parts empty."""
    wanted: dict[Split, int] = {
        part: max(1, math.floor(total * share + 0.5))
        for part, share in shares.items()
        if part != "train"
    }
    return {**wanted, "train": total - sum(wanted.values())}


def _small_classes(units: Sequence[_Unit], parts: Sequence[Split]) -> list[str]:
    """One note for each of the rules for 1, 2 and 3 units, naming the classes it was used on."""
    if len(parts) == 1:
        return []
    found = Counter(name for unit in units for name in unit.labels)
    order = [part for part in _COVERAGE if part in parts]
    notes = []
    for count in range(1, len(order) + 1):
        names = sorted(name for name, n in found.items() if n == count)
        if names:
            classes = "1 class" if len(names) == 1 else f"{len(names)} classes"
            images = "1 independent image" if count == 1 else f"{count} independent images"
            places = ", ".join(f"one for {part}" for part in order[:count])
            notes.append(f"{classes} with {images} ({places}): {_some(names)}")
    return notes


def _made(
    given: set[Split | None], missing: Sequence[Split], parts: Mapping[int, Split]
) -> list[str]:
    counts = Counter(parts.values())
    notes = [
        f"no {part} part was given: {counts[part]:,} of {len(parts):,} training images are now it"
        for part in missing
        if given and counts[part]
    ]
    empty = [part for part in missing if not counts[part]]
    return notes + [f"no image is left for {part}: too few independent images" for part in empty]


def _followed(
    kept: int, new: int, overruled: int, known: Mapping[str, Split], samples: Sequence[Sample]
) -> list[str]:
    gone = len(known.keys() - {sample.content for sample in samples})
    notes = [f"{kept:,} images keep the part of the earlier split"]
    if new:
        notes.append(f"{new:,} images are new and were divided to keep the earlier shares")
    if gone:
        notes.append(f"{gone:,} images of the earlier split are no longer there")
    if overruled:
        notes.append(
            f"{overruled:,} images are not in the part of their folder: split_from decides"
        )
    return notes


def _leaks(samples: Sequence[Sample], usable: Sequence[int]) -> list[str]:
    """Notes on copies and groups that a person has put into more than one part."""
    copies: dict[str, list[Sample]] = defaultdict(list)
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in (samples[i] for i in usable if samples[i].split):
        copies[sample.content].append(sample)
        if sample.group is not None:
            groups[sample.group].append(sample)
    return [
        f"{len(torn):,} {what} lie in more than one of the given parts ({_example(torn[0])}); "
        "they stay there, and make scores look better than they are"
        for what, found in (("images with exact copies", copies), ("groups", groups))
        if (torn := [same for same in found.values() if len({s.split for s in same}) > 1])
    ]


def _example(same: Sequence[Sample]) -> str:
    other = next(sample for sample in same if sample.split != same[0].split)
    return " and ".join(f"{s.split}: {PurePath(s.path).name}" for s in (same[0], other))


def _some(names: Sequence[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more

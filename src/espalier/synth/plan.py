"""Which variants to make: a pure function of the seed and of each photograph's bytes."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espalier.errors import DataError

INTENSITIES: Mapping[str, float] = {"light": 0.25, "medium": 0.5, "heavy": 1.0}
"""How much is painted, on the scale of ``Painter.paint``."""

# Steps of the golden ratio spread the variants of one photograph evenly over the shares.
_GOLDEN = (math.sqrt(5) - 1) / 2
# Raise it when a painter's pictures change: files of another version have other names.
_VERSION = 1
_LONGEST_STEM = 180


@dataclass(frozen=True)
class Original:
    """A photograph to paint on.

    Attributes:
        path: The file.
        content: First 16 hex digits of the SHA-256 of its bytes.
    """

    path: Path
    content: str


@dataclass(frozen=True)
class Variant:
    """One painted photograph, before it is made.

    Attributes:
        original: What it is painted on.
        painter: Name of the painter.
        number: 1 for the first variant of its original.
        intensity: ``light``, ``medium`` or ``heavy``.
        kind: One of the painter's kinds.
        seed: As the person gave it.
    """

    original: Original
    painter: str
    number: int
    intensity: str
    kind: str
    seed: int

    @property
    def key(self) -> str:
        """What decides its pixels, as hex digits."""
        words = (_VERSION, self.painter, self.original.content, self.number, self.seed)
        return _digest(*words, self.intensity, self.kind)

    @property
    def name(self) -> str:
        """Its file: the same original, seed, number and shares always give the same name."""
        # A name has room for 255 bytes in most file systems, one that is being written for fewer.
        stem = os.fsencode(self.original.path.stem)[:_LONGEST_STEM].decode(errors="ignore")
        return f"{stem}__{self.painter}_{self.number}_{self.key[:8]}.jpg"

    @property
    def random_seed(self) -> int:
        """Seed of the generator that paints it."""
        return int(self.key, 16)


def variants(
    originals: Sequence[Original],
    *,
    painter: str,
    kinds: Sequence[str],
    shares: Mapping[str, float],
    seed: int,
) -> Iterator[Variant]:
    """All variants without end: the first of every original, then the second of every one.

    Intensity and kind of a variant depend on (seed, bytes of the original, number) alone, so that
    photographs can be added without changing what is there; the shares hold on average.
    """
    ranked = sorted(originals, key=lambda one: _digest(seed, one.content))
    number = 0
    while ranked:
        number += 1
        for original in ranked:
            yield Variant(
                original,
                painter,
                number,
                _intensity(original, number, shares, seed),
                kinds[int(_digest("kind", seed, original.content, number), 16) % len(kinds)],
                seed,
            )


def _intensity(original: Original, number: int, shares: Mapping[str, float], seed: int) -> str:
    start = int(_digest("intensity", seed, original.content), 16) / 16**16
    place = (start + number * _GOLDEN) % 1 * sum(shares.values())
    for name, share in shares.items():
        place -= share
        if place < 0 and share > 0:
            return name
    return max(shares, key=lambda name: shares[name])


def missing_for_ratio(ratio: float, *, clean: int, real: int, made: int) -> int:
    """How many variants are still to make until (real + made) : clean is the ratio; at least 0."""
    # A ratio such as 1.1 times 10 is 11.000000000000002.
    return max(0, math.ceil(round(ratio * clean, 6)) - real - made)


def parse_shares(text: str) -> dict[str, float]:
    """``light=0.3,medium=0.5,heavy=0.2`` as shares that sum to 1; what is not named has none.

    Raises:
        DataError: Unknown names, no numbers, or nothing that is above zero.
    """
    problems, shares = [], dict.fromkeys(INTENSITIES, 0.0)
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\w+)\s*=\s*(\d*\.?\d+)\s*", part)
        if found is None:
            problems.append(f"`{part}` is not NAME=SHARE")
        elif found[1] not in shares:
            problems.append(f"`{found[1]}` is not one of {', '.join(shares)}")
        else:
            shares[found[1]] = float(found[2])
    total = sum(shares.values())
    if problems or total <= 0:
        raise DataError(
            f"the intensities `{text}` cannot be used",
            problems=problems or ["all shares are 0"],
            hint="--intensity light=0.3,medium=0.5,heavy=0.2",
        )
    return {name: share / total for name, share in shares.items()}


def _digest(*words: object) -> str:
    text = "\x1f".join(str(word) for word in words)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]

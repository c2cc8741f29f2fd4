"""What is usual in a data set, and how far one image is from it: by the median, never the mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from espalier.audited import Audited, Look
from espalier.findings import Severity, percent
from espalier.records import Sample
from espalier.rules import CannotJudge

CONSTANT_CONTRAST = 0.01
"""Below this contrast a picture is flat: two or three of 255 steps of gray."""
ONE_TONE, ONE_TONE_OF_LIGHT = 0.0025, 0.07
"""Contrast below which a flat picture shows nothing: absolute, and over its distance from black or
white. Photographs that kept 5 % of their light have 0.0034 and 0.068 or more."""
FEWEST = 20
"""Of fewer images nobody can say what is usual."""

# The median absolute deviation of a normal distribution, times this, is its standard deviation.
_NORMAL = 1.4826


@dataclass(frozen=True, slots=True)
class Usual:
    """Where most values lie.

    Attributes:
        median: Half of the values are below it.
        spread: Median absolute deviation x 1.4826: the standard deviation, were it normal.
    """

    median: float
    spread: float

    def distance(self, value: float) -> float:
        """How many spreads a value lies above the median; negative below."""
        return (value - self.median) / self.spread


def usual(values: Sequence[float], *, finest: float) -> Usual:
    """Median and spread of measured values.

    Args:
        values: At least one.
        finest: Spread that is assumed at least, so that sets of equal images do not make every
            little difference an outlier.
    """
    numbers = np.asarray(values, dtype=np.float64)
    median = float(np.median(numbers))
    return Usual(median, max(finest, _NORMAL * float(np.median(np.abs(numbers - median)))))


def looked_at(subject: Audited, fewest: int = 1) -> list[tuple[Sample, Look]]:
    """Readable images with what pixels and header say, in catalog order.

    Raises:
        CannotJudge: There are fewer than ``fewest``.
    """
    known = [
        (s, subject.looks[s.sample_id]) for s in subject.readable if s.sample_id in subject.looks
    ]
    if not known:
        raise CannotJudge(subject.unknown.get("looks", "no image was looked at"))
    if len(known) < fewest:
        raise CannotJudge(f"{len(known)} images: too few to say what is usual, {fewest} are needed")
    return known


def textured(subject: Audited) -> list[tuple[Sample, Look]]:
    """The same without pictures of one tone, which are reported as such; at least 20.

    Raises:
        CannotJudge: There are fewer.
    """
    known = looked_at(subject, FEWEST)
    shown = [(sample, look) for sample, look in known if look.contrast >= CONSTANT_CONTRAST]
    if len(shown) < FEWEST:
        raise CannotJudge(f"only {len(shown)} of {len(known):,} pictures show more than one tone")
    return shown


def shows_nothing(look: Look, flat: float = CONSTANT_CONTRAST) -> bool:
    """Whether a picture has one tone only; a photograph without light is flat, and no such one.

    Args:
        look: At the picture.
        flat: Contrast from which a picture shows something, whatever its light.
    """
    light = min(look.brightness, 1 - look.brightness)
    return look.contrast < min(flat, max(ONE_TONE, ONE_TONE_OF_LIGHT * light))


def severity_by_share(found: int, of: int, limit: float) -> Severity:
    """``warning`` where more than this share is concerned, else ``info``."""
    return "warning" if found > limit * of else "info"


def share_of(found: int, of: int, what: str = "images") -> str:
    """``3 of 4,211 images (0.071 %)``."""
    return f"{found:,} of {of:,} {what} ({percent(found / of)})"

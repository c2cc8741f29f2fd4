"""Training and validation images are normalised differently.

What it looks at: mean and standard deviation per channel of what the network is given, in both
    splits; where pixels before normalisation are known, they are taken into account.
Why it matters: the network is judged on numbers that it never saw, and its score says nothing.
When it is wrong: the photographs of validation really are darker or flatter; then the pixels
    before normalisation differ as well, and the rule stays silent. Strong changes of colour in
    training look like another normalisation: where they change images as much, the limits double.
What to do: use one normalisation for both.
Source: fault D9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.findings import Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord, SplitPixels

CODE = "RUN013"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    mean: float = threshold(0.5, "standard deviations", "between the means of a channel")
    ratio: float = threshold(1.5, "times", "between the spreads of a channel, or its inverse")
    noise: float = threshold(0.7, "standard deviations", "between the means of single images")
    errors: float = threshold(3.0, "standard errors", "by which means must differ as well")
    drawn: float = threshold(0.9, "standard deviations", "between draws, from which limits double")
    surely: float = threshold(2.0, "times these", "from which pictures cannot be the reason")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """An error where the splits differ after normalisation more than before it."""
    train, val = subject.data.train, subject.data.val
    if train is None or val is None:
        raise CannotJudge("needs pixels of training and of validation")
    if len(train.mean) != len(val.mean) or min(train.images, val.images) < 1:
        raise CannotJudge("training and validation images have different channels")
    if not all(map(math.isfinite, (*train.mean, *train.std, *val.mean, *val.std))):
        raise CannotJudge("needs pixels that are numbers")
    shift, stretch = _difference((train.mean, train.std), (val.mean, val.std))
    raw = _raw_difference(train, val)
    shift = abs(shift if raw is None else shift - raw[0])
    stretch = stretch if raw is None else stretch / raw[1]
    error = thresholds.noise * math.sqrt(1 / train.images + 1 / val.images)
    # Chance that changes images so much changes their means and spreads as well.
    loose = thresholds.surely if raw is None and _is_wild(train, thresholds) else 1.0
    allowed = loose * max(thresholds.mean, thresholds.errors * error)
    spread = max(stretch, 1 / stretch)
    if shift <= allowed and spread <= loose * thresholds.ratio:
        return None
    # Pictures from elsewhere differ, too, but hardly by so much.
    surely = max(shift / thresholds.mean, spread / thresholds.ratio) > thresholds.surely
    return Finding(
        rule="",
        code="",
        severity="error",
        cause="training and validation images are normalised differently: mean "
        f"{_numbers(train.mean)} against {_numbers(val.mean)}, standard deviation "
        f"{_numbers(train.std)} against {_numbers(val.std)}",
        evidence=(
            Evidence("distance of the means", shift, allowed, "std"),
            Evidence("ratio of the spreads", spread, thresholds.ratio, "times"),
        ),
        confidence=0.95 if raw is not None or surely else 0.75,
        advice=("Build the normalisation once and give the same object to both splits.",),
        consequences=_CONSEQUENCES,
    )


def _is_wild(train: SplitPixels, thresholds: Thresholds) -> bool:
    """Whether two draws of one training image differ nearly as two images do."""
    return (train.redraw_change or 0.0) >= thresholds.drawn


_CONSEQUENCES = (
    "validation_from_elsewhere",
    "class_order_differs",
    "labels_shuffled",
    "batch_norm_broken",
    "collapsed_to_major_classes",
    "overfitting",
    "overtrained",
    "wrong_weights_kept",
    "not_learning",
)
_Stats = tuple[tuple[float, ...], tuple[float, ...]]


def _difference(first: _Stats, second: _Stats) -> tuple[float, float]:
    """Largest distance of means, in standard deviations, and most extreme ratio of spreads."""
    shifts, ratios = [], []
    for a, s, b, t in zip(first[0], first[1], second[0], second[1], strict=True):
        low, high = sorted((max(s, 1e-6), max(t, 1e-6)))
        # Against the larger spread: a split without normalisation has a small one.
        shifts.append((b - a) / high)
        ratios.append(high / low if t >= s else low / high)
    return max(shifts, key=abs), max(ratios, key=lambda ratio: abs(math.log(ratio)))


def _raw_difference(train: SplitPixels, val: SplitPixels) -> tuple[float, float] | None:
    if train.raw_mean is None or train.raw_std is None:
        return None
    if val.raw_mean is None or val.raw_std is None or len(val.raw_mean) != len(train.raw_mean):
        return None
    return _difference((train.raw_mean, train.raw_std), (val.raw_mean, val.raw_std))


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.2f}" for value in values)

"""Images are not normalised as the trained weights expect.

What it looks at: mean, spread and range of what the network is given, against what normalisation
    with the weights' own constants can give; and those constants themselves, where both are known.
Why it matters: trained filters, and frozen BatchNorm most of all, answer to the numbers that they
    were trained on; values from 0 to 255 drown them.
When it is wrong: from random weights, with BatchNorm, any constant scale is learned: at most a
    note. Dark or bright photographs stay within the range that normalisation can give.
What to do: take mean and standard deviation from the weights' own configuration, and apply once.
Source: fault D10. UMLAUT's rule (values in [-1, 1]) fires on ImageNet's normalisation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.findings import Edit, Evidence, Finding, Severity
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunFacts, RunRecord, SplitPixels

CODE = "RUN014"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    margin: float = threshold(0.25, "share of the possible range", "beyond it, by resampling")
    largest: float = threshold(10.0, "value", "above which pixels are not normalised at all")
    images: float = threshold(4, "images", "of which none has a pixel below its mean")
    mean: float = threshold(0.5, "expected standard deviations", "between the constants")
    ratio: float = threshold(1.5, "times", "between the standard deviations, or its inverse")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where trained weights get other numbers than they know."""
    facts, pixels = subject.facts, subject.data.train or subject.data.val
    expected = facts.expected_mean is not None and facts.expected_std is not None
    if pixels is None and (facts.input_mean is None or not expected):
        raise CannotJudge("needs pixels as the network gets them, or both sets of constants")
    if pixels is not None and not (math.isfinite(pixels.low) and math.isfinite(pixels.high)):
        raise CannotJudge("needs pixels that are numbers")
    said = _of_pixels(pixels, facts, thresholds) if pixels is not None else None
    said = said or _of_constants(facts, thresholds)
    if said is None:
        return None
    cause, evidence = said
    severity = _severity(facts)
    return Finding(
        rule="",
        code="",
        severity=severity,
        cause=cause,
        evidence=evidence,
        confidence=0.9 if expected else 0.75,
        advice=(
            "Scale pixels to [0, 1], then subtract the mean and divide by the standard deviation "
            "of the weights' own configuration, once.",
        ),
        prescription=(
            Edit("data.mean", "unset", None, "the weights' own"),
            Edit("data.std", "unset", None, "the weights' own"),
        ),
        consequences=() if severity == "info" else _CONSEQUENCES,
    )


_CONSEQUENCES = (
    "bad_first_loss",
    "learning_rate_too_high",
    "learning_rate_noisy",
    "exploding_gradients",
    "dead_units",
    "saturated_units",
    "batch_norm_broken",
    "backbone_rate_erases",
    "frozen_by_mistake",
    "under_capacity",
    "underfitting",
    "not_learning",
)
_Said = tuple[str, tuple[Evidence, ...]]


def _severity(facts: RunFacts) -> Severity:
    """From random weights BatchNorm makes up for any scale."""
    return "info" if facts.pretrained is False and facts.batch_norms != 0 else "warning"


def _of_pixels(pixels: SplitPixels, facts: RunFacts, thresholds: Thresholds) -> _Said | None:
    range_of = f"values from {pixels.low:.3g} to {pixels.high:.3g}"
    if facts.expected_mean is None or facts.expected_std is None:
        if max(abs(pixels.low), abs(pixels.high)) <= thresholds.largest:
            return None
        return (
            f"images are not normalised: the network gets {range_of}",
            _range_evidence(pixels, -thresholds.largest, thresholds.largest),
        )
    ends = list(zip(facts.expected_mean, facts.expected_std, strict=True))
    low = min((0 - mean) / std for mean, std in ends)
    high = max((1 - mean) / std for mean, std in ends)
    margin = thresholds.margin * (high - low)
    evidence = _range_evidence(pixels, low, high)
    if pixels.low < low - margin or pixels.high > high + margin:
        return (
            f"the network gets {range_of}, where its weights expect {low:.2f} to {high:.2f}",
            evidence,
        )
    plain = pixels.low >= -1e-3 and pixels.high <= 1 + 1e-3
    if plain and low < -0.5 and pixels.images >= thresholds.images:
        return (
            f"images are scaled to [0, 1] and not normalised: {range_of}, where the weights "
            f"expect {low:.2f} to {high:.2f}",
            evidence,
        )
    return None


def _range_evidence(pixels: SplitPixels, low: float, high: float) -> tuple[Evidence, ...]:
    return (
        Evidence("smallest value", pixels.low, low, "", "training images"),
        Evidence("largest value", pixels.high, high, "", "training images"),
    )


def _of_constants(facts: RunFacts, thresholds: Thresholds) -> _Said | None:
    """Where the configured constants are not those of the weights."""
    if not (facts.input_mean and facts.input_std and facts.expected_mean and facts.expected_std):
        return None
    if len(facts.input_mean) != len(facts.expected_mean):
        return None
    evidence = (
        Evidence("mean", _numbers(facts.input_mean)),
        Evidence("mean of the weights", _numbers(facts.expected_mean)),
        Evidence("standard deviation", _numbers(facts.input_std)),
        Evidence("standard deviation of the weights", _numbers(facts.expected_std)),
    )
    said = (
        f"images are normalised with mean {_numbers(facts.input_mean)} and standard deviation "
        f"{_numbers(facts.input_std)}, the weights were trained with "
        f"{_numbers(facts.expected_mean)} and {_numbers(facts.expected_std)}"
    )
    return (said, evidence) if _constants_differ(facts, thresholds) else None


def _constants_differ(facts: RunFacts, thresholds: Thresholds) -> bool:
    own = zip(facts.input_mean or (), facts.input_std or (), strict=True)
    theirs = zip(facts.expected_mean or (), facts.expected_std or (), strict=True)
    return any(
        abs(mean - wanted) > thresholds.mean * wanted_std
        or max(std, wanted_std) > thresholds.ratio * min(std, wanted_std)
        for (mean, std), (wanted, wanted_std) in zip(own, theirs, strict=True)
    )


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.3g}" for value in values)

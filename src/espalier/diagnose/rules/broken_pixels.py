"""Images with values that are no numbers, or with nothing on them.

What it looks at: up to 256 images of each split as the network gets them: NaN or infinite values,
    and images of one colour.
Why it matters: one NaN makes the loss NaN, and with it every weight; an image of one colour has a
    label but nothing to learn it from.
When it is wrong: "nothing there" is a class of its own; then images of one colour are its right
    examples.
What to do: find and drop the files; look for a division by zero in the transform.
Source: fault B3 and D12 (constant share above 1 %); UMLAUT.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.diagnose.facts import of_all
from espalier.findings import Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN015"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    constant: float = threshold(0.01, "share of the images", "of one colour, above which it counts")
    images: float = threshold(2, "images", "of one colour, at least")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """An error for values that are no numbers, a warning for images of one colour."""
    looked = {"train": subject.data.train, "val": subject.data.val}
    splits = {name: pixels for name, pixels in looked.items() if pixels and pixels.images}
    if not splits:
        raise CannotJudge("needs a look at the pixels")
    for name, pixels in splits.items():
        if pixels.non_finite:
            what = of_all(pixels.non_finite, pixels.images, f"images of {name}")
            share = pixels.non_finite / pixels.images
            return _not_finite(what, Evidence("images with NaN", share, 0.0, "share", name))
    for name, pixels in splits.items():
        share = pixels.constant / pixels.images
        if pixels.constant >= thresholds.images and share > thresholds.constant:
            what = of_all(pixels.constant, pixels.images, f"images of {name}")
            return _constant(
                what, Evidence("images of one colour", share, thresholds.constant, "share", name)
            )
    return None


def _not_finite(what: str, evidence: Evidence) -> Finding:
    return Finding(
        rule="",
        code="",
        severity="error",
        cause=f"{what} have values that are no numbers",
        evidence=(evidence,),
        confidence=0.98,
        advice=(
            "Look for a division by zero in the transform (a standard deviation of 0), and drop "
            "the files that are damaged: `espalier audit` names them.",
        ),
        consequences=(
            "hidden_nan",
            "learning_rate_too_high",
            "exploding_gradients",
            "fp16_range",
            "batch_norm_broken",
            "not_learning",
        ),
    )


def _constant(what: str, evidence: Evidence) -> Finding:
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=f"{what} show one colour and nothing else",
        evidence=(evidence,),
        confidence=0.85,
        advice=(
            "See whether the transform crops to nothing or the folder holds masks; drop what is "
            "empty: `espalier audit` lists it.",
        ),
        consequences=("label_noise",),
    )

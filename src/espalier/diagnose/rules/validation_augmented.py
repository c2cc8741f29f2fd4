"""Validation images are augmented, most often because they share the training transform.

What it looks at: how much two draws of the validation transform of one image differ; where that
    was not measured, steps of chance in the transform's text.
Why it matters: scores change from one look to the next and lie below what the model can do, and
    the weights that are kept are those that met easy draws.
When it is wrong: test-time augmentation on purpose, averaged over draws.
What to do: give validation a data set object of its own, with resize, crop and normalisation only.
Source: fault D8; `random_split` shares one transform between both parts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from espalier.findings import Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN012"
_CHANCE = re.compile(
    r"\b(Random[A-Z]\w*|ColorJitter|ElasticTransform|GaussianNoise|GaussNoise|AutoAugment"
    r"|RandAugment|TrivialAugment\w*|AugMix|MixUp|CutMix|CoarseDropout|rand-m\d\S*)"
)


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    change: float = threshold(0.005, "standard deviations", "between two draws of one image")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where chance has a part in what validation sees."""
    pixels = subject.data.val
    if pixels is not None and pixels.redraw_change is not None:
        change = pixels.redraw_change
        if not change > thresholds.change:
            return None
        return _finding(
            f"two draws of the same validation image differ by {change:.2f} standard deviations",
            (Evidence("change from draw to draw", change, thresholds.change, "std", "val"),),
            subject,
            0.97,
        )
    text = subject.facts.val_transform
    if text is None:
        raise CannotJudge("needs two draws of validation images, or their transform")
    words = list(dict.fromkeys(_CHANCE.findall(text)))
    if not words:
        return None
    return _finding(
        f"the validation transform has steps of chance: {', '.join(words)}",
        tuple(Evidence("step of chance", word, None, "", "validation transform") for word in words),
        subject,
        0.85,
    )


def _finding(
    cause: str, evidence: tuple[Evidence, ...], subject: RunRecord, confidence: float
) -> Finding:
    facts = subject.facts
    shared = facts.val_transform is not None and facts.val_transform == facts.train_transform
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=cause + ("; it is the training transform" if shared else ""),
        evidence=evidence,
        confidence=confidence,
        advice=(
            "Make two data set objects from the same files, one per transform: random_split and "
            "Subset share the transform of the object that they divide.",
            "Give validation resize, centre crop and normalisation, and nothing else.",
        ),
        consequences=(
            "validation_in_training_mode",
            "validation_from_elsewhere",
            "split_normalisation_differs",
            "learning_rate_noisy",
            "augmentation_or_dropout_too_strong",
            "underfitting",
        ),
    )

"""Classes that are judged but never trained on, or trained on but never judged.

What it looks at: the readable images of each class in train, val and test.
Why it matters: a class without training images is always wrong; one without validation images
    has no say in which weights are kept; one without test images has no score.
When it is wrong: a class is held out on purpose, to see what the model does with strangers.
What to do: move some images, gather more, or let Espalier make the split (stratified).
Source: fault E4; deepchecks' new labels.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.audited import Audited
from espalier.findings import Case, Evidence, Finding, Severity, listed
from espalier.records import SPLITS, Split
from espalier.rules import CannotJudge, threshold

CODE = "AUD020"
Counts = dict[Split, dict[str, int]]
Missing = dict[Split, list[str]]


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    images: float = threshold(1, "images", "of each class in each split, at least")


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """An error where a judged class is not trained on; less where a trained class is not judged."""
    counts: Counts = {split: subject.catalog.counts(split) for split in SPLITS}
    used = [split for split in SPLITS if sum(counts[split].values())]
    if "train" not in used or len(used) < 2:
        raise CannotJudge("there is one part only, so nothing is held out")
    missing = {
        split: [name for name, n in counts[split].items() if n < thresholds.images]
        for split in used
    }
    named = {split: names for split, names in missing.items() if names}
    if not named:
        return None
    return Finding(
        rule="class_missing_in_split",
        code=CODE,
        severity=_severity(named, given=subject.given_split),
        cause="; ".join(
            f"no image in {split} of {listed(names)}" for split, names in named.items()
        ),
        evidence=tuple(
            Evidence("images of the class", counts[split][name], thresholds.images, "", split)
            for split, names in named.items()
            for name in names
        ),
        advice=_advice(named, given=subject.given_split),
        cases=_cases(named, counts, used),
    )


def _severity(named: Missing, *, given: bool) -> Severity:
    if "train" in named:
        return "error"
    return "warning" if given else "info"


def _advice(named: Missing, *, given: bool) -> tuple[str, ...]:
    advice = []
    if untrained := named.get("train"):
        advice.append(
            f"Add training images of {listed(untrained)}, or take them out of val and test; "
            "if it is another class under another name, rename its folder."
        )
    unjudged = [name for split, names in named.items() if split != "train" for name in names]
    if unjudged:
        advice.append(
            f"Gather more images of {listed(list(dict.fromkeys(unjudged)))}: "
            + ("each part needs some." if given else "there are too few for each part.")
        )
    return tuple(advice)


def _cases(named: Missing, counts: Counts, used: list[Split]) -> tuple[Case, ...]:
    classes = dict.fromkeys(name for names in named.values() for name in names)
    cases = [
        Case(
            (),
            ", ".join(f"{split} {counts[split][name]:,}" for split in used),
            2.0 if name in named.get("train", ()) else 1.0,
            label=name,
        )
        for name in classes
    ]
    return tuple(sorted(cases, key=lambda case: -case.score))

"""A class without images in training or in validation.

What it looks at: images per class in both splits, and the label mappings of both, where known.
Why it matters: a class without training images is never named rightly; one without validation
    images has no say in which weights are kept; a mapping that lacks a class shifts all after it.
When it is wrong: a class is held out on purpose.
What to do: split by class (stratified), and share one label mapping.
Source: fault E4; deepchecks' new labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from espalier.diagnose.facts import class_name
from espalier.findings import Case, Evidence, Finding, Severity, listed
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN019"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    single: float = threshold(1, "image", "of a class, from which nothing is learned or known")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """An error where training lacks a class, a warning where validation does, else a note."""
    facts = subject.facts
    splits = {"training": facts.train_counts, "validation": facts.val_counts}
    known = {name: counts for name, counts in splits.items() if counts and sum(counts)}
    mappings = facts.classes is not None and facts.val_classes is not None
    if not known and not mappings:
        raise CannotJudge("needs images per class, or the label mappings of both splits")
    absent = {name: _with(counts, 0) for name, counts in known.items()}
    single = {name: _with(counts, int(thresholds.single)) for name, counts in known.items()}
    strange = set(facts.classes or ()) ^ set(facts.val_classes or ()) if mappings else set()
    texts = [
        *_texts(subject, absent, "no image"),
        *([f"the label mappings differ in {listed(sorted(strange))}"] if strange else []),
        *_texts(subject, single, "a single image"),
    ]
    if not texts:
        return None
    severity = _severity(absent, mapping=bool(strange))
    return Finding(
        rule="",
        code="",
        severity=severity,
        cause="; ".join(texts),
        evidence=_evidence(subject, absent, single, strange, thresholds),
        confidence=0.98,
        advice=(
            "Split each class by itself (stratified), and gather images of those that are short.",
            *(("Give both splits one label mapping, made from training.",) if strange else ()),
        ),
        cases=_cases(subject, absent, single),
        consequences=_consequences(severity, mapping=bool(strange)),
    )


def _with(counts: Sequence[int], images: int) -> list[int]:
    return [i for i, n in enumerate(counts) if n == images]


def _texts(subject: RunRecord, found: dict[str, list[int]], what: str) -> list[str]:
    return [
        f"{what} in {split} of {listed([class_name(subject, i) for i in classes])}"
        for split, classes in found.items()
        if classes
    ]


def _severity(absent: dict[str, list[int]], *, mapping: bool) -> Severity:
    if absent.get("training"):
        return "error"
    return "warning" if absent.get("validation") or mapping else "info"


def _consequences(severity: Severity, *, mapping: bool) -> tuple[str, ...]:
    if severity == "info":
        return ()
    known = ("metric_hides_failure", "validation_from_elsewhere")
    return (*known, "class_order_differs", "head_size_mismatch") if mapping else known


def _evidence(
    subject: RunRecord,
    absent: dict[str, list[int]],
    single: dict[str, list[int]],
    strange: set[str],
    thresholds: Thresholds,
) -> tuple[Evidence, ...]:
    counted = [
        Evidence(f"{split} images", n, thresholds.single + 1, "", class_name(subject, i))
        for n, found in ((0, absent), (thresholds.single, single))
        for split, classes in found.items()
        for i in classes
    ]
    named = [Evidence("in one label mapping only", name) for name in sorted(strange)]
    return (*counted, *named)


def _cases(
    subject: RunRecord, absent: dict[str, list[int]], single: dict[str, list[int]]
) -> tuple[Case, ...]:
    return tuple(
        Case((), f"{what} in {split}", score, label=class_name(subject, i))
        for what, score, found in (("no image", 2.0, absent), ("one image", 1.0, single))
        for split, classes in found.items()
        for i in classes
    )

"""The optimizer does not hold what is meant to learn.

What it looks at: per stage and part of the network, how many parameters want gradients and how
    many the optimizer holds; else, parts that receive gradients and never change.
Why it matters: what the optimizer does not hold stays as it was drawn, however long one trains.
When it is wrong: the record says that the part is not meant to train, or its rate is zero on
    purpose; both stay silent.
What to do: build the optimizer after the last change to the model.
Source: fault A8; TrainCheck.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.findings import Evidence, Finding, listed
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord, StageFacts

CODE = "RUN002"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    share: float = threshold(0.001, "share of the trainable parameters", "that may be missing")
    steps: float = threshold(3, "measured steps", "without change despite gradients, at least")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """An error where trainable parameters are in no group of the optimizer."""
    known = [s for s in subject.facts.stages if s.trainable and s.optimized and not s.solved]
    for stage in known:
        missing = _missing(stage)
        lacking, wanted = sum(missing.values()), sum(stage.trainable.values())
        if wanted and lacking > thresholds.share * wanted:
            return _of_counts(stage, missing, lacking / wanted, thresholds)
    if known:
        return None
    return _of_steps(subject, thresholds)


def _missing(stage: StageFacts) -> dict[str, int]:
    """Part -> trainable parameters that the optimizer lacks, where it is meant to learn."""
    meant = stage.meant_to_train
    return {
        part: wanted - stage.optimized.get(part, 0)
        for part, wanted in stage.trainable.items()
        if wanted > stage.optimized.get(part, 0) and (meant is None or part in meant)
    }


def _of_counts(
    stage: StageFacts, missing: dict[str, int], share: float, thresholds: Thresholds
) -> Finding:
    return _finding(
        f"the optimizer of stage {stage.name} lacks {sum(missing.values()):,} parameters that are "
        f"meant to learn, in {listed(list(missing))}",
        (
            Evidence(
                "parameters that the optimizer lacks",
                share,
                thresholds.share,
                "share of the trainable",
                f"stage {stage.name}",
            ),
            *(Evidence("of them", n, None, "parameters", part) for part, n in missing.items()),
        ),
        0.98,
    )


def _of_steps(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """By what steps showed: gradients arrive, other parts change, this one never does."""
    moved: dict[str, list[bool]] = {}
    rested = {s.name for s in subject.facts.stages if s.backbone_learning_rate == 0}
    for step in subject.steps:
        if step.skipped or step.stage in rested or step.learning_rate == 0:
            continue
        for part, signs in step.parts.items():
            if signs.changed is not None and signs.has_grad:
                moved.setdefault(part, []).append(signs.changed)
    judged = {part: seen for part, seen in moved.items() if len(seen) >= thresholds.steps}
    if not judged:
        raise CannotJudge("needs what the optimizer holds, or which parts change")
    still = [part for part, seen in judged.items() if not any(seen)]
    if not still or len(still) == len(judged):
        return None
    return _finding(
        f"{listed(still)} receives gradients and never changes, while other parts do",
        tuple(
            Evidence("steps without change", len(judged[part]), thresholds.steps, "", part)
            for part in still
        ),
        0.85,
    )


def _finding(cause: str, evidence: tuple[Evidence, ...], confidence: float) -> Finding:
    return Finding(
        rule="",
        code="",
        severity="error",
        cause=cause,
        evidence=evidence,
        confidence=confidence,
        advice=(
            "Make the optimizer after the last change to the model: a layer that is replaced "
            "later is not in it.",
            "If a part is meant to rest, set requires_grad to False there, so that the record "
            "says so.",
        ),
        consequences=(
            "gradients_not_cleared",
            "not_learning",
            "weights_do_not_move",
            "no_gradient",
            "frozen_by_mistake",
            "learning_rate_too_low",
            "plateau",
            "underfitting",
            "under_capacity",
            "vanishing_gradients",
        ),
    )

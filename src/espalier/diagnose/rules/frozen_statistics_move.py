"""Layers that are frozen still move: their BatchNorm statistics follow the training images.

What it looks at: how many BatchNorm layers of frozen parts are in training mode, and how far their
    running means have moved.
Why it matters: `requires_grad=False` does not stop the statistics, so features that were meant to
    stay are no longer those that the weights were trained with.
When it is wrong: letting statistics adapt to new photographs can be meant, and can help; it is
    a warning only where the network answers differently in its two modes or lost accuracy.
What to do: put BatchNorm of frozen parts into evaluation mode, again after each `model.train()`.
Source: fault C4; pytorch #86590, #66073; lightly #1438.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.diagnose.facts import finite
from espalier.diagnose.fit import settled
from espalier.findings import Edit, Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord, StageFacts

CODE = "RUN204"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    drift: float = threshold(0.5, "standard deviations", "that running means must have moved")
    gap: float = threshold(0.05, "accuracy", "between the modes of the network, or lost since")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding where statistics of frozen layers moved; a warning where it did harm."""
    if subject.facts.batch_norms == 0:
        return None
    known = [stage for stage in subject.facts.stages if stage.moving_batch_norm is not None]
    if not known:
        raise CannotJudge("needs how many frozen BatchNorm layers are in training mode")
    moving = [stage for stage in known if stage.moving_batch_norm]
    if not moving:
        return None
    drift = max((_drift(subject, stage) for stage in moving), default=0.0)
    if drift < thresholds.drift:
        return None
    harm = _harm(subject)
    count = max(stage.moving_batch_norm or 0 for stage in moving)
    meant = subject.tool == "espalier"
    return Finding(
        rule="",
        code="",
        severity="warning" if harm is not None and harm >= thresholds.gap else "info",
        cause=f"{count} BatchNorm layers of frozen parts are in training mode; their means moved "
        f"by up to {drift:.1f} standard deviations",
        evidence=(
            Evidence("frozen BatchNorm layers in training mode", float(count), 0.0),
            Evidence("drift of their running means", drift, thresholds.drift, "std"),
            *([Evidence("accuracy lost", harm, thresholds.gap, "share")] if harm else []),
        ),
        confidence=0.6 if meant else 0.8,
        advice=(
            "After model.train(), call eval() on each BatchNorm layer of the frozen parts.",
            "If the statistics are meant to adapt, leave it; compare both by validation.",
        ),
        prescription=tuple(
            Edit(
                f"stages.{stage.name}.batch_norm",
                "set",
                "thawed",
                "statistics of frozen layers should stay",
                safe=not meant,
            )
            for stage in moving
        ),
        consequences=("batch_norm_broken", "backbone_rate_erases", "plateau"),
    )


def _drift(subject: RunRecord, stage: StageFacts) -> float:
    """Of the parts that are frozen in a stage; of all where the record does not say which are."""
    frozen = {part for part in stage.parts if not stage.trainable.get(part, 0)}
    known = frozen if stage.parts and stage.trainable else None
    return max(
        finite(
            moved
            for epoch in subject.epochs
            if epoch.stage in ("", stage.name)
            for part, moved in epoch.drift.items()
            if known is None or part in known
        ),
        default=0.0,
    )


def _harm(subject: RunRecord) -> float | None:
    """Accuracy that evaluation mode loses against training mode, or the end against the best."""
    busy, clean = settled(subject, "busy_accuracy"), settled(subject, "clean_accuracy")
    losses = [busy - clean] if busy is not None and clean is not None else []
    val, known = settled(subject, "val_accuracy"), finite(subject.column("val_accuracy"))
    if val is not None:
        lost = max(known) - val
        losses.append(lost if lost > 3 * subject.accuracy_noise(val) else 0.0)
    return max(losses) if losses else None

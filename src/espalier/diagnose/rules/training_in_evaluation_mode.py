"""Training runs with the network in evaluation mode.

What it looks at: BatchNorm layers that are trainable and yet in evaluation mode, and whether
    training mode gives exactly what evaluation mode gives although the network has dropout.
Why it matters: dropout does nothing, and BatchNorm goes by statistics that nobody updates: in a
    new network those are of nothing at all.
When it is wrong: keeping BatchNorm in evaluation mode is a known way to fine-tune; where the
    recipe says so, or the weights are pretrained and training went well, it is worth knowing only.
What to do: `model.train()` at the start of each epoch, after validation too.
Source: fault C7; Lightning #19820 (why the state alone is no alarm).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.diagnose.fit import settled
from espalier.findings import Edit, Evidence, Finding, Severity
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN207"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    dropout: float = threshold(0.1, "probability", "that must show in training mode")
    same: float = threshold(1e-6, "relative difference of losses", "that counts as equal")
    well: float = threshold(0.9, "clean accuracy", "from which it did no harm")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding where what should be in training mode is not."""
    resting = [
        s.resting_batch_norm for s in subject.facts.stages if s.resting_batch_norm is not None
    ]
    idle = _idle_dropout(subject, thresholds)
    if idle:
        return _idle(subject, idle)
    if not resting:
        if idle is None:
            raise CannotJudge("needs the modes of BatchNorm layers, or busy and clean loss")
        return None
    if not max(resting):
        return None
    return _resting(subject, max(resting), thresholds)


def _idle_dropout(subject: RunRecord, thresholds: Thresholds) -> int | None:
    """Epochs in which dropout did nothing, 0 where it does; None where nobody can tell."""
    if not subject.facts.dropout or subject.facts.dropout < thresholds.dropout:
        return None
    pairs = [(e.busy_loss, e.clean_loss) for e in subject.epochs]
    known = [pair for pair in pairs if all(map(math.isfinite, pair)) and min(pair) > 0]
    if len(known) < 2:
        return None
    same = all(abs(busy - clean) <= thresholds.same * clean for busy, clean in known)
    return len(known) if same else 0


def _idle(subject: RunRecord, epochs: int) -> Finding:
    dropout = subject.facts.dropout or 0.0
    return _finding(
        subject,
        "warning",
        f"dropout of {dropout:g} changes nothing in training mode, in {epochs} epochs: the "
        "network is in evaluation mode",
        Evidence("epochs in which dropout did nothing", float(epochs), 0.0),
        0.9,
    )


def _resting(subject: RunRecord, count: int, thresholds: Thresholds) -> Finding:
    clean = settled(subject, "clean_accuracy")
    new = subject.facts.pretrained is False
    badly = clean is None or clean < thresholds.well
    meant = subject.tool == "espalier"
    return _finding(
        subject,
        "warning" if new or (badly and not meant) else "info",
        f"{count} BatchNorm layers are trained in evaluation mode"
        + (", with the statistics of a network that never saw an image" if new else ""),
        Evidence("trainable BatchNorm layers in evaluation mode", float(count), 0.0),
        0.9 if new else 0.65,
    )


def _finding(
    subject: RunRecord, severity: Severity, cause: str, evidence: Evidence, confidence: float
) -> Finding:
    return Finding(
        rule="",
        code="",
        severity=severity,
        cause=cause,
        evidence=(evidence,),
        confidence=confidence,
        advice=(
            "Call model.train() at the start of each epoch; validation and some loaders of "
            "pretrained weights leave the network in evaluation mode.",
            "If BatchNorm is meant to rest, freeze its weights too, so that the run says so.",
        ),
        prescription=tuple(
            Edit(f"stages.{stage.name}.batch_norm", "set", "thawed", "train where trainable")
            for stage in subject.facts.stages
            if stage.resting_batch_norm
        ),
        consequences=(
            "dead_units",
            "learning_rate_too_low",
            "learning_rate_noisy",
            "exploding_gradients",
            "under_capacity",
            "underfitting",
            "plateau",
            "not_learning",
        ),
    )

"""The first loss is not that of a model that knows nothing.

What it looks at: the loss before the first update against that of equal outputs, ln K.
Why it matters: a loss of 13 where 1.8 is chance comes from a head with far too large weights: the
    first epochs go into unlearning it, and the large gradients damage the backbone.
When it is wrong: the head has seen these classes before, or it was solved for; a run that was
    taken up again has no first loss.
What to do: start the head with zero bias and small weights, so that the first loss is ln K.
Source: fault C8; Karpathy's recipe. Measured: timm draws heads of MobileNetV2 with a first
    loss of 13 to 15 for six classes; scaled down, macro-F1 rose from 0.735 to 0.875.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.diagnose.facts import first_loss
from espalier.findings import Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN010"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    off: float = threshold(0.5, "nats", "from chance, to be mentioned")
    nats: float = threshold(1.5, "nats", "above chance, to harm")
    share: float = threshold(0.5, "share of the chance loss", "above it, to harm as well")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where the untrained model is sure of nonsense; a note where it is merely off."""
    first = first_loss(subject)
    if first is None:
        raise CannotJudge("needs the loss of an untrained model and what it should be")
    excess = first.value - first.expected
    if abs(excess) <= thresholds.off:
        return None
    harms = excess > max(thresholds.nats, thresholds.share * first.expected)
    side = "above" if excess > 0 else "below"
    return Finding(
        rule="",
        code="",
        severity="warning" if harms else "info",
        cause=f"the first loss is {first.value:.2f}, {abs(excess):.1f} nats {side} the "
        f"{first.expected:.2f} of a model that knows nothing",
        evidence=(
            Evidence("first loss", first.value, first.expected, "nats", first.where),
            Evidence("distance from chance", excess, thresholds.off, "nats", first.where),
        ),
        confidence=0.9 if harms else 0.5,
        advice=(_ABOVE if excess > 0 else _BELOW,),
        consequences=(
            "missing_warmup",
            "exploding_gradients",
            "backbone_rate_erases",
            "learning_rate_too_high",
            "dead_units",
            "stopped_too_early",
            "underfitting",
            "not_learning",
        )
        if harms
        else (),
    )


_ABOVE = (
    "Start the head with zero bias and small weights (standard deviation 0.01; in timm "
    "--head-init-scale 0.05)."
)
_BELOW = (
    "If the model has not seen these classes before, look whether the loss is divided twice, or "
    "whether the label is part of the input."
)

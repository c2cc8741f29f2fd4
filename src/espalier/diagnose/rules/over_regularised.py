"""Too much holds the network back at once.

What it looks at: how many regularisers are used strongly (dropout, label smoothing, mixing,
    weight decay, augmentation), where training images are told apart badly, and validation
    images not worse.
Why it matters: each is made to keep a network from learning by heart; this one is far from that,
    and they only slow it down.
When it is wrong: long runs of large networks bear all of them; where training images are known,
    they do no harm.
What to do: relax them, the strongest first, or train much longer. A network that knows less than
    half of its training images needs no dropout, smoothing or mixing yet.
Source: fault F3; DeepChecker's overwhelming regularisation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from espalier.diagnose.fit import Fit, fit_of
from espalier.diagnose.regularisers import known_regularisers, strong_regularisers
from espalier.findings import Edit, Evidence, Finding, listed, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN221"
_PUT_OFF = ("model.dropout", "loss.label_smoothing", "augment.mixup", "augment.cutmix")


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    active: float = threshold(3, "strong regularisers", "at once, at least")
    clean: float = threshold(0.85, "accuracy on training images", "from which they do no harm")
    little: float = threshold(0.5, "accuracy on training images", "below which they are put off")
    gap: float = threshold(0.05, "accuracy", "between training and validation, at most")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where several strong regularisers hold back a network that knows little."""
    strong = strong_regularisers(subject.facts)
    if len(strong) < thresholds.active:
        if known_regularisers(subject.facts) < thresholds.active:
            raise CannotJudge("needs what regularisers the run uses")
        return None
    fit = fit_of(subject)
    if fit.clean >= thresholds.clean or fit.gap >= max(thresholds.gap, 2 * fit.noise):
        return None
    names = [regulariser.name for regulariser in strong]
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=f"{listed(names)} hold the network back: it tells apart {percent(fit.clean)} of its "
        "training images",
        evidence=(
            Evidence("strong regularisers", float(len(strong)), thresholds.active),
            Evidence("accuracy on training images", fit.clean, thresholds.clean, "share"),
            Evidence("accuracy on validation images", fit.val, None, "share"),
        ),
        confidence=0.75,
        advice=("Relax them one at a time, the first one first, or train several times longer.",),
        prescription=tuple(_relaxed(regulariser.edit, fit, thresholds) for regulariser in strong),
        consequences=(
            "augmentation_or_dropout_too_strong",
            "augmentation_destroys_labels",
            "weight_decay_too_high",
            "learning_rate_too_low",
            "underfitting",
            "under_capacity",
            "stopped_too_early",
            "plateau",
            "not_learning",
        ),
    )


def _relaxed(edit: Edit, fit: Fit, thresholds: Thresholds) -> Edit:
    """A mild value; none at all for a network that has nothing yet to learn by heart."""
    off = fit.clean < thresholds.little and edit.key in _PUT_OFF
    return replace(edit, value=0.0) if off else edit

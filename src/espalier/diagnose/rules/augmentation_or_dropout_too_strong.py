"""Dropout takes away more than the network can do without.

What it looks at: the largest dropout in the model, and how much worse the same training images are
    told apart in training mode than in evaluation mode. Where training mode was not measured,
    accuracy as trained, unless images are mixed.
Why it matters: the network trains on what is left of its features, and ends below what it can do.
When it is wrong: dropout of a half, mixed images and augmentation lower accuracy as trained by
    right; where evaluation mode fits the training images or still gains, they did no harm.
What to do: mild dropout, none at all for a network that knows little of its training images yet;
    then the augmentation.
Source: fault C14; UMLAUT (Schoop et al., CHI 2021) warns from 0.5 already.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.diagnose.fit import Fit, fit_of, settled
from espalier.diagnose.regularisers import is_mixed, weaker_augmentation
from espalier.findings import Edit, Evidence, Finding, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN209"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    dropout: float = threshold(0.7, "probability", "above which dropout costs accuracy")
    shown: float = threshold(0.1, "accuracy", "that such dropout must take in training mode")
    lost: float = threshold(0.3, "accuracy", "that training mode loses whatever the dropout")
    clean: float = threshold(0.95, "clean accuracy", "from which nothing was lost")
    gap: float = threshold(0.05, "accuracy", "between training and validation, at most")
    little: float = threshold(0.5, "clean accuracy", "below which no dropout is prescribed")
    mild: float = threshold(0.2, "probability", "that is prescribed")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where dropout is too strong; augmentation alone is only worth knowing."""
    fit, dropout = fit_of(subject), subject.facts.dropout
    busy = settled(subject, "busy_accuracy")
    if fit.clean >= thresholds.clean:
        return None
    if dropout is not None and dropout > thresholds.dropout:
        if busy is None or fit.clean - busy >= thresholds.shown:
            return _dropout(fit, dropout, busy, thresholds)
        # So much is taken away that the network answers the same to everything, in both modes.
        return _dropout(fit, dropout, busy, thresholds) if fit.learned < 0.5 else None
    held_back = not fit.rising and fit.gap < max(thresholds.gap, 2 * fit.noise)
    if busy is not None:
        # Without dropout, training mode differs by BatchNorm alone, which takes nothing away.
        lost = 0.0 if dropout == 0 else fit.clean - busy
        if not held_back or lost < max(thresholds.lost, 3 * fit.noise):
            return None
        return _dropout(fit, dropout, busy, thresholds)
    return _as_trained(subject, fit, held_back, thresholds)


def _dropout(
    fit: Fit, dropout: float | None, busy: float | None, thresholds: Thresholds
) -> Finding:
    named = "dropout" if dropout is None else f"dropout of {dropout:g}"
    shown = "" if busy is None else f": training mode reaches {percent(busy)} of the same images"
    because = f"{named} takes away too much"
    high = dropout is not None and dropout > thresholds.mild
    return _finding(
        "warning",
        f"{named} holds the network back at {percent(fit.clean)} of its training images{shown}",
        (
            *([Evidence("dropout", dropout, thresholds.dropout)] if dropout is not None else []),
            *([Evidence("accuracy in training mode", busy, None, "share")] if busy else []),
            Evidence("accuracy in evaluation mode", fit.clean, thresholds.clean, "share"),
        ),
        0.85 if dropout is not None and dropout > thresholds.dropout else 0.6,
        (Edit("model.dropout", "set", _mild(fit, thresholds), because),)
        if high or dropout is None
        else (),
    )


def _mild(fit: Fit, thresholds: Thresholds) -> float:
    """None for a network that knows little: there is nothing yet that it could learn by heart."""
    return 0.0 if fit.clean < thresholds.little else thresholds.mild


def _as_trained(
    subject: RunRecord, fit: Fit, held_back: bool, thresholds: Thresholds
) -> Finding | None:
    trained = settled(subject, "train_accuracy")
    if is_mixed(subject.facts) or trained is None:
        raise CannotJudge("needs the probe in training mode (busy accuracy)")
    lost = fit.clean - trained
    if not held_back or lost < max(thresholds.lost, 3 * fit.noise):
        return None
    return _finding(
        "info",
        f"training sees {percent(lost)} fewer right answers than the same images give without "
        "augmentation and dropout, and validation does not gain by it",
        (Evidence("accuracy lost as trained", lost, thresholds.lost, "share"),),
        0.5,
        weaker_augmentation(subject, "augmentation takes away too much", safe=False),
    )


def _finding(
    severity: str,
    cause: str,
    evidence: tuple[Evidence, ...],
    confidence: float,
    edits: tuple[Edit, ...],
) -> Finding:
    return Finding(
        rule="",
        code="",
        severity="info" if severity == "info" else "warning",
        cause=cause,
        evidence=evidence,
        confidence=confidence,
        advice=(
            "Turn the dropout down; if that does not help, the augmentation, or train longer.",
        ),
        prescription=edits,
        consequences=(
            "dead_units",
            "underfitting",
            "stopped_too_early",
            "learning_rate_too_low",
            "plateau",
            "not_learning",
        ),
    )

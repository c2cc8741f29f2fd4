"""The run has learnt nothing, or next to nothing: it hardly beats naming the most frequent class.

What it looks at: the best accuracy of any epoch, on clean training images where that was measured,
    against that of always naming the most frequent class; the loss against that of guessing; and,
    where it was tried, what the trained network loses when it is given no picture at all.
Why it matters: there is no result, and more epochs will not make one.
When it is wrong: one short epoch at a small rate may not have left chance yet; it is called so only
    from the third epoch on, or when the run is over.
What to do: look at the other findings first; this is what most causes lead to. Without any, try to
    overfit a single batch: if that fails, the loop is broken, else the labels are. A network that
    loses the same without a picture makes nothing of it; one that loses more or less sees it, and
    is misled by the labels or the rate.
Source: diagnosis 2.7; the input-independent baseline: Karpathy, "A Recipe for Training Neural
    Networks", 2019.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.diagnose.facts import finite, guess_accuracy, total_steps
from espalier.diagnose.loss_curves import LossCurve, loss_broke, loss_curve
from espalier.diagnose.signals import nats
from espalier.findings import Evidence, Finding, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN120"
_SOURCES = {
    "clean_accuracy": "accuracy on clean training images",
    "train_accuracy": "training accuracy",
    "val_accuracy": "validation accuracy",
}


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    above: float = threshold(0.02, "accuracy", "above guessing, to have learnt something")
    errors: float = threshold(3.0, "standard errors", "above guessing as well")
    loss: float = threshold(0.1, "of the loss of guessing", "below it, to have learnt something")
    share: float = threshold(0.15, "of what guessing leaves", "named right, to have learnt more")
    steps: float = threshold(20, "steps", "before which any run may be at chance")
    blind: float = threshold(0.01, "of the loss of guessing", "apart, with and without pictures")
    epochs: float = threshold(3, "epochs", "of a run that may still be going on")
    part: float = threshold(0.25, "of the planned epochs", "of a run that is going on")


def check(record: RunRecord, thresholds: Thresholds) -> Finding | None:
    """The symptom, where no epoch got away from chance."""
    guess = guess_accuracy(record)
    name = next((name for name in _SOURCES if finite(record.column(name))), None)
    if guess is None or name is None:
        raise CannotJudge("needs an accuracy, and the classes")
    fewest = _fewest(record, thresholds)
    if len(record.epochs) < fewest:
        raise CannotJudge(f"needs {fewest} epochs")
    steps = total_steps(record)
    if steps is not None and steps < thresholds.steps:
        raise CannotJudge(f"needs {thresholds.steps:.0f} steps")
    limits = {one: guess + _margin(record, one, guess, thresholds) for one in _SOURCES}
    beaten = [one for one in _SOURCES if max(finite(record.column(one)), default=0) > limits[one]]
    best, limit = max(finite(record.column(name))), limits[name]
    left = _loss_left(record)
    if left < 1 - thresholds.loss and not loss_broke(record):
        return None
    curve = loss_curve(record)
    if beaten and (record.ended == "running" or curve is None):
        return None
    if beaten and _learnt(record, guess) >= thresholds.share:
        return None
    loss = "" if curve is None else f", the {curve.name} is {nats(finite(curve.values)[-1])}"
    blind = _without_pictures(record, thresholds)
    return Finding(
        rule="",
        code="",
        severity="warning" if beaten else "error",
        cause=f"{'Next to nothing' if beaten else 'Nothing'} was learnt: at best {percent(best)} "
        f"are right, and naming the most frequent class gives {percent(guess)}{loss}"
        + (blind.words if blind else ""),
        evidence=(
            Evidence(_SOURCES[name], best, limit, "", "best epoch"),
            *_last_loss(curve),
            *([blind.evidence] if blind else []),
        ),
        confidence=0.95,
        advice=(
            "Look at the other findings first: this is what most causes lead to.",
            "Without any, try to overfit one batch of 16 images: if that fails, the loop, the "
            "loss or the gradients are broken, else the labels do not belong to the images.",
            *([blind.advice] if blind else []),
        ),
        consequences=("underfitting",),
    )


@dataclass(frozen=True)
class _Blind:
    """What the trained network makes of no picture, and what follows from it."""

    evidence: Evidence
    words: str
    advice: str


def _without_pictures(record: RunRecord, thresholds: Thresholds) -> _Blind | None:
    """Whether pictures change what the network says; None where that was not tried.

    The trial takes the kept weights, so it stands beside the best epoch's validation loss.
    """
    blank, chance = record.preflight.zero_input_loss, record.chance_loss
    kept = [epoch.val_loss for epoch in record.epochs if epoch.best]
    seen = finite(kept[-1:]) or finite(record.column("val_loss"))[-1:]
    if blank is None or not math.isfinite(blank) or not seen or not chance:
        return None
    evidence = Evidence("validation loss without a picture", blank, seen[0], "nats", "kept weights")
    if abs(blank - seen[0]) <= thresholds.blind * chance:
        return _Blind(
            evidence,
            "; without a picture it loses the same",
            "What it says does not depend on the picture: something cuts it off (dead or "
            "saturated units, pixels scaled to nothing, an input that is overwritten), or nothing "
            "in the pictures foretells their labels. One batch of 16 tells which.",
        )
    return _Blind(
        evidence,
        "",
        "Pictures do change what it says, so look at the labels, at the rate, and at what "
        "differs between training and validation.",
    )


def _last_loss(curve: LossCurve | None) -> list[Evidence]:
    if curve is None:
        return []
    return [
        Evidence(curve.name, finite(curve.values)[-1], curve.chance, "nats", "last epoch"),
    ]


def _fewest(record: RunRecord, thresholds: Thresholds) -> int:
    """Epochs that are needed to judge: some networks leave chance late, and then fast."""
    if record.ended not in ("running", "unknown"):
        return 0
    planned = record.facts.epochs or 0 if record.ended == "running" else 0
    return math.ceil(max(thresholds.epochs, thresholds.part * planned))


def _learnt(record: RunRecord, guess: float) -> float:
    """The best accuracy of any kind, as a share of what guessing leaves to be learnt."""
    best = max(max(finite(record.column(name)), default=0.0) for name in _SOURCES)
    return (best - guess) / (1 - guess) if guess < 1 else 1.0


def _margin(record: RunRecord, name: str, guess: float, thresholds: Thresholds) -> float:
    """By how much an accuracy must beat guessing; up to 512 training images are looked at."""
    noise = record.accuracy_noise(guess)
    counts = record.facts.train_counts
    if name != "val_accuracy" and counts and sum(counts):
        noise = math.sqrt(guess * (1 - guess) / min(512, sum(counts)))
    return max(thresholds.above, thresholds.errors * noise)


def _loss_left(record: RunRecord) -> float:
    """Lowest loss of any epoch over that of guessing; 1 where that is not known."""
    curve = loss_curve(record)
    if curve is None or not curve.chance:
        return 1.0
    share = min(finite(curve.values)) / curve.chance
    return share if math.isfinite(share) else 1.0

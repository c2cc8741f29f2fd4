"""Some of the training labels are wrong.

What it looks at: validation above training, both without augmentation, which only wrong training
    labels explain; images that keep a high loss while most are well learned; and the share that
    confident learning suspects, where an audit or a probe estimated it.
Why it matters: the network first learns what is right, then learns the wrong labels by heart,
    and validation falls.
When it is wrong: hard classes keep high losses too, which is why these alone are only worth
    knowing; a tenth of wrong labels is usual in real sets and often the best there is.
What to do: look at the suspects and correct them; label smoothing, and stop early.
Source: fault D2; Arpit et al., ICML 2017 (memorisation); Northcutt et al., JAIR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.diagnose.label_evidence import HighLosses, WrongLabels, high_losses, wrong_label_share
from espalier.findings import Case, Edit, Evidence, Finding, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord, measured

CODE = "RUN211"
_CASES = 200


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    worth: float = threshold(0.05, "share of the labels", "wrong, from which it is worth knowing")
    much: float = threshold(0.12, "share of the labels", "wrong, from which it is a warning")
    suspected: float = threshold(0.15, "share of the labels", "suspected, for a warning")
    uneven: float = threshold(5, "times the images of another class", "where suspects say nothing")
    all: float = threshold(0.6, "share of the labels", "wrong, from which it is another fault")
    low: float = threshold(0.3, "of ln K", "below which most training images are learned")
    ratio: float = threshold(5, "times the median loss", "from which a loss is high")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where many labels are wrong; information where few are, or it is uncertain."""
    curves, suspects = wrong_label_share(subject), _suspects(subject, thresholds)
    losses = high_losses(subject, thresholds.low, thresholds.ratio)
    if not _is_known(subject):
        raise CannotJudge(
            "needs clean and val accuracy of 2 epochs, losses per image, or suspected labels"
        )
    shares = [share for share in (suspects, curves.share if curves else None) if share is not None]
    share = max(shares, default=0.0)
    if share >= thresholds.all:
        return None
    if share < thresholds.worth and (losses is None or losses.share < thresholds.worth):
        return None
    return Finding(
        rule="",
        code="",
        severity="warning" if _is_much(curves, suspects, thresholds) else "info",
        cause=_cause(share, losses, thresholds),
        evidence=_evidence(suspects, curves, losses, thresholds),
        confidence=0.75 if share >= thresholds.worth else 0.5,
        advice=(
            "Let `espalier audit` list the suspected images, and correct or drop what is wrong.",
            "Until then: label smoothing of 0.1, and stop when validation no longer gains.",
        ),
        prescription=_edits(subject),
        cases=tuple(
            Case((sample,), "its loss stays high though most are learned", 1.0 - place / _CASES)
            for place, sample in enumerate(losses.samples[:_CASES] if losses else ())
        ),
        consequences=("overfitting", "overtrained", "pair_flips", "augmentation_destroys_labels"),
    )


def _suspects(subject: RunRecord, thresholds: Thresholds) -> float | None:
    """What an audit suspects; None where classes are so uneven that a head gives rare ones away."""
    counts = subject.facts.train_counts
    if counts and max(counts) > thresholds.uneven * max(1, min(counts)):
        return None
    return subject.suspect_share


def _is_much(curves: WrongLabels | None, suspects: float | None, thresholds: Thresholds) -> bool:
    """Whether more labels are wrong than usual; an audit counts images that are merely odd, too."""
    return (curves is not None and curves.share >= thresholds.much) or (
        suspects is not None and suspects >= thresholds.suspected
    )


def _is_known(subject: RunRecord) -> bool:
    if subject.suspect_share is not None or subject.sample_losses:
        return True
    if sum(epoch.loss_quantiles is not None for epoch in subject.epochs) >= 2:
        return True
    both = [epoch.clean_accuracy + epoch.val_accuracy for epoch in subject.epochs]
    return len(measured(both)) >= 2 and subject.num_classes is not None


def _cause(share: float, losses: HighLosses | None, thresholds: Thresholds) -> str:
    if share >= thresholds.worth:
        return f"about {percent(share)} of the training labels are wrong"
    few = losses.share if losses else 0.0
    how_many = percent(few) if losses and losses.samples else f"at least {percent(few)}"
    return f"{how_many} of the training images keep a high loss although most are learned"


def _evidence(
    suspects: float | None,
    curves: WrongLabels | None,
    losses: HighLosses | None,
    thresholds: Thresholds,
) -> tuple[Evidence, ...]:
    found = []
    if suspects is not None:
        found.append(Evidence("labels that confident learning suspects", suspects, None, "share"))
    if curves is not None:
        place = f"epoch {curves.epoch}"
        found += [
            Evidence("accuracy on training images", curves.clean, None, "share", place),
            Evidence("accuracy on validation images", curves.val, None, "share", place),
            Evidence("wrong labels", curves.share, thresholds.worth, "share", place),
        ]
    if losses is not None:
        found += [
            Evidence("median loss", losses.typical, None, "nats"),
            Evidence("loss of the highest tenth", losses.high, None, "nats"),
        ]
    return tuple(found)


def _edits(subject: RunRecord) -> tuple[Edit, ...]:
    because = "wrong labels are learned by heart last"
    smoothing, patience = subject.facts.label_smoothing, subject.facts.patience
    edits = []
    if smoothing is None or smoothing < 0.1:
        edits.append(Edit("loss.label_smoothing", "set", 0.1, "some labels are wrong"))
    if patience is None or patience == 0 or patience > 3:
        edits.append(Edit("early_stopping.patience", "set", 3, because))
    return tuple(edits)

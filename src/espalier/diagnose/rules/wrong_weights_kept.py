"""The weights that were kept are not those of the best epoch.

What it looks at: the validation score of the epoch whose weights are kept against the best one.
Why it matters: a better model was there and is lost.
When it is wrong: the best of many epochs is partly luck; the distance must exceed three standard
    errors of the score, and two epochs must be so much better.
What to do: keep the weights of the best epoch, by macro-F1.
Source: fault F4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.diagnose.facts import score_name
from espalier.findings import Edit, Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import EpochSigns, RunRecord

CODE = "RUN021"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    loss: float = threshold(0.02, "macro-F1 or accuracy", "below the best epoch, at least")
    errors: float = threshold(3.0, "standard errors", "by which it must be below as well")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where a clearly better epoch was not kept."""
    if subject.ended == "running":
        raise CannotJudge("the run has not ended, so the last epoch is not kept yet")
    name = score_name(subject, least=3)
    if name is None:
        raise CannotJudge("needs validation scores of 3 epochs")
    kept = _kept(subject)
    known = [e for e in subject.epochs if math.isfinite(getattr(e, name))]
    if kept is None or not math.isfinite(getattr(kept, name)):
        raise CannotJudge("needs to know which epoch's weights are kept, and its score")
    best = max(known, key=lambda epoch: float(getattr(epoch, name)))
    top, has = float(getattr(best, name)), float(getattr(kept, name))
    # Two epochs must be better: a single one can be a lucky draw of weights that know nothing.
    lasting = sorted((float(getattr(epoch, name)) for epoch in known), reverse=True)[:2][-1]
    allowed = max(thresholds.loss, thresholds.errors * subject.accuracy_noise(top))
    if lasting - has <= allowed:
        return None
    what = "macro-F1" if name == "val_macro_f1" else "accuracy"
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=f"the weights of epoch {kept.epoch} are kept, with a {what} of {has:.3f}; epoch "
        f"{best.epoch} had {top:.3f}",
        evidence=(
            Evidence(what, has, top, "", f"epoch {kept.epoch}, kept"),
            Evidence(f"{what} below the best", top - has, allowed),
        ),
        confidence=0.9,
        advice=("Keep the weights of the epoch with the best macro-F1 in validation.",),
        prescription=(
            Edit("checkpointing.save_best", "set", True, "the best epoch is not the last"),
            Edit("checkpointing.monitor", "set", "macro_f1", "what the kept weights go by"),
        ),
        consequences=("overtrained",),
    )


def _kept(subject: RunRecord) -> EpochSigns | None:
    """The epoch whose weights are kept; None where nobody said."""
    facts, epochs = subject.facts, subject.epochs
    if facts.kept_epoch is not None:
        return next((epoch for epoch in epochs if epoch.epoch == facts.kept_epoch), None)
    if facts.kept == "last":
        return epochs[-1] if epochs else None
    marked = [epoch for epoch in epochs if epoch.best]
    return marked[-1] if marked and facts.kept == "best" else None

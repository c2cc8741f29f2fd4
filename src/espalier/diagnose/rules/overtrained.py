"""Training went on long after its best epoch, and got worse.

What it looks at: where in the last stage the best validation score lies, how far the score fell
    after it against its noise, and which weights were kept.
Why it matters: if the last weights are kept, the better ones are gone; if the best are kept, only
    time was lost.
When it is wrong: scores of small validation sets jump, so three standard errors are asked for; a
    score can fall and rise again later (double descent), which is rare in fine-tuning.
What to do: keep the weights of the best epoch, and stop some epochs after it.
Source: fault A17; Prechelt 1998 (Early stopping, but when?).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.diagnose.facts import finite, score_name
from espalier.diagnose.signals import middle, stepped
from espalier.findings import Edit, Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN110"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    half: float = threshold(0.5, "of the last stage", "before which its best epoch lies")
    drop: float = threshold(0.02, "score", "that was lost since, at least")
    errors: float = threshold(3.0, "standard errors", "that it must exceed as well")
    epochs: float = threshold(6, "epochs", "of the last stage, at least")


def check(record: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where the last weights were kept, and a remark where the best were."""
    column = score_name(record)
    last = [stretch for stretch in stepped(record) if stretch.epochs][-1:]
    scores = last[0].column(column) if last and column else []
    if len(finite(scores)) < thresholds.epochs:
        raise CannotJudge(f"needs validation scores of {thresholds.epochs:.0f} epochs of a stage")
    usable = [score if math.isfinite(score) else -math.inf for score in scores]
    best = usable.index(max(usable))
    end = middle(scores[-3:])
    limit = max(thresholds.drop, thresholds.errors * record.accuracy_noise(scores[best]))
    drop = scores[best] - end
    if best + 1 > thresholds.half * len(scores) or not drop > limit:
        return None
    epoch, kept = last[0].epochs[best].epoch, record.facts.kept
    because = "the last epochs are worse than the best one"
    keep = Edit("checkpointing.save_best", "set", True, because)
    stop = Edit("early_stopping.patience", "set", 5, because)
    return Finding(
        rule="",
        code="",
        severity="warning" if kept == "last" else "info",
        cause=f"Training went on {len(scores) - best - 1} epochs after its best one (epoch "
        f"{epoch}) and lost {100 * drop:.1f} points since"
        + ("; the last weights were kept" if kept == "last" else ""),
        evidence=(
            Evidence("best score", scores[best], None, "", f"epoch {epoch}"),
            Evidence("score lost since", drop, limit, ""),
        ),
        confidence=0.8,
        advice=(
            "Keep the weights of the best epoch, and stop a few epochs after it.",
            "More augmentation or weight decay moves the best epoch further back.",
        ),
        prescription=(keep, stop) if record.tool == "espalier" or record.facts.stages else (),
        consequences=("wrong_weights_kept",) if kept == "last" else (),
    )

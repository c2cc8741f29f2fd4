"""A part that was meant to learn is frozen.

What it looks at: per stage, which parts were meant to train and how many of their parameters
    require gradients; whether a network that began as random is mostly frozen for most of the run;
    where nobody said what is meant, whether a frozen backbone is random, or the optimizer holds
    parameters that are frozen throughout.
Why it matters: what is frozen stays as it was, without a word; only the head learns, on features
    that were made for something else, or for nothing.
When it is wrong: training a head alone is often meant; it is never an alarm where the run says so,
    or where the optimizer holds only what learns. A frozen part that thaws later is no mistake.
What to do: let it require gradients before the optimizer is made, at a tenth of the head's rate.
Source: fault C3; torch-audit TA104.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.diagnose.fit import settled, train_guess
from espalier.findings import Evidence, Finding, listed, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord, StageFacts

CODE = "RUN203"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    trainable: float = threshold(0.5, "share of a part's parameters", "must require gradients")
    frozen: float = threshold(0.5, "share of all parameters", "frozen in all stages, at least")
    most: float = threshold(0.5, "share of the epochs", "in which so much of it is frozen")
    learned: float = threshold(0.5, "of what guessing leaves to learn", "in spite of that, less")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """An error where something that should learn cannot."""
    stages = [stage for stage in subject.facts.stages if stage.parts and stage.trainable]
    if not stages:
        raise CannotJudge("needs how many parameters of each part are trainable")
    for stage in stages:
        stuck = _meant_but_frozen(stage, thresholds)
        if stuck:
            return _declared(stage, stuck, thresholds)
    random = _random_for_long(subject, stages, thresholds)
    if random is not None:
        return random
    if all(stage.meant_to_train is not None for stage in stages):
        return None
    return _undeclared(subject, stages, thresholds)


def _random_for_long(
    subject: RunRecord, stages: list[StageFacts], thresholds: Thresholds
) -> Finding | None:
    """A network that began as random, was mostly frozen for most of the run, and learned little."""
    if subject.facts.pretrained is not False or not _learned_little(subject, thresholds):
        return None
    frozen = {stage.name: 1 - _trainable_share(stage) for stage in stages}
    shares = [frozen[epoch.stage] for epoch in subject.epochs if epoch.stage in frozen]
    still = [share for share in shares if share >= thresholds.frozen]
    if not shares or len(still) < thresholds.most * len(shares) or shares[-1] not in still:
        return None
    cause = (
        f"{percent(shares[-1])} of the network is frozen in {len(still)} of {len(shares)} epochs, "
        "though it began as random and had little time to learn"
    )
    evidence = Evidence("epochs with most of it frozen", len(still) / len(shares), thresholds.most)
    return _finding(cause, (evidence,), 0.85)


def _learned_little(subject: RunRecord, thresholds: Thresholds) -> bool:
    clean, guess = settled(subject, "clean_accuracy"), train_guess(subject)
    if clean is None or guess is None:
        return False
    return clean < guess + thresholds.learned * (1 - guess)


def _trainable_share(stage: StageFacts) -> float:
    return sum(stage.trainable.get(part, 0) for part in stage.parts) / sum(stage.parts.values())


def _meant_but_frozen(stage: StageFacts, thresholds: Thresholds) -> list[str]:
    meant = set(stage.meant_to_train or ())
    return [
        part
        for part, size in stage.parts.items()
        if size
        and (part in meant or "all" in meant)
        and stage.trainable.get(part, 0) < thresholds.trainable * size
    ]


def _undeclared(
    subject: RunRecord, stages: list[StageFacts], thresholds: Thresholds
) -> Finding | None:
    """What can be concluded where the run does not say what was meant to learn."""
    frozen = {
        part: size
        for part, size in stages[-1].parts.items()
        if size and all(stage.trainable.get(part, 0) == 0 for stage in stages)
    }
    share = sum(frozen.values()) / max(1, sum(stages[-1].parts.values()))
    if share < thresholds.frozen:
        return None
    evidence = (Evidence("frozen parameters", share, thresholds.frozen, "share"),)
    names, what = listed(list(frozen)), percent(share)
    if subject.facts.pretrained is False:
        cause = f"{names} ({what} of the network) is frozen, and it is random: nothing trained it"
        return _finding(cause, evidence, 0.92)
    if any(stage.optimized.get(part) for stage in stages for part in frozen):
        cause = f"the optimizer holds {names} ({what} of the network), but it is frozen"
        return _finding(cause, evidence, 0.85)
    if all(stage.optimized for stage in stages):
        return None
    raise CannotJudge(f"{what} of the network is frozen; whether on purpose is not on record")


def _declared(stage: StageFacts, stuck: list[str], thresholds: Thresholds) -> Finding:
    evidence = tuple(
        Evidence(
            "parameters that require gradients",
            stage.trainable.get(part, 0) / stage.parts[part],
            thresholds.trainable,
            "share",
            f"part {part}, stage {stage.name}",
        )
        for part in stuck
    )
    were, are = ("was", "is") if len(stuck) == 1 else ("were", "are")
    cause = f"{listed(stuck)} {were} meant to learn in stage {stage.name}, but {are} frozen"
    return _finding(cause, evidence, 0.97)


def _finding(cause: str, evidence: tuple[Evidence, ...], confidence: float) -> Finding:
    return Finding(
        rule="",
        code="",
        severity="error",
        cause=cause,
        evidence=evidence,
        confidence=confidence,
        advice=(
            "Call requires_grad_(True) on it before the optimizer is made, and give it about a "
            "tenth of the head's rate.",
            "If it is frozen on purpose, say so: meant_to_train=('head',) in a loop of your own, "
            "`train: head` in a stage.",
        ),
        consequences=(
            "no_gradient",
            "weights_do_not_move",
            "vanishing_gradients",
            "learning_rate_too_low",
            "under_capacity",
            "underfitting",
            "plateau",
            "stopped_too_early",
            "labels_shuffled",
            "not_learning",
        ),
    )

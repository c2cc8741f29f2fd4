"""What could still raise the score of a run in which nothing is wrong, by estimated gain."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from espalier.diagnose.facts import class_name, finite
from espalier.diagnose.fit import Fit
from espalier.diagnose.matching import confused_pairs, recalls
from espalier.diagnose.regularisers import stronger_augmentation
from espalier.findings import Case, Edit, listed, percent
from espalier.run_record import RunRecord, StageFacts

# Shares of what is missing that a lever wins; rough, and only compared with each other.
_OF_THE_GAP = 0.4
_OF_FAILING_CLASSES = 0.5
_OF_FROZEN = 0.35
_OF_PIXELS = 0.25
_OF_SIZE = 0.2
_FEW_IMAGES = 20
_ENOUGH_PIXELS = 224
_FAILING = 0.6


@dataclass(frozen=True)
class Lever:
    """One thing to try.

    Attributes:
        name: What to do, in a few words.
        why: The figure that speaks for it.
        gain: Estimated macro-F1, in [0, 1].
        advice: How, one sentence each.
        edits: The same as changes of the recipe, all to be asked for.
        cases: The classes concerned.
    """

    name: str
    why: str
    gain: float
    advice: tuple[str, ...]
    edits: tuple[Edit, ...] = ()
    cases: tuple[Case, ...] = ()


def levers(record: RunRecord, fit: Fit) -> list[Lever]:
    """All that the record speaks for, the largest estimated gain first."""
    found = (
        _failing_classes(record),
        _gap(record, fit),
        _unfreeze(record, fit),
        _pixels(record, fit),
        _longer(record, fit),
        _larger(record, fit),
    )
    return sorted((lever for lever in found if lever), key=lambda lever: -lever.gain)


def more_to_learn_with(record: RunRecord) -> tuple[Edit, ...]:
    """Edits for a network that fits too little: unfreeze, else more pixels, else more epochs."""
    stage = _last_stepped(record)
    if stage is None:
        return ()
    if _frozen_share(stage) >= 0.5:
        return _unfreezing(stage)
    pixels = record.facts.imgsz
    if pixels is not None and pixels < _ENOUGH_PIXELS:
        return (Edit("training.imgsz", "set", _more(pixels), "more to be seen", safe=False),)
    because = "the network can still learn"
    return (Edit(f"stages.{stage.name}.epochs", "multiply", 2, because, safe=False),)


def _failing_classes(record: RunRecord) -> Lever | None:
    """Classes whose recall is far below that of the typical class."""
    found = recalls(record)
    known = finite(found or ())
    if found is None or len(known) < 3:
        return None
    typical = statistics.median(known)
    failing = sorted(
        (k for k, recall in enumerate(found) if recall < _FAILING * typical), key=lambda k: found[k]
    )
    if not failing:
        return None
    missing = sum(typical - found[k] for k in failing) / len(known)
    return Lever(
        f"help the classes that fail ({listed([class_name(record, k) for k in failing], 3)})",
        f"recall {percent(found[failing[0]])}, where the typical class has {percent(typical)}",
        _OF_FAILING_CLASSES * missing,
        _class_advice(record, failing),
        _class_edits(record),
        tuple(_class_case(record, k, found[k]) for k in failing),
    )


def _class_advice(record: RunRecord, failing: list[int]) -> tuple[str, ...]:
    counts, few = record.facts.train_counts, []
    if counts:
        few = [
            class_name(record, k) for k in failing if k < len(counts) and counts[k] < _FEW_IMAGES
        ]
    advice = []
    if few:
        advice.append(
            f"Collect photographs of {listed(few)}: fewer than {_FEW_IMAGES} to learn from; or "
            "merge such a class with the one that it is taken for, or leave it out."
        )
    advice.append(
        "Try the focal or the logit-adjusted loss, and stronger augmentation for what these "
        "classes look like."
    )
    return tuple(advice)


def _class_edits(record: RunRecord) -> tuple[Edit, ...]:
    facts = record.facts
    helped = facts.sampler not in (None, "none") or len(set(facts.class_weights or ())) > 1
    counts = facts.train_counts
    if counts and max(counts) >= 3 * max(1, min(counts)) and not helped:
        because = "rare classes are found less often"
        return (Edit("class_weighting.strategy", "set", "sqrt", because, safe=False),)
    return (Edit("loss.name", "set", "focal", "hard images count more", safe=False),)


def _class_case(record: RunRecord, index: int, recall: float) -> Case:
    text = f"{percent(recall)} found"
    if record.confusion is not None:
        pairs = (pair for pair in confused_pairs(record.confusion) if pair.true == index)
        worst = next(pairs, None)
        if worst is not None:
            text += f", {percent(worst.share)} taken for {class_name(record, worst.predicted)}"
    return Case((), text, 1 - recall, label=class_name(record, index))


def _gap(record: RunRecord, fit: Fit) -> Lever | None:
    if fit.gap < max(0.02, 2 * fit.noise):
        return None
    why = f"{percent(fit.clean)} of training images are right, {percent(fit.val)} of validation"
    edits = stronger_augmentation(record, "the gap to training images", safe=False)
    if not record.facts.mixup and not record.facts.cutmix:
        edits += (Edit("augment.mixup", "set", 0.2, "the gap to training images", safe=False),)
    advice = (
        "More photographs close the gap best; stronger augmentation and mixed images are next.",
    )
    return Lever("close the gap to new images", why, _OF_THE_GAP * fit.gap, advice, edits)


def _unfreeze(record: RunRecord, fit: Fit) -> Lever | None:
    stage = _last_stepped(record)
    share = _frozen_share(stage) if stage is not None else 0.0
    if stage is None or share < 0.5:
        return None
    advice = ("Let more blocks learn, at a tenth of the head's rate, with a short warmup.",)
    why = f"{percent(share)} of the network is frozen to the end"
    return Lever(
        "let more layers learn", why, _OF_FROZEN * (1 - fit.clean), advice, _unfreezing(stage)
    )


def _pixels(record: RunRecord, fit: Fit) -> Lever | None:
    pixels = record.facts.imgsz
    if pixels is None or pixels >= _ENOUGH_PIXELS:
        return None
    advice = (f"Train at {_more(pixels)} pixels, if the photographs have them.",)
    edit = Edit(
        "training.imgsz", "set", _more(pixels), "details decide between classes", safe=False
    )
    gain = _OF_PIXELS * (1 - fit.val) * (1 - pixels / _ENOUGH_PIXELS)
    return Lever("more pixels", f"images are {pixels} pixels wide", gain, advice, (edit,))


def _longer(record: RunRecord, fit: Fit) -> Lever | None:
    """The gain of the last quarter once more."""
    name = "val_macro_f1" if finite(record.column("val_macro_f1")) else "val_accuracy"
    known = finite(record.column(name))
    if not fit.rising or len(known) < 4:
        return None
    few = max(2, len(known) // 4)
    gain = statistics.mean(known[-few:]) - statistics.mean(known[-2 * few : -few])
    stage = _last_stepped(record)
    because = "validation still gained at the end"
    edits: tuple[Edit, ...] = ()
    if stage is not None:
        edits = (Edit(f"stages.{stage.name}.epochs", "multiply", 2, because, safe=False),)
    advice = ("Train for twice as many epochs, with the schedule stretched to them.",)
    return Lever("train longer", because, max(0.0, min(gain, 1 - fit.val)), advice, edits)


def _larger(record: RunRecord, fit: Fit) -> Lever | None:
    if fit.gap >= max(0.05, 2 * fit.noise):
        return None
    advice = ("Take the next larger pretrained backbone that the machine bears: espalier models.",)
    why = f"training images are told apart no better ({percent(fit.clean)})"
    return Lever("a larger network", why, _OF_SIZE * (1 - fit.clean), advice)


def _last_stepped(record: RunRecord) -> StageFacts | None:
    return next((stage for stage in reversed(record.facts.stages) if not stage.solved), None)


def _frozen_share(stage: StageFacts) -> float:
    """Share of the parameters that do not learn in a stage; 0 where unknown."""
    total = sum(stage.parts.values())
    if not total or not stage.trainable:
        return 0.0
    return 1 - sum(stage.trainable.get(part, 0) for part in stage.parts) / total


def _unfreezing(stage: StageFacts) -> tuple[Edit, ...]:
    because = "most of the network is frozen to the end"
    edits = [Edit(f"stages.{stage.name}.train", "set", "all", because, safe=False)]
    if stage.learning_rate:
        rate = float(f"{stage.learning_rate / 10:.1g}")
        key = f"stages.{stage.name}.backbone_lr"
        edits.append(Edit(key, "set", rate, "a tenth of the head's rate", safe=False))
    return tuple(edits)


def _more(pixels: int) -> int:
    """Half as many again, in steps of 32, at most what is enough."""
    return min(_ENOUGH_PIXELS, math.ceil(pixels * 1.5 / 32) * 32)

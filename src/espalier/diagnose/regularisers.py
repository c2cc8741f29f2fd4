"""What holds a network back from memorising: which regularisers a run uses, and how to turn them.

The thresholds of "strong" are values at which one alone, in a short run, can cost accuracy; the
presets of this program stay below all but one or two of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.findings import Edit
from espalier.run_record import RunFacts, RunRecord

POLICIES = ("none", "light", "standard", "strong", "heavy")
HEAVY = ("strong", "heavy", "e8", "randaugment", "trivialaugment")


@dataclass(frozen=True)
class Regulariser:
    """One that is used so strongly that it can cost accuracy.

    Attributes:
        name: In words, with its value.
        value: As a number; 1 for an augmentation by name.
        edit: What would make it mild again.
    """

    name: str
    value: float
    edit: Edit


# name, key of the recipe, strong from, mild value
_NUMBERS = (
    ("dropout", "model.dropout", 0.4, 0.2),
    ("label_smoothing", "loss.label_smoothing", 0.2, 0.1),
    ("mixup", "augment.mixup", 0.4, 0.0),
    ("cutmix", "augment.cutmix", 0.5, 0.0),
    ("weight_decay", "optimizer.weight_decay", 0.1, 1e-4),
)


def strong_regularisers(facts: RunFacts) -> list[Regulariser]:
    """Those that a run uses strongly."""
    found = []
    for name, key, strong, mild in _NUMBERS:
        value = getattr(facts, name)
        if value is not None and value >= strong:
            words = f"{name.replace('_', ' ')} {value:g}"
            found.append(Regulariser(words, value, Edit(key, "set", mild, f"{words} is strong")))
    if is_heavy(facts):
        because = f"augmentation `{facts.augment}` is strong"
        edit = Edit("augment.policy", "set", "light", because)
        found.append(Regulariser(f"augmentation {facts.augment}", 1.0, edit))
    return found


def known_regularisers(facts: RunFacts) -> int:
    """Of how many regularisers the record says whether and how they are used."""
    names = ("dropout", "label_smoothing", "mixup", "cutmix", "weight_decay", "augment")
    return sum(getattr(facts, name) is not None for name in names)


def is_heavy(facts: RunFacts) -> bool:
    """Whether the augmentation's name or text says that it is strong."""
    text = (facts.augment or "").lower()
    return any(word in text for word in (*HEAVY, "randaug", "trivialaug", "autoaug", "augmix"))


def is_mixed(facts: RunFacts) -> bool:
    """Whether training images are mixtures, so that accuracy as trained means little."""
    return bool(facts.mixup) or bool(facts.cutmix)


def weaker_augmentation(
    record: RunRecord, because: str, safe: bool = True, to: str | None = None
) -> tuple[Edit, ...]:
    """A milder policy; nothing below ``none``.

    Args:
        record: The run.
        because: Why, in a few words.
        safe: Whether it may be made without asking.
        to: The policy, where the present one has no place in the list or a milder one is known to
            be right; None: the next milder one.
    """
    name = record.facts.augment
    if to is not None and name is not None and (name not in POLICIES or _place(name) > _place(to)):
        return (Edit("augment.policy", "set", to, because, safe),)
    return _policy(record, -1, because, safe)


def _place(policy: str) -> int:
    return POLICIES.index(policy)


def stronger_augmentation(record: RunRecord, because: str, safe: bool = True) -> tuple[Edit, ...]:
    """The next stronger policy up to ``strong``."""
    return _policy(record, 1, because, safe)


def _policy(record: RunRecord, by: int, because: str, safe: bool) -> tuple[Edit, ...]:
    """The policy that many places along the list; those beside it count as ``strong``."""
    name = record.facts.augment
    if name is None:
        return ()
    place = POLICIES.index(
        name if name in POLICIES else "strong" if is_heavy(record.facts) else "light"
    )
    to = min(max(place + by, 0), POLICIES.index("strong"))
    if POLICIES[to] == name or (by > 0 and to <= place):
        return ()
    return (Edit("augment.policy", "set", POLICIES[to], because, safe),)

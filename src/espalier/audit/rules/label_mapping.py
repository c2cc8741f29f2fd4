"""Class names that may mean one class: other case, plural, spelling, order of words, or spaces.

What it looks at: all class names of the label mapping and of every part of the split.
Why it matters: one class under two names is learnt as two, and each image of it may be judged
    wrong; where the names differ between train and val, one of them is never learnt at all.
When it is wrong: one cat and several cats can be two classes on purpose; so can two words that
    differ by one letter, which is why spelling alone is ``info``.
What to do: relabel the rarer name to the more frequent one; nothing, where they do differ.
Source: fault D4.  Names that differ in a number, and short ones, are left alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from espalier.audited import Audited
from espalier.findings import SEVERITIES, Case, Correction, Evidence, Finding, Severity
from espalier.records import Sample
from espalier.rules import CannotJudge, threshold

CODE = "AUD023"
Parts = Mapping[str, Counter[str]]
Words = tuple[str, ...]

# Hyphens and dots between digits, and signs before a number, mean something: 10-20, 1.5, -5.
_GAPS = re.compile(
    r"[\s_]+|(?<=[^\W\d_])\.(?=\s)|(?<=[^\W\d_])[-.]+(?=\w)|(?<=\w)[-.]+(?=[^\W\d_])"
)
_IRREGULAR = {
    "leaf": "leaves",
    "man": "men",
    "woman": "women",
    "person": "people",
    "child": "children",
    "mouse": "mice",
    "goose": "geese",
    "foot": "feet",
    "tooth": "teeth",
    "knife": "knives",
}
_SPACES = "case, spaces, hyphens or accents"
_NUMBER = "singular and plural"
_ORDER = "the order of words"
_SPELLING = "one letter"
_SURE = (_SPACES, _NUMBER)


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    letters: float = threshold(3, "letters and digits", "of a name, at least, to be compared")
    spelled: float = threshold(4, "letters", "of a word that may be misspelt, at least")


@dataclass(frozen=True)
class Twin:
    """A class name, the more frequent name that it may stand for, and what they differ in."""

    name: str
    other: str
    how: str


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding where two names may mean one class; an error where one is then never learnt."""
    samples = subject.readable
    names = sorted({*subject.catalog.classes, *(s.label for s in samples if s.label)})
    if not names:
        raise CannotJudge("no image has a class")
    parts: dict[str, Counter[str]] = {name: Counter() for name in names}
    for sample in samples:
        if sample.label:
            parts[sample.label][sample.split or "all"] += 1
    twins = _twins(parts, thresholds)
    if not twins:
        return None
    targets = {twin.other for twin in twins}
    found = [_case(twin, parts, samples, targets) for twin in twins]
    cases = sorted(found, key=lambda case: -case.score)
    return Finding(
        rule="label_mapping",
        code=CODE,
        severity=max((_severity(twin, parts) for twin in twins), key=SEVERITIES.index),
        cause=cases[0].text + (f" (and {len(cases) - 1:,} more)" if len(cases) > 1 else ""),
        evidence=tuple(Evidence(f"differs in {t.how} from {t.other}", t.name) for t in twins),
        confidence=0.9 if any(twin.how in _SURE for twin in twins) else 0.4,
        advice=(
            "If they mean one class, accept the relabelling or rename the folders.",
            "If they do not, there is nothing to do; names that differ more are easier to read.",
        ),
        cases=tuple(cases),
        consequences=_consequences(twins, parts),
    )


def _twins(parts: Parts, thresholds: Thresholds) -> list[Twin]:
    """Each name that may stand for a more frequent one, with the one at the end of the chain."""
    words = {name: _words(name) for name in parts}
    compared = {n: w for n, w in words.items() if len("".join(w)) >= thresholds.letters}
    best: dict[str, Twin] = {}
    for first, second, how in _pairs(compared, parts, thresholds):
        rare, frequent = sorted((first, second), key=lambda name: _rank(name, parts))
        known = best.get(rare)
        if known is None or (
            known.how == how and _rank(frequent, parts) > _rank(known.other, parts)
        ):
            best[rare] = Twin(rare, frequent, how)
    return [Twin(twin.name, _end_of_chain(twin, best), twin.how) for twin in best.values()]


def _rank(name: str, parts: Parts) -> tuple[int, int, str]:
    return parts[name].total(), parts[name]["train"], name


def _end_of_chain(twin: Twin, best: Mapping[str, Twin]) -> str:
    # Only sure twins are passed on: a guess on top of a guess would relabel to a stranger.
    further = best.get(twin.other)
    if further is None or further.how not in _SURE:
        return twin.other
    return _end_of_chain(further, best)


def _pairs(
    words: Mapping[str, Words], parts: Parts, thresholds: Thresholds
) -> Iterator[tuple[str, str, str]]:
    """Pairs of names that are alike, and in what they differ; each pair once, the surest first."""
    seen: set[tuple[str, str]] = set()
    for how, keys_of in _KEYS.items():
        groups: dict[str, list[str]] = defaultdict(list)
        for name, given in words.items():
            for key in keys_of(given):
                groups[key].append(name)
        for group in groups.values():
            for pair in combinations(group, 2):
                if pair in seen:
                    continue
                misspelt = _misspelt(words[pair[0]], words[pair[1]], thresholds)
                if how == _SPELLING and not (misspelt and _apart(*pair, parts)):
                    continue
                seen.add(pair)
                yield *pair, how


def _words(name: str) -> Words:
    """The words of a name in lower case, without accents: ``(leaf, blight)``."""
    marked = unicodedata.normalize("NFKD", name)
    plain = "".join(c for c in marked if not "\u0300" <= c <= "\u036f")
    return tuple(_GAPS.sub(" ", plain.casefold()).strip(" .").split())


def _joined(words: Words) -> str:
    """All in one word, except that 1 0 and 10 stay apart."""
    return re.sub(r"(?<!\d) | (?!\d)", "", " ".join(words))


def _numbers(words: Words) -> set[str]:
    """The name itself, and with any one of its words as a plural."""
    plurals = {
        _joined((*words[:i], plural, *words[i + 1 :]))
        for i, word in enumerate(words)
        for plural in _plurals(word)
    }
    return {_joined(words), *plurals}


def _plurals(word: str) -> set[str]:
    if len(word) < 3 or not word.isalpha():
        return set()
    if word in _IRREGULAR:
        return {_IRREGULAR[word]}
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return {word + "es"}
    if word.endswith("y"):
        return {word + "s", word[:-1] + "ies"}
    return {word + "s", word + "es"} if word.endswith("o") else {word + "s"}


def _sorted_words(words: Words) -> set[str]:
    """Words with numbers in them may mean something by their order."""
    return {" ".join(sorted(words))} if all(word.isalpha() for word in words) else set()


def _shortened(words: Words) -> set[str]:
    """The name with any one letter left out: names one edit apart share one of these."""
    text = " ".join(words)
    return {text, *(text[:i] + text[i + 1 :] for i in range(len(text)))}


_KEYS: dict[str, Callable[[Words], set[str]]] = {
    _SPACES: lambda words: {_joined(words)},
    _NUMBER: _numbers,
    _ORDER: _sorted_words,
    _SPELLING: _shortened,
}


def _misspelt(first: Words, second: Words, thresholds: Thresholds) -> bool:
    """Whether one word differs, and is long enough; typical and atypical are no misspellings."""
    differ = [(a, b) for a, b in zip(first, second, strict=False) if a != b]
    if len(first) != len(second) or len(differ) != 1:
        return False
    short, long = sorted(differ[0], key=len)
    return (
        len(short) >= thresholds.spelled
        and short.isalpha()
        and long.isalpha()
        and not long.startswith(short)
        and not long.endswith(short)
    )


def _apart(first: str, second: str, parts: Parts) -> bool:
    """Whether one of the two is missing in a part where the other is present."""
    return set(parts[first]) != set(parts[second])


def _never_together(first: str, second: str, parts: Parts) -> bool:
    return not set(parts[first]) & set(parts[second])


def _severity(twin: Twin, parts: Parts) -> Severity:
    if twin.how not in _SURE:
        return "warning" if _never_together(twin.name, twin.other, parts) else "info"
    trained = [name for name in (twin.name, twin.other) if parts[name]["train"]]
    return "error" if len(trained) == 1 else "warning"


def _case(twin: Twin, parts: Parts, samples: Sequence[Sample], targets: set[str]) -> Case:
    mine = [s.sample_id for s in samples if s.label == twin.name]
    text = (
        f"`{twin.name}` ({_where(parts[twin.name])}) and `{twin.other}` "
        f"({_where(parts[twin.other])}) differ only in {twin.how}: one class?"
    )
    severity = _severity(twin, parts)
    # What others are relabelled to keeps its name, unless it surely is a third one.
    settled = twin.how in _SURE or (severity != "info" and twin.name not in targets)
    corrections = [
        Correction(sample, "relabel", twin.other, f"`{twin.name}` may be `{twin.other}`")
        for sample in mine
        if settled
    ]
    score = float(SEVERITIES.index(severity))
    return Case(tuple(mine), text, score, tuple(corrections), label=twin.other)


def _where(part: Counter[str]) -> str:
    counted = [f"{n:,}" if split == "all" else f"{n:,} in {split}" for split, n in part.items()]
    return ", ".join(counted) or "no images"


def _consequences(twins: Sequence[Twin], parts: Parts) -> tuple[str, ...]:
    """A class that is absent somewhere may be there under its other name."""
    used = {split for part in parts.values() for split in part}
    named = {name for twin in twins for name in (twin.name, twin.other)}
    absent = any(set(parts[name]) != used for name in named)
    return ("class_missing_in_split",) if absent else ()

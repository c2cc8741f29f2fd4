"""Column names of other tools and what they mean here; and what unknown ones might mean.

A name is taken only where it leaves no doubt. What is merely likely is proposed to the person.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields

from espalier.errors import RunError
from espalier.run_record import EpochSigns

# What a column may be: the plain numbers of an epoch, its two clocks, and signs of single steps.
EPOCH_SIGNS = tuple(
    f.name for f in fields(EpochSigns) if f.type == "float" and f.name != "wait_seconds"
)
CLOCKS = ("epoch", "step")
STEP_SIGNS = ("loss", "grad_norm", "scale")
SIGNS = (*CLOCKS, *EPOCH_SIGNS, *STEP_SIGNS)
# Without one of these, a table is no record of a training run.
TELLING = ("train_loss", "loss", "train_accuracy", "val_loss", "val_accuracy", "val_macro_f1")

_VAL = {"val", "valid", "validation", "eval", "dev"}
_TRAIN = {"train", "training", "trn"}
_FILLERS = {"metrics", "metric", "epoch", "step", "avg", "mean"}
_ACCURACY = {
    "acc",
    "accuracy",
    "top 1",
    "acc 1",
    "accuracy 1",
    "acc top 1",
    "accuracy top 1",
    "prec 1",
    "categorical accuracy",
    "sparse categorical accuracy",
    "multiclass accuracy",
    "binary accuracy",
}
_MACRO_F1 = {"macro f 1", "f 1 macro", "macro f 1 score", "f 1 score macro"}
_RATE = re.compile(r"^(lr|learning rate)( (adam|adamw|adam w|sgd|rmsprop|head|[0-9]|pg [0-9]))*$")
_GRADIENT = re.compile(r"^(grad|gradient|gradients) (\d \d )?norm( total)?$")
_CLOCK_NAMES = {
    "epoch": "epoch",
    "epochs": "epoch",
    "ep": "epoch",
    "step": "step",
    "steps": "step",
    "global step": "step",
    "iteration": "step",
    "iter": "step",
}
# Words that make a sign likely, for proposals alone.
_LIKELY = {
    "loss": {"loss", "nll", "ce", "xent", "crossentropy", "objective", "cost", "error"},
    "accuracy": {"acc", "accuracy", "top", "prec", "precision", "hits", "correct", "score"},
    "macro_f1": {"f", "f1", "fscore", "macro", "macrof1"},
}


def words_of(name: str) -> list[str]:
    """The words of a column name in lower case: ``valTop1`` and ``val/top-1`` are val, top, 1."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.findall(r"[a-z]+|\d+", split.lower())


def recognised(name: str) -> str | None:
    """The sign that a column certainly holds; None where there is doubt."""
    if name in SIGNS:
        return name
    words = words_of(name)
    clock = _CLOCK_NAMES.get(" ".join(words))
    if clock:
        return clock
    phrase = " ".join(word for word in words if word not in _VAL | _TRAIN | _FILLERS)
    if _RATE.match(phrase):
        return "learning_rate"
    if _GRADIENT.match(phrase):
        return "grad_norm"
    return _score(words, phrase)


def _score(words: Sequence[str], phrase: str) -> str | None:
    val = any(word in _VAL for word in words)
    if phrase == "loss":
        return "val_loss" if val else "loss" if words[-1] == "step" else "train_loss"
    if phrase in _ACCURACY:
        # The accuracy of one batch says little, and its epoch's stands beside it.
        return "val_accuracy" if val else None if words[-1] == "step" else "train_accuracy"
    if phrase in _MACRO_F1 and val:
        return "val_macro_f1"
    return "ema_accuracy" if phrase in {f"ema {word}" for word in _ACCURACY} else None


def signs_of(columns: Iterable[str], mapping: Mapping[str, str] | None = None) -> dict[str, str]:
    """Column -> sign, for those that are known.

    Args:
        columns: Of the table.
        mapping: Sign -> column, as a person gave it; it goes before what is recognised.

    Raises:
        RunError: The mapping names a sign or a column that does not exist.
    """
    names = [name for name in columns if name]
    _check_mapping(mapping or {}, names)
    given = {column: sign for sign, column in (mapping or {}).items()}
    taken = set(given.values())
    found = {}
    for name in names:
        sign = given.get(name) or recognised(name)
        if sign and (name in given or sign not in taken):
            found[name] = sign
    return found


def is_telling(signs: Mapping[str, str]) -> bool:
    """Whether columns with these signs say how training went."""
    return any(sign in TELLING for sign in signs.values())


def _check_mapping(mapping: Mapping[str, str], names: Sequence[str]) -> None:
    columns = list(mapping.values())
    problems = [
        f"{column!r} is no column of the record{_nearest(column, names)}"
        for column in columns
        if column not in names
    ]
    problems += [
        f"{sign!r} is nothing that a column can be{_nearest(sign, SIGNS)}"
        for sign in mapping
        if sign not in SIGNS
    ]
    problems += [
        f"{column!r} is given twice, and a column is one thing"
        for column in dict.fromkeys(columns)
        if columns.count(column) > 1
    ]
    if problems:
        raise RunError(
            "--map cannot be followed; it takes SIGN=COLUMN,...; "
            f"signs: {', '.join(SIGNS)}; columns: {', '.join(names)}",
            problems=problems,
            hint=map_option(names),
        )


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def proposed(columns: Sequence[str]) -> dict[str, str]:
    """Sign -> column, as far as names let one guess; to be confirmed by a person."""
    guesses: dict[str, str] = {}
    for column in columns:
        sign = recognised(column) or _guess(column)
        if sign and sign not in guesses:
            guesses[sign] = column
    return {sign: guesses[sign] for sign in SIGNS if sign in guesses}


def _guess(column: str) -> str | None:
    words = set(words_of(column))
    split = "val" if words & (_VAL | {"test", "holdout"}) else "train"
    for kind, likely in _LIKELY.items():
        if words & likely:
            return None if (kind, split) == ("macro_f1", "train") else f"{split}_{kind}"
    for clock, names in (
        ("epoch", ["epoch", "round", "pass"]),
        ("step", ["step", "iteration", "update", "batch"]),
    ):
        if any(difflib.get_close_matches(word, names, cutoff=0.75) for word in words):
            return clock
    close = difflib.get_close_matches(column.lower(), TELLING, n=1, cutoff=0.7)
    return close[0] if close else None


def map_option(columns: Sequence[str]) -> str:
    """``--map val_loss=validation/nll,...`` as a ready option; a pattern where none is likely."""
    pairs = ",".join(f"{sign}={column}" for sign, column in proposed(columns).items())
    return f"--map {shlex.quote(pairs or 'epoch=COLUMN,train_loss=COLUMN,val_loss=COLUMN')}"

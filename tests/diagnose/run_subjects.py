"""Runs for the rules of ``diagnose``, made from a few words of YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from espalier.run_record import (
    DataFacts,
    EpochSigns,
    PartSigns,
    Preflight,
    RunFacts,
    RunRecord,
    SplitPixels,
    StageFacts,
    StepSigns,
    from_plain,
)

WORDS = {
    "path": "a run",
    "tool": "test",
    "ended": "finished",
    "why_ended": "",
    "confusion": None,
    "sample_losses": None,
    "suspect_share": None,
    "drift_auc": None,
    "start_dead": {},
    "notes": (),
}
SPECIAL = {"facts", "stages", "epochs", "steps", "data", "preflight", "steps_per_epoch"}
MAPPINGS = {"dead", "drift", "parts"}
LISTS = {"recall", "predicted", "loss_quantiles"}


def run_of(words: Mapping[str, Any]) -> RunRecord:
    """A run.

    ``facts``, ``data`` (``train`` and ``val`` inside it) and ``preflight`` give fields by name,
    ``stages`` lists stages; ``epochs`` and ``steps`` are lists of rows, or columns: name -> one
    value per row, or one value for all of them (``count`` says how many where nothing else does).
    The columns ``dead``, ``drift`` and ``parts`` map a part's name to columns of its own, or, for
    ``dead`` and ``drift``, to values. Epochs and steps count from 1 unless given; ``step`` of an
    epoch and ``epoch`` of a step follow from ``steps_per_epoch``. What else stands in ``WORDS`` is
    taken as it is. Unknown words are errors, so that a case cannot pass by a slip of the pen.
    """
    _known(words, WORDS.keys() | SPECIAL, "the subject")
    facts = _facts(words)
    per_epoch = words.get("steps_per_epoch") or facts.steps_per_epoch
    plain = {name: words.get(name, usual) for name, usual in WORDS.items()}
    if plain["confusion"] is not None:
        plain["confusion"] = tuple(tuple(row) for row in plain["confusion"])
    plain["notes"] = tuple(plain["notes"])
    return RunRecord(
        epochs=tuple(_epoch(i, row, per_epoch) for i, row in enumerate(_rows(words, "epochs"))),
        steps=tuple(_step(i, row, per_epoch) for i, row in enumerate(_rows(words, "steps"))),
        facts=facts,
        data=_data(words.get("data", {})),
        preflight=_made(Preflight, words.get("preflight", {})),
        **plain,
    )


def _facts(words: Mapping[str, Any]) -> RunFacts:
    given = dict(words.get("facts", {}))
    # A choice of two words has no type that from_plain could check.
    kept = given.pop("kept", None)
    facts = replace(_made(RunFacts, given), kept=kept)
    stages = tuple(_made(StageFacts, stage) for stage in words.get("stages", []))
    return replace(facts, stages=stages) if stages else facts


def _data(words: Mapping[str, Any]) -> DataFacts:
    for split in ("train", "val"):
        _known(words.get(split) or {}, _names(SplitPixels), f"data.{split}")
    return _made(DataFacts, words)


def _epoch(index: int, row: Mapping[str, Any], per_epoch: int | None) -> EpochSigns:
    number = row.get("epoch", index + 1)
    step = number * per_epoch if per_epoch else None
    return _made(EpochSigns, {"epoch": number, "step": step, **row})


def _step(index: int, row: Mapping[str, Any], per_epoch: int | None) -> StepSigns:
    number = row.get("step", index + 1)
    epoch = (number - 1) // per_epoch + 1 if per_epoch else None
    for part in row.get("parts", {}).values():
        _known(part, _names(PartSigns), "a part of a step")
    return _made(StepSigns, {"step": number, "epoch": epoch, **row})


def _rows(words: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Rows as they are, or made from columns."""
    table = words.get(name, [])
    if isinstance(table, list):
        return table
    columns = {column: values for column, values in table.items() if column != "count"}
    count = table.get("count") or max(_lengths(columns), default=1)
    return [_row(columns, i) for i in range(count)]


def _lengths(columns: Mapping[str, Any]) -> list[int]:
    lengths = []
    for name, values in columns.items():
        if name in MAPPINGS:
            lengths += _lengths(values) if name != "parts" else _part_lengths(values)
        elif _is_column(name, values):
            lengths.append(len(values))
    return lengths


def _part_lengths(parts: Mapping[str, Any]) -> list[int]:
    return [length for part in parts.values() for length in _lengths(part)]


def _row(columns: Mapping[str, Any], i: int) -> dict[str, Any]:
    row = {}
    for name, values in columns.items():
        if name == "parts":
            row[name] = {part: _row(inner, i) for part, inner in values.items()}
        elif name in MAPPINGS:
            row[name] = _row(values, i)
        else:
            row[name] = values[i] if _is_column(name, values) else values
    return {name: value for name, value in row.items() if value is not None}


def _is_column(name: str, values: Any) -> bool:
    """Whether it has a value for each row; a single list of ``recall`` is one value for all."""
    if not isinstance(values, list):
        return False
    return name not in LISTS or any(isinstance(one, list) for one in values)


def _made(kind: type[Any], words: Mapping[str, Any]) -> Any:
    _known(words, _names(kind), kind.__name__)
    return from_plain(kind, words)


def _names(kind: type[Any]) -> set[str]:
    return {field.name for field in fields(kind)}


def _known(words: Mapping[str, Any], names: set[str], where: str) -> None:
    unknown = set(words) - names
    if unknown:
        raise KeyError(f"{where} has no {', '.join(sorted(unknown))}")

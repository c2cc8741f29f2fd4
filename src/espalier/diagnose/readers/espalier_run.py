"""Espalier's own record: a run folder, or the folder that ``Vitals`` wrote for somebody's loop.

Every file may be missing, half-written, or of an older version; what cannot be read is noted.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from espalier import files
from espalier.diagnose.readers.espalier_before import (
    json_object,
    start_dead,
    suspect_share,
    with_baseline,
)
from espalier.diagnose.readers.espalier_facts import facts_of_run
from espalier.diagnose.readers.sampling import EVERY_STEP_UNTIL, MOST_NON_FINITE, MOST_STEPS
from espalier.errors import EspalierError, RunError
from espalier.records import EpochRow
from espalier.run_record import (
    DataFacts,
    Ended,
    EpochSigns,
    Preflight,
    RunFacts,
    RunRecord,
    StepSigns,
    from_plain,
)
from espalier.runs import RunDir, read_results

MOST_CLASSES = 200
TRAIN_NAMES = {
    "loss": "train_loss",
    "accuracy": "train_accuracy",
    "mean_weight_update": "mean_update_norm",
}
VAL_NAMES = {"loss": "val_loss", "accuracy": "val_accuracy", "macro_f1": "val_macro_f1"}
RESULT_NAMES = {"probe_loss": "clean_loss", "probe_accuracy": "clean_accuracy"}
Signs = TypeVar("Signs")


@dataclass(frozen=True)
class _Folder:
    """Where the files of one record lie."""

    run: RunDir | None
    diagnostics: Path

    def file(self, name: str) -> Path:
        return self.diagnostics / name


def is_run(folder: Path) -> bool:
    """Whether a folder is a run of ours, or holds what ``Vitals`` writes."""
    ours = (folder / "recipe.yaml").is_file() and (
        (folder / "results.csv").is_file() or (folder / "environment.json").is_file()
    )
    return ours or _vital(folder) or _vital(folder / "diagnostics")


def _vital(folder: Path) -> bool:
    lines = ("train_diagnostics.jsonl", "val_diagnostics.jsonl")
    return any((folder / name).is_file() for name in lines) or bool(_run_json(folder).get("tool"))


def read(path: Path) -> RunRecord:
    """A run of ours as far as it has come: living, finished or dead.

    Raises:
        RunError: No epoch and no step is on record, and nobody said how it ended.
    """
    notes: list[str] = []
    place = _folder(path)
    said = _run_json(place.diagnostics)
    if not said and place.file("run.json").exists():
        notes.append("run.json cannot be read: what was decided before training is left out")
    facts = _part(RunFacts, said.get("facts"), notes) or RunFacts()
    epochs = _epochs(place, notes)
    if place.run is not None:
        facts = _filled(facts, facts_of_run(place.run, epochs, notes))
    checks: dict[str, Any] = said["checks"] if isinstance(said.get("checks"), dict) else {}
    steps = _steps(place.file("steps.jsonl"), _lost_from(checks), notes)
    notes += _of_checks(checks)
    if not epochs and not steps and not said.get("why_ended"):
        raise RunError(
            f"{path} has no finished epoch and no step on record: there is nothing to diagnose yet",
            hint="wait until the first epoch is done, then ask again",
        )
    return RunRecord(
        path=str(path),
        tool=str(said.get("tool") or "espalier"),
        epochs=epochs,
        facts=facts,
        data=_part(DataFacts, said.get("data"), notes) or DataFacts(),
        preflight=with_baseline(_part(Preflight, said.get("preflight"), notes), place.run),
        steps=steps,
        confusion=_confusion(place, notes),
        sample_losses=_sample_losses(place.file("sample_losses.jsonl")),
        suspect_share=suspect_share(place.run),
        start_dead=start_dead(said),
        ended=_ended(place, said, facts, epochs),
        why_ended=str(said.get("why_ended") or ""),
        notes=tuple(notes),
    )


def _folder(path: Path) -> _Folder:
    if (path / "recipe.yaml").is_file() or (path / "environment.json").is_file():
        run = RunDir(path)
        return _Folder(run, run.diagnostics)
    inner = path / "diagnostics"
    return _Folder(None, path if _vital(path) or not inner.is_dir() else inner)


def _run_json(folder: Path) -> dict[str, Any]:
    found = json_object(folder / "run.json")
    return found if "facts" in found or "ended" in found else {}


def _part(kind: type[Signs], values: Any, notes: list[str]) -> Signs | None:
    """Facts as they were written; with fields of the wrong form left out, each noted."""
    if not isinstance(values, Mapping):
        return None
    try:
        return from_plain(kind, values)
    except (TypeError, ValueError, AttributeError, IndexError):
        good = {k: v for k, v in values.items() if _fits(kind, k, v)}
        notes.append(f"run.json: not as expected: {', '.join(sorted(set(values) - set(good)))}")
        with contextlib.suppress(TypeError, ValueError):
            return from_plain(kind, good)
    return None


def _fits(kind: type[Any], key: str, value: Any) -> bool:
    required = {f.name: 0 for f in fields(kind) if f.name in ("epoch", "step")}
    try:
        from_plain(kind, {**required, key: value})
    except (TypeError, ValueError, AttributeError, IndexError):
        return False
    return True


def _filled(facts: RunFacts, others: RunFacts) -> RunFacts:
    """Facts on record first, then what the other files of the run say."""
    missing = {
        f.name: getattr(others, f.name)
        for f in fields(facts)
        if getattr(facts, f.name) in (None, ())
    }
    return replace(facts, **missing)


def _epochs(place: _Folder, notes: list[str]) -> tuple[EpochSigns, ...]:
    found: dict[int, dict[str, Any]] = {}
    if place.run is not None:
        for row in _results(place.run, notes):
            found[row.epoch] = _renamed(vars(row), RESULT_NAMES)
    for name, names in (
        ("train_diagnostics.jsonl", TRAIN_NAMES),
        ("val_diagnostics.jsonl", VAL_NAMES),
    ):
        for values in _rows(place.file(name), "epoch"):
            known = {k: v for k, v in _renamed(values, names).items() if v is not None}
            found[values["epoch"]] = {**found.get(values["epoch"], {}), **known}
    rows = [_signs(EpochSigns, found[epoch]) for epoch in sorted(found)]
    return tuple(row for row in rows if row is not None)


def _results(run: RunDir, notes: list[str]) -> tuple[EpochRow, ...]:
    try:
        return read_results(run.results_file)
    except (OSError, ValueError, KeyError, TypeError) as error:
        notes.append(f"results.csv cannot be read: {error}")
        return ()


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}


def _rows(path: Path, clock: str) -> Iterator[dict[str, Any]]:
    """Rows of one attempt: where a resumed run goes back, what it had written beyond is void."""
    kept: dict[int, dict[str, Any]] = {}
    for row in _read_rows(path):
        at = row.get(clock)
        if not isinstance(at, int) or isinstance(at, bool):
            continue
        if kept and at <= next(reversed(kept)):
            kept = {moment: old for moment, old in kept.items() if moment < at}
        kept[at] = row
    yield from kept.values()


def _read_rows(path: Path) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(OSError):
        yield from (row for row in files.read_rows(path) if isinstance(row, dict))


def _signs(kind: type[Signs], values: Mapping[str, Any]) -> Signs | None:
    """Signs as they were written; what does not fit is left out."""
    try:
        return from_plain(kind, values)
    except (TypeError, ValueError, AttributeError, IndexError):
        good = {key: value for key, value in values.items() if _fits(kind, key, value)}
    with contextlib.suppress(TypeError, ValueError):
        return from_plain(kind, good)
    return None


def _lost_from(checks: Mapping[str, Any]) -> float:
    """The first step whose loss or gradient norm was not finite; infinite where none is known."""
    first = checks.get("first_non_finite")
    step = first.get("step") if isinstance(first, dict) else None
    return step if isinstance(step, int) else math.inf


def _of_checks(checks: Mapping[str, Any]) -> list[str]:
    """What training found out about itself, where it is not in order."""
    notes = []
    first = checks.get("first_non_finite")
    if isinstance(first, dict):
        notes.append(f"step {first.get('step')}: {first.get('what')} is {first.get('value')}")
    if checks.get("weights_used") is False:
        why = checks.get("weights_note") or "its value differs from the counts"
        notes.append(f"the loss did not use the class weights: {why}")
    return notes


def _steps(path: Path, lost_from: float, notes: list[str]) -> tuple[StepSigns, ...]:
    """A sample of the steps: the first, an even part of the others, and those with no number.

    From ``lost_from`` on, a null means that there was no number, and not that nobody measured.
    """
    kept: dict[int, StepSigns] = {}
    resumed = False
    for line in _sampled_lines(path):
        with contextlib.suppress(ValueError):
            values = json.loads(line)
            if not isinstance(values, dict):
                continue
            if isinstance(values.get("step"), int) and values["step"] >= lost_from:
                lost = {k: "inf" for k in ("loss", "grad_norm") if values.get(k, 0) is None}
                values = {**values, **lost}
            row = _signs(StepSigns, values)
            if row is None or not isinstance(row.step, int):
                continue
            if kept and row.step <= next(reversed(kept)):
                kept = {step: old for step, old in kept.items() if step < row.step}
                resumed = True
            kept[row.step] = row
    if resumed:
        notes.append("the run was resumed: steps that were written again hold")
    return tuple(kept.values())


def _sampled_lines(path: Path) -> Iterator[str]:
    """Chosen lines of a file that may be too long to be held or parsed whole."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        with path.open("rb") as file:
            count = sum(1 for _ in file)
        room = MOST_STEPS - EVERY_STEP_UNTIL - MOST_NON_FINITE
        stride = max(1, math.ceil((count - EVERY_STEP_UNTIL) / room))
        broken = 0
        with path.open("rb") as file:
            for place, line in enumerate(file):
                odd = stride > 1 and broken < MOST_NON_FINITE and _is_broken(line)
                broken += odd
                if place < EVERY_STEP_UNTIL or place % stride == 0 or place == count - 1 or odd:
                    yield line.decode("utf-8", errors="replace")


def _is_broken(line: bytes) -> bool:
    return b'"loss": null' in line or b'inf"' in line or b'"skipped": true' in line


def _confusion(place: _Folder, notes: list[str]) -> tuple[tuple[int, ...], ...] | None:
    counts = json_object(place.file("val_confusion.json")).get("counts")
    if isinstance(counts, list) and counts:
        with contextlib.suppress(TypeError, ValueError):
            found = tuple(tuple(int(n) for n in row) for row in counts)
            if all(len(row) == len(found) for row in found):
                return found
        notes.append("val_confusion.json is no square of counts, and was left out")
    if place.run is None or not place.run.predictions("val").is_file():
        return None
    return _confusion_of_predictions(place.run.predictions("val"), notes)


def _confusion_of_predictions(path: Path, notes: list[str]) -> tuple[tuple[int, ...], ...] | None:
    # Half a second to import, and only runs of before need it.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["label", "predicted"])
        classes = table.schema.metadata[b"classes"].decode("utf-8").split("\n")
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        notes.append(f"{path.name} cannot be read: {error}")
        return None
    if len(classes) > MOST_CLASSES:
        return None
    index = {name: place for place, name in enumerate(classes)}
    counts = [[0] * len(classes) for _ in classes]
    pairs = zip(table["label"].to_pylist(), table["predicted"].to_pylist(), strict=True)
    for label, predicted in pairs:
        if label in index and predicted in index:
            counts[index[label]][index[predicted]] += 1
    return tuple(tuple(row) for row in counts)


def _sample_losses(path: Path) -> dict[str, tuple[float, ...]] | None:
    ids: list[str] = []
    epochs: dict[int, list[Any]] = {}
    for row in _read_rows(path):
        if isinstance(row.get("ids"), list):
            ids = [str(name) for name in row["ids"]]
        elif isinstance(row.get("epoch"), int) and isinstance(row.get("losses"), list):
            epochs[row["epoch"]] = row["losses"]
    whole = [epochs[e] for e in sorted(epochs) if len(epochs[e]) == len(ids)]
    if not ids or not whole:
        return None
    return {
        name: tuple(_number(losses[place]) for losses in whole) for place, name in enumerate(ids)
    }


def _number(value: Any) -> float:
    try:
        return math.nan if value is None else float(value)
    except (TypeError, ValueError):
        return math.nan


def _ended(
    place: _Folder, said: Mapping[str, Any], facts: RunFacts, epochs: tuple[EpochSigns, ...]
) -> Ended:
    """How it ended, by what it wrote; a run that was killed cannot say so: its lock is free."""
    word = said.get("ended")
    if place.run is None:
        return cast(Ended, word) if word in get_args(Ended) else "unknown"
    if word in ("finished", "stopped", "died"):
        return cast(Ended, word)
    held = _is_held(place.run)
    if held:
        return "running"
    if word == "running":
        return "unknown" if held is None else "died"
    done = place.run.predictions("val").is_file() or place.run.adjustment_file.is_file()
    reached = facts.epochs is not None and len(epochs) >= facts.epochs
    return "finished" if done or reached else "unknown"


def _is_held(run: RunDir) -> bool | None:
    """Whether a process trains in it; None where that cannot be found out."""
    if not (run.path / ".lock").exists():
        return False
    try:
        with run.locked():
            return False
    except EspalierError:
        return True
    except OSError:
        return None

"""Hugging Face ``Trainer``: ``trainer_state.json``, of a folder of checkpoints the newest."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from espalier.diagnose.readers.columns import CLOCKS, signs_of
from espalier.diagnose.readers.settings import facts_of
from espalier.diagnose.readers.tables import number
from espalier.diagnose.readers.timeline import Timeline
from espalier.errors import RunError
from espalier.run_record import Ended, RunFacts, RunRecord

_CARD_LINE = re.compile(r"^- (\w+): (.+)$", re.MULTILINE)
_ENTRY = re.compile(r"[\s,]*\{")
_BETAS = re.compile(r"betas=\(([\d.]+),\s*([\d.]+)\) and epsilon=([\d.e+-]+)")

# Key of a state that is not whole; no trainer writes it.
CUT = "cut off"


def state_in(path: Path) -> dict[str, Any] | None:
    """The content of a file if it is a trainer's state, be it cut off; None of anything else."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        try:
            content = json.loads(text)
        except json.JSONDecodeError:
            return _cut_state(text)
        if isinstance(content, dict) and isinstance(content.get("log_history"), list):
            return content
    return None


def _cut_state(text: str) -> dict[str, Any] | None:
    """What is whole of a state whose end is missing: its entries up to there."""
    head, found, rest = text.partition('"log_history":')
    rest = rest.lstrip()
    if not found or not head.lstrip().startswith("{") or not rest.startswith("["):
        return None
    rows: list[Any] = []
    place, decoder = 1, json.JSONDecoder()
    with contextlib.suppress(json.JSONDecodeError):
        while start := _ENTRY.match(rest, place):
            row, place = decoder.raw_decode(rest, start.end() - 1)
            rows.append(row)
    return {"log_history": rows, CUT: True}


def step_of(state: Mapping[str, Any]) -> int:
    """The optimizer step at which a state was saved; 0 where it does not say."""
    step = state.get("global_step")
    return step if isinstance(step, int) else 0


def read(path: Path) -> RunRecord:
    """A run of ``Trainer.train``; what the model card says of its settings is taken as well.

    Raises:
        RunError: The file is no state of a trainer.
    """
    state = state_in(path)
    if state is None:
        raise RunError(
            f"{path} is no trainer_state.json", hint=f"head -c 300 {shlex.quote(str(path))}"
        )
    rows = [row for row in state["log_history"] if isinstance(row, dict)]
    # The last entry is of the run as a whole: its loss is the mean of all epochs.
    rows = [row for row in rows if "train_runtime" not in row]
    names = list(dict.fromkeys(name for row in rows for name in row))
    signs = {name: "loss" if name == "loss" else sign for name, sign in signs_of(names).items()}
    columns = {name: sign for name, sign in signs.items() if sign not in CLOCKS}
    timeline = Timeline(list(columns.values()), zero_based=False)
    for row in rows:
        clock = [_clock(row.get(name)) for name in CLOCKS]
        timeline.add(clock[0], clock[1], [number(row.get(name)) for name in columns])
    found = timeline.in_order()
    facts = _facts(path, state)
    return RunRecord(
        path=str(path),
        tool="huggingface",
        epochs=found.epochs,
        steps=found.steps,
        facts=facts,
        ended=_ended(state),
        notes=(*found.notes, f"{path.name} is cut off: entries up to there are read")
        if CUT in state
        else found.notes,
    )


def _clock(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _ended(state: Mapping[str, Any]) -> Ended:
    done, planned = state.get("global_step"), state.get("max_steps")
    known = isinstance(done, int) and isinstance(planned, int) and planned > 0
    return "finished" if known and done >= planned else "unknown"  # type: ignore[operator]


def _facts(path: Path, state: Mapping[str, Any]) -> RunFacts:
    facts = facts_of(_card(path))
    epochs, steps = state.get("num_train_epochs"), state.get("max_steps")
    batch = state.get("train_batch_size")
    if isinstance(epochs, int | float) and epochs > 0:
        facts = replace(facts, epochs=math.ceil(epochs))
        if isinstance(steps, int) and steps > 0:
            facts = replace(facts, steps_per_epoch=math.ceil(steps / epochs))
    if facts.batch is None and isinstance(batch, int):
        facts = replace(facts, batch=batch)
    if facts.batch and facts.accumulate:
        facts = replace(facts, batch=facts.batch * facts.accumulate)
    return facts


def _card(path: Path) -> dict[str, str]:
    """Hyperparameters that the model card lists, beside the state or one folder above it."""
    for folder in (path.parent, path.parent.parent):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = (folder / "README.md").read_text(encoding="utf-8")
            _, found, listed = text.partition("The following hyperparameters were used")
            if found:
                return _settings(dict(_CARD_LINE.findall(listed)))
    return {}


def _settings(card: dict[str, Any]) -> dict[str, Any]:
    words = str(card.get("optimizer", ""))
    name = re.search(r"adamw|adam|sgd|[a-z]+$", words.replace("Use ", "").lower())
    card["optimizer"] = name.group() if name else None
    inside = _BETAS.search(words)
    if inside:
        card["betas"] = (float(inside.group(1)), float(inside.group(2)))
        card["adam_epsilon"] = inside.group(3)
    return card

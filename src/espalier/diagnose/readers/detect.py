"""Whose record is it? Told by what is in a file, not by its name; and where records lie."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from espalier.diagnose.readers import espalier_run, huggingface, tensorboard
from espalier.diagnose.readers.columns import is_telling, recognised, signs_of
from espalier.diagnose.readers.tables import Dialect, dialect_of, number, some_rows
from espalier.errors import RunError

# Files that are large, many, and never records.
_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".svg", ".pdf")
_WEIGHTS = (".pt", ".pth", ".ckpt", ".safetensors", ".bin", ".onnx", ".h5", ".keras", ".pkl")
_OTHERS = (
    ".npy",
    ".npz",
    ".parquet",
    ".zip",
    ".gz",
    ".tar",
    ".py",
    ".md",
    ".yaml",
    ".yml",
    ".html",
)
_PASSED_OVER = frozenset((*_PICTURES, *_WEIGHTS, *_OTHERS, ".lock"))
DEEPEST = 4
MOST_FILES = 20_000


@dataclass(frozen=True)
class Entry:
    """One record that was found.

    Attributes:
        path: What to name in a command.
        tool: Who wrote it.
        dialect: How the table is written, where it is one.
        files: Event files that belong together.
    """

    path: Path
    tool: str
    dialect: Dialect | None = field(default=None, compare=False)
    files: tuple[Path, ...] = ()


def find_records(path: Path | str, mapping: Mapping[str, str] | None = None) -> list[Entry]:
    """The records at a path: of a file itself, of a folder all that lie in it, sorted by path.

    Args:
        path: A file, a run folder, or a folder of runs.
        mapping: Sign -> column; with it, tables that have these columns are records as well.

    Raises:
        RunError: The path does not exist or cannot be read.
    """
    place = Path(path)
    if not place.exists():
        raise RunError(
            f"{place} does not exist", hint=f"ls {shlex.quote(str(place.absolute().parent))}"
        )
    if place.is_file():
        entry = _entry_of(place, mapping)
        return [entry] if entry else []
    if espalier_run.is_run(place):
        return [Entry(place, "espalier")]
    return _one_per_run(list(_walk(place, mapping)))


def tables_in(path: Path) -> list[tuple[Path, Dialect]]:
    """Tables that might be records if their columns were known."""
    candidates = [path] if path.is_file() else [p for p in _files(path) if p.parent == path]
    found = [(place, dialect_of(place)) for place in candidates]
    return [(place, dialect) for place, dialect in found if dialect is not None]


def _walk(folder: Path, mapping: Mapping[str, str] | None) -> Iterator[Entry]:
    runs: dict[Path, bool] = {}
    for file in _files(folder):
        if any(runs.get(parent) for parent in file.parents):
            continue
        own = file.parent.parent if file.parent.name == "diagnostics" else file.parent
        if own not in runs:
            runs[own] = own.is_relative_to(folder) and espalier_run.is_run(own)
        if runs[own]:
            yield Entry(own, "espalier")
            continue
        entry = _entry_of(file, mapping, named=False)
        if entry is not None:
            yield entry


def _files(folder: Path) -> Iterator[Path]:
    """Files that could be records, nearest first in each folder; linked folders are left out."""
    seen = 0
    for place, folders, names in os.walk(folder):
        depth = len(Path(place).relative_to(folder).parts)
        folders[:] = sorted(f for f in folders if not f.startswith(".")) if depth < DEEPEST else []
        for name in sorted(names):
            seen += 1
            if seen > MOST_FILES:
                return
            file = Path(place) / name
            if name.startswith(".") or file.suffix.lower() in _PASSED_OVER:
                continue
            # A pipe would be waited for without end.
            if file.is_file():
                yield file


def _entry_of(file: Path, mapping: Mapping[str, str] | None, *, named: bool = True) -> Entry | None:
    """The record that a file is; None if it is none."""
    run = _run_around(file) if named else None
    if run is not None:
        return Entry(run, "espalier")
    if not os.access(file, os.R_OK):
        if named:
            raise RunError(
                f"cannot read {file}: permission denied", hint=f"ls -l {shlex.quote(str(file))}"
            )
        return None
    if tensorboard.is_events(file):
        return Entry(file.parent if not named else file, "tensorboard", files=(file,))
    if file.suffix.lower() in _PASSED_OVER:
        return None
    dialect = dialect_of(file)
    if _is_state(file, dialect):
        return Entry(file, "huggingface")
    if dialect is None:
        return None
    if mapping:
        there = set(mapping.values()) <= set(dialect.columns)
        return Entry(file, "table", dialect) if named or there else None
    tool = _tool(file, dialect)
    return Entry(file, tool, dialect) if tool else None


def _run_around(file: Path) -> Path | None:
    """The run folder that a file is part of: its results, a checkpoint, one of its diagnostics."""
    inside = {"results.csv", "recipe.yaml", "environment.json", "run.json", "best.pt", "last.pt"}
    if file.name in inside or file.name.endswith("diagnostics.jsonl") or file.name == "steps.jsonl":
        for folder in (file.parent, file.parent.parent):
            if espalier_run.is_run(folder):
                return folder
    return None


def _is_state(file: Path, dialect: Dialect | None) -> bool:
    """Whether it is a trainer's state: one JSON object over many lines, or over one."""
    many_lines = dialect is None or any("log_history" in column for column in dialect.columns)
    return many_lines and b"log_history" in _head(file) and huggingface.state_in(file) is not None


def _head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(1 << 20)


def _tool(file: Path, dialect: Dialect) -> str | None:
    columns = set(dialect.columns)
    if {"train/loss", "metrics/accuracy_top1"} <= columns or {"lr/pg0", "epoch"} <= columns:
        return "ultralytics"
    if {"epoch", "train_loss", "eval_loss", "eval_top1"} <= columns:
        return "timm"
    if {"epoch", "train_loss", "valid_loss", "time"} <= columns:
        return "fastai"
    signs = signs_of(dialect.columns)
    if not is_telling(signs):
        return None
    if {"epoch", "step"} <= columns and _is_sparse(file, dialect):
        return "lightning"
    if dialect.columns[0] == "epoch" and "loss" in columns and "step" not in signs.values():
        return "keras" if _from_zero(file, dialect) else "table"
    return "table"


def _is_sparse(file: Path, dialect: Dialect) -> bool:
    """Whether rows of one moment are spread, each with cells that the others lack."""
    if dialect.kind != "csv":
        return False
    rows = some_rows(file, dialect)
    return bool(rows) and all(any(not cell.strip() for cell in row) for row in rows)


def _from_zero(file: Path, dialect: Dialect) -> bool:
    rows = some_rows(file, dialect, 1)
    return dialect.kind == "csv" and bool(rows) and number(rows[0][0]) == 0


def _one_per_run(found: list[Entry]) -> list[Entry]:
    """Checkpoints of one training, and files that say the same, as one entry each."""
    states = _newest_states([entry for entry in found if entry.tool == "huggingface"])
    tables = [entry for entry in found if entry.tool not in ("huggingface", "tensorboard")]
    taken = {entry.path.parent for entry in (*tables, *states)} | {e.path for e in tables}
    events = [e for e in _joined_events(found) if e.path not in taken]
    return sorted([*states, *tables, *events], key=lambda entry: str(entry.path))


def _newest_states(found: list[Entry]) -> list[Entry]:
    newest: dict[Path, tuple[int, Entry]] = {}
    for entry in found:
        folder = entry.path.parent
        owner = folder.parent if folder.name.startswith("checkpoint-") else folder
        step = huggingface.step_of(huggingface.state_in(entry.path) or {})
        # Equal steps: the state that lies nearer to the top is the one saved at the end.
        if owner not in newest or step > newest[owner][0]:
            newest[owner] = (step, entry)
    return [entry for _, entry in newest.values()]


def _joined_events(found: list[Entry]) -> list[Entry]:
    """Event files by folder; ``train`` and ``validation`` side by side are one run."""
    folders: dict[Path, list[Path]] = {}
    for entry in found:
        if entry.tool == "tensorboard":
            split = recognised(f"{entry.path.name}_loss") == "val_loss" or entry.path.name in (
                "train",
                "training",
            )
            owner = entry.path.parent if split else entry.path
            folders.setdefault(owner, []).extend(entry.files)
    return [Entry(folder, "tensorboard", files=tuple(fs)) for folder, fs in folders.items()]

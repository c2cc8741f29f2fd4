"""Ultralytics: ``results.csv`` of a classification run, with ``args.yaml`` beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from espalier.diagnose.readers.settings import facts_of, read_settings
from espalier.diagnose.readers.tables import Dialect
from espalier.diagnose.readers.tabular import timed
from espalier.errors import RunError
from espalier.run_record import EpochSigns, RunFacts, RunRecord, StageFacts

# The first group of parameters is that of the weights; biases warm up from a rate of their own.
SIGNS = {
    "epoch": "epoch",
    "time": "seconds",
    "train/loss": "train_loss",
    "metrics/accuracy_top1": "val_accuracy",
    "val/loss": "val_loss",
    "lr/pg0": "learning_rate",
}
# Gradients are gathered until so many images were seen.
NOMINAL_BATCH = 64


def read(path: Path, dialect: Dialect) -> RunRecord:
    """A run of ``yolo classify train``.

    Raises:
        RunError: It is a run of another task.
    """
    if "metrics/accuracy_top1" not in dialect.columns:
        raise RunError(
            f"{path} is of an Ultralytics run that is no classification: "
            "only `yolo classify train` is read",
            hint="espalier diagnose FOLDER of a classification run",
        )
    signs = {column: SIGNS[column] for column in dialect.columns if column in SIGNS}
    found = timed(path, dialect, signs, unit="share")
    settings = read_settings(path.with_name("args.yaml"))
    facts = _facts(facts_of(settings), settings.get("cos_lr"))
    facts = replace(
        facts,
        patience=_whole(settings.get("patience")),
        # The setting `pretrained` is true by default and says nothing.
        pretrained=True if str(settings.get("model")).endswith(".pt") else None,
    )
    done = facts.epochs is not None and len(found.epochs) >= facts.epochs
    return RunRecord(
        path=str(path),
        tool="ultralytics",
        epochs=_own_seconds(found.epochs),
        facts=facts,
        ended="finished" if done else "unknown",
        notes=found.notes,
    )


def _facts(facts: RunFacts, cosine: object) -> RunFacts:
    accumulate = max(round(NOMINAL_BATCH / facts.batch), 1) if facts.batch else None
    schedule = None if cosine is None else "cosine" if cosine else "linear"
    stages = tuple(_with_schedule(stage, schedule) for stage in facts.stages)
    return replace(
        facts,
        loss="cross-entropy",
        stages=stages,
        accumulate=accumulate,
        batch=facts.batch * accumulate if facts.batch and accumulate else None,
    )


def _with_schedule(stage: StageFacts, schedule: str | None) -> StageFacts:
    return replace(stage, schedule=schedule)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _own_seconds(epochs: tuple[EpochSigns, ...]) -> tuple[EpochSigns, ...]:
    """Time of each epoch: the file counts from the start of the run, anew where it was resumed."""
    before, rows = 0.0, []
    for row in epochs:
        rows.append(replace(row, seconds=row.seconds - (before if row.seconds >= before else 0.0)))
        before = row.seconds
    return tuple(rows)

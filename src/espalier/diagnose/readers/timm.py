"""timm's ``train.py``: ``summary.csv`` with ``args.yaml`` beside it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from espalier.diagnose.readers.settings import facts_of, read_settings, whole
from espalier.diagnose.readers.tables import Dialect, plain_number
from espalier.diagnose.readers.tabular import timed
from espalier.run_record import RunFacts, RunRecord

SIGNS = {
    "epoch": "epoch",
    "train_loss": "train_loss",
    "eval_loss": "val_loss",
    "eval_top1": "val_accuracy",
    "lr": "learning_rate",
}


def read(path: Path, dialect: Dialect) -> RunRecord:
    """A run of timm's training script; its accuracies are percent, its epochs count from 0."""
    signs = {column: SIGNS[column] for column in dialect.columns if column in SIGNS}
    found = timed(path, dialect, signs, unit="percent", zero_based=True)
    settings = read_settings(path.with_name("args.yaml"))
    averaged = bool(settings.get("model_ema"))
    notes = ("validation is of the averaged weights (--model-ema)",) if averaged else ()
    planned = settings.get("epochs")
    # Cosine runs get some epochs more, at the lowest rate.
    done = isinstance(planned, int) and len(found.epochs) >= planned
    return RunRecord(
        path=str(path),
        tool="timm",
        epochs=found.epochs,
        facts=_facts(settings),
        ended="finished" if done else "unknown",
        notes=(*found.notes, *notes),
    )


def _facts(settings: dict[str, Any]) -> RunFacts:
    facts = facts_of(settings)
    if not settings:
        return facts
    accumulate = facts.accumulate or 1
    size = settings.get("input_size")
    return replace(
        facts,
        loss="bce" if settings.get("bce_loss") else "cross-entropy",
        accumulate=accumulate,
        batch=facts.batch * accumulate if facts.batch else None,
        clip_norm=facts.clip_norm or 0.0,
        precision=_precision(settings),
        ema_decay=_ema_decay(settings),
        augment=settings.get("aa") or None,
        imgsz=facts.imgsz or whole(size[-1] if isinstance(size, list) and size else None),
    )


def _ema_decay(settings: dict[str, Any]) -> float | None:
    if not settings.get("model_ema"):
        return 0.0
    decay = plain_number(settings.get("model_ema_decay"))
    return None if math.isnan(decay) else decay


def _precision(settings: dict[str, Any]) -> str:
    if not settings.get("amp"):
        return "fp32"
    return "bf16" if settings.get("amp_dtype") == "bfloat16" else "fp16"

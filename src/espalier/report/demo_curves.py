"""What good, overfitting and underfitting curves look like, drawn from made-up runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espalier.records import EpochRow, History, StageSpan
from espalier.report.curves import draw_curves

EPOCHS, HEAD_EPOCHS, WARMUP, BATCHES, CLASSES = 30, 5, 3, 120, 12
CHANCE_LOSS = math.log(CLASSES)


@dataclass(frozen=True)
class Lesson:
    """One picture: what it shows, and the curves behind it as functions of progress in [0, 1]."""

    file: str
    title: str
    note: str
    val_accuracy: Callable[[float], float]
    gap: Callable[[float], float]
    val_loss: Callable[[float], float]
    probe_loss: Callable[[float], float]
    peak_rate: float


def _rise(start: float, end: float, speed: float) -> Callable[[float], float]:
    return lambda t: end + (start - end) * math.exp(-speed * t)


LESSONS = (
    Lesson(
        file="good.png",
        title="Good: both curves rise together and flatten out",
        note="See: the gap stays below 5 points, validation loss is lowest near the end. "
        "Do: keep this recipe; evaluate on the test split.",
        val_accuracy=_rise(0.22, 0.925, 5.5),
        gap=lambda t: 0.032 * t**0.7,
        val_loss=_rise(2.3, 0.30, 5.0),
        probe_loss=_rise(2.25, 0.20, 5.2),
        peak_rate=1e-3,
    ),
    Lesson(
        file="overfitting.png",
        title="Overfitting: training still improves, validation no longer does",
        note="See: validation loss turns upward, the gap passes 10 points. "
        "Do: stronger augmentation, more weight decay or dropout, earlier stopping, more photos.",
        val_accuracy=_rise(0.22, 0.77, 8.0),
        gap=lambda t: 0.225 * (1 - math.exp(-3.2 * t)),
        val_loss=lambda t: 0.80 + 1.5 * math.exp(-11 * t) + 0.75 * max(0.0, t - 0.22),
        probe_loss=_rise(2.25, 0.015, 6.5),
        peak_rate=1e-3,
    ),
    Lesson(
        file="underfitting.png",
        title="Underfitting: both curves stay low, although the gap is small",
        note="See: training accuracy is poor too, losses stay near chance. "
        "Do: a higher learning rate, more epochs, thaw more layers, a larger model, more pixels.",
        val_accuracy=_rise(0.10, 0.345, 2.2),
        gap=lambda t: 0.012 * t,
        val_loss=_rise(CHANCE_LOSS, 1.93, 2.0),
        probe_loss=_rise(CHANCE_LOSS, 1.90, 2.0),
        peak_rate=1e-5,
    ),
)


def demo_curves(folder: Path) -> tuple[Path, Path, Path]:
    """Draw ``good.png``, ``overfitting.png`` and ``underfitting.png`` into a folder.

    Raises:
        DiskError: A file could not be written.
    """
    good, over, under = (
        draw_curves(_made_up_run(lesson), folder / lesson.file, note=lesson.note)
        for lesson in LESSONS
    )
    return good, over, under


def _made_up_run(lesson: Lesson) -> History:
    noise = np.random.default_rng(7)
    rows = tuple(_made_up_row(lesson, epoch, noise) for epoch in range(1, EPOCHS + 1))
    spans = (
        StageSpan("head", 1, HEAD_EPOCHS),
        StageSpan("full", HEAD_EPOCHS + 1, EPOCHS, float(WARMUP)),
    )
    facts = {"model": "none", "data": "made-up numbers", "classes": str(CLASSES)}
    return History(rows, spans, lesson.title, facts)


def _made_up_row(lesson: Lesson, epoch: int, noise: np.random.Generator) -> EpochRow:
    t = (epoch - 1) / (EPOCHS - 1)
    head = epoch <= HEAD_EPOCHS
    wobble = noise.normal(0, 1, 5)
    accuracy = min(lesson.val_accuracy(t) + 0.006 * wobble[0], 1.0)
    probe = min(accuracy + lesson.gap(t) + 0.004 * wobble[1], 0.998)
    rate = lesson.peak_rate * _factor(epoch)
    return EpochRow(
        stage="head" if head else "full",
        stage_index=0 if head else 1,
        epoch=epoch,
        step=epoch * BATCHES,
        learning_rate=rate,
        backbone_learning_rate=0.0 if head else rate / 5,
        train_loss=0.75 * lesson.probe_loss(t) + 0.72 + 0.008 * wobble[2],
        train_accuracy=0.93 * probe,
        probe_loss=lesson.probe_loss(t) * (1 + 0.009 * wobble[3]),
        probe_accuracy=probe,
        val_loss=lesson.val_loss(t) * (1 + 0.009 * wobble[4]),
        val_accuracy=accuracy,
        val_macro_f1=accuracy - 0.018 + 0.004 * wobble[3],
        mean_grad_norm=1.0,
        min_grad_norm=0.5,
        max_grad_norm=2.0,
        mean_update_norm=1e-3,
        batches=BATCHES,
        seconds=24.0 + wobble[2],
        best=False,
    )


def _factor(epoch: int) -> float:
    """Cosine in the first stage; linear warmup, then cosine, in the second."""
    if epoch <= HEAD_EPOCHS:
        return 0.5 * (1 + math.cos(math.pi * epoch / (HEAD_EPOCHS + 0.6)))
    inside = epoch - HEAD_EPOCHS
    if inside <= WARMUP:
        return 0.3 * inside / WARMUP
    left = (inside - WARMUP) / (EPOCHS - HEAD_EPOCHS - WARMUP + 0.5)
    return 0.3 * 0.5 * (1 + math.cos(math.pi * left))

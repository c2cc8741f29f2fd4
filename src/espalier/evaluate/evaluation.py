"""A verdict on predictions: scores with intervals, per class, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from espalier import files, metrics
from espalier.errors import DataError
from espalier.evaluate.intervals import bootstrap
from espalier.records import Predictions, Score

RESAMPLES = 2000


@dataclass(frozen=True)
class Evaluation:
    """How well a set of predictions did.

    Attributes:
        split: What was judged: ``val``, ``test``, or the folder's name.
        images: How many images were judged.
        loss: Mean cross-entropy in nats.
        scores: accuracy, macro_f1, balanced_accuracy, each with its 95 % interval.
        per_class: One entry per class of the mapping, in its order.
        confusion: Counts [K, K]; row: true class, column: predicted class.
        classes: The label mapping.
    """

    split: str
    images: int
    loss: float
    scores: Mapping[str, Score]
    per_class: tuple[metrics.ClassScore, ...]
    confusion: npt.NDArray[np.int64]
    classes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Scores as plain numbers, each with ``<name>_interval`` beside it."""
        record: dict[str, Any] = {"images": self.images, "loss": round(self.loss, 6)}
        for name, score in self.scores.items():
            record[name] = round(score.value, 6)
            record[f"{name}_interval"] = [_rounded(score.low), _rounded(score.high)]
        return record

    def per_class_json(self) -> list[dict[str, Any]]:
        """Per class, worst first: name, precision, recall, f1, support."""
        worst = sorted(self.per_class, key=lambda c: (c.support == 0, c.f1))
        return [
            {
                "class": c.name,
                "precision": round(c.precision, 6),
                "recall": round(c.recall, 6),
                "f1": round(c.f1, 6),
                "support": c.support,
            }
            for c in worst
        ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def evaluate_predictions(predictions: Predictions, split: str) -> Evaluation:
    """Judge the labelled images among the predictions.

    Raises:
        DataError: None of them has a label.
    """
    labelled = predictions.labels >= 0
    if not labelled.any():
        raise DataError(
            f"none of the {len(predictions.labels)} images of {split} has a label: "
            "there is nothing to compare with",
            hint="espalier predict RUN IMAGES needs no labels",
        )
    known = keep(predictions, labelled)
    return Evaluation(
        split=split,
        images=len(known.labels),
        loss=metrics.cross_entropy(known.logits, known.labels),
        scores=bootstrap(known, metrics.SCORES, resamples=RESAMPLES, seed=0),
        per_class=tuple(metrics.per_class(known)),
        confusion=metrics.confusion(known.labels, known.predicted, len(known.classes)),
        classes=known.classes,
    )


def keep(predictions: Predictions, mask: npt.NDArray[np.bool_]) -> Predictions:
    """The predictions where the mask [N] is true."""
    chosen = np.flatnonzero(mask)
    return Predictions(
        tuple(predictions.sample_ids[i] for i in chosen),
        tuple(predictions.paths[i] for i in chosen),
        predictions.labels[chosen],
        predictions.logits[chosen],
        predictions.classes,
    )


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions whole, as Parquet: one row per image.

    Columns: sample_id, path, label, predicted, probability (of the predicted class), logits.
    The label mapping lies in the file's metadata under ``classes``, one name per line.
    """
    names = np.array([*predictions.classes, None], dtype=object)
    probabilities = predictions.probabilities.max(axis=1, initial=0.0)
    table = pa.table(
        {
            "sample_id": list(predictions.sample_ids),
            "path": list(predictions.paths),
            "label": pa.array(names[predictions.labels].tolist(), pa.string()),
            "predicted": pa.array(names[predictions.predicted].tolist(), pa.string()),
            "probability": pa.array(probabilities, pa.float64()),
            "logits": pa.array(predictions.logits.tolist(), pa.list_(pa.float32())),
        }
    ).replace_schema_metadata({"classes": "\n".join(predictions.classes)})
    files.write_whole(path, lambda partial: pq.write_table(table, partial))


def read_predictions(path: Path) -> Predictions:
    """The inverse of ``write_predictions``."""
    table = pq.read_table(path)
    classes = tuple(table.schema.metadata[b"classes"].decode("utf-8").split("\n"))
    index = {name: i for i, name in enumerate(classes)}
    labels = [index.get(name, -1) for name in table.column("label").to_pylist()]
    logits = np.array(table.column("logits").to_pylist(), dtype=np.float32)
    return Predictions(
        tuple(table.column("sample_id").to_pylist()),
        tuple(table.column("path").to_pylist()),
        np.array(labels, dtype=np.int64),
        logits.reshape(len(labels), len(classes)),
        classes,
    )

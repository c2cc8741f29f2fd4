"""Subjects for audit rules, made from a few words of YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from espalier.audited import Audited, Embedded, Look, Pair
from espalier.records import Catalog, Sample

USUAL = {
    "form": "JPEG",
    "orientation": 1,
    "brightness": 0.5,
    "contrast": 0.2,
    "sharpness": 0.6,
    "colour": 0.15,
}


def subject_of(words: Mapping[str, Any]) -> Audited:
    """An audited data set.

    ``samples`` lists images (``id``, and any field of ``Sample`` or ``Look``) or, with ``count``,
    so many like it (``id0``, ``id1`` ...); ``pairs`` lists [first, second, kind, similarity, how];
    ``probabilities`` maps id -> [K] for the images that were judged; ``features`` maps id -> [F].
    """
    rows = [row for entry in words.get("samples", []) for row in _repeated(entry)]
    samples = tuple(_sample(row) for row in rows)
    classes = tuple(words.get("classes") or sorted({s.label for s in samples if s.label}))
    looks = {row["id"]: _look(row) for row in rows if row.get("status", "ok") == "ok"}
    pairs = words.get("pairs")
    return Audited(
        catalog=Catalog(samples, classes, words.get("source", "photos")),
        given_split=words.get("given_split", False),
        looks=looks,
        pairs=None if pairs is None else tuple(Pair(*pair) for pair in pairs),
        embedded=_embedded(words, samples, classes),
        unknown=words.get("unknown", {}),
        imgsz=words.get("imgsz", 224),
    )


def _repeated(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    row = dict(entry)
    count = row.pop("count", None)
    if count is None:
        return [row]
    path = row.get("path", "photos/{id}.jpg")
    return [
        {**row, "id": f"{row['id']}{i}", "path": path.replace("{id}", f"{row['id']}{i}")}
        for i in range(count)
    ]


def _sample(row: Mapping[str, Any]) -> Sample:
    split = row.get("split", "train")
    label = row.get("label", "a")
    return Sample(
        sample_id=row["id"],
        path=row.get("path", f"photos/{label}/{row['id']}.jpg"),
        label=label,
        group=row.get("group"),
        split=split,
        width=row.get("width", 300),
        height=row.get("height", 300),
        status=row.get("status", "ok"),
        reason=row.get("reason", ""),
    )


def _look(row: Mapping[str, Any]) -> Look:
    return Look(**{name: row.get(name, usual) for name, usual in USUAL.items()})  # type: ignore[arg-type]


def _embedded(
    words: Mapping[str, Any], samples: Sequence[Sample], classes: Sequence[str]
) -> Embedded | None:
    if "probabilities" not in words and "features" not in words:
        return None
    given: Mapping[str, Sequence[float]] = words.get("probabilities", {})
    features: Mapping[str, Sequence[float]] = words.get("features", {})
    known = [s for s in samples if s.status == "ok" and (s.sample_id in given or not given)]
    width = len(next(iter(features.values()), [0.0]))
    return Embedded(
        model="made-up",
        sample_ids=tuple(s.sample_id for s in known),
        features=np.array(
            [features.get(s.sample_id, [0.0] * width) for s in known], dtype=np.float32
        ),
        labels=np.array([classes.index(s.label or "") for s in known], dtype=np.int64),
        probabilities=np.array([given[s.sample_id] for s in known]) if given else None,
        judged=np.ones(len(known), dtype=np.bool_),
    )

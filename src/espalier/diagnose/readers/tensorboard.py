"""TensorBoard: the scalars of its event files, read without the package.

An event file is a row of records: length (8 bytes), its checksum (4), the content, its checksum
(4); the content is a protocol buffer. Formats: tensorflow/core/lib/io/record_writer.h,
tensorflow/core/util/event.proto, tensorflow/core/framework/{summary,tensor}.proto.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from espalier.diagnose.readers.columns import TELLING, map_option, recognised
from espalier.diagnose.readers.tables import SPELLED_NAN
from espalier.diagnose.readers.timeline import Timeline
from espalier.errors import RunError
from espalier.run_record import RunFacts, RunRecord

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# Longer than any summary of scalars: what follows is no record but damage.
LONGEST = 1 << 30
FLOAT, DOUBLE = 1, 2
# What tags are read as; the epoch is a clock.
SIGNS = (*TELLING, "learning_rate", "grad_norm", "ema_accuracy")


def is_events(path: Path) -> bool:
    """Whether a file begins as an event file does: with the record of its version."""
    with path.open("rb") as file:
        head = file.read(200)
    return len(head) > 24 and b"brain.Event:" in head[12:60]


def scalars_of(path: Path) -> Iterator[tuple[str, int, float]]:
    """Tag, step and value of each scalar; a half-written last record ends the file."""
    for event in _records(path):
        step = 0
        summaries: list[bytes] = []
        for number, value in _fields(event):
            if number == 2 and isinstance(value, int):
                step = value - (1 << 64) if value >> 63 else value
            elif number == 5 and isinstance(value, bytes):
                summaries.append(value)
        for summary in summaries:
            for number, value in _fields(summary):
                if number == 1 and isinstance(value, bytes):
                    yield from _scalar(value, step)


def _records(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while len(head := file.read(12)) == 12:
            (length,) = struct.unpack("<Q", head[:8])
            if length > LONGEST:
                return
            content = file.read(length)
            if len(content) < length or len(file.read(4)) < 4:
                return
            yield content


def _fields(buffer: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and raw value of each field of a protocol buffer; damage ends it."""
    place = 0
    while place < len(buffer):
        key, place = _varint(buffer, place)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, place = _varint(buffer, place)
            yield number, value
            continue
        if kind == BYTES:
            size, place = _varint(buffer, place)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            return
        yield number, buffer[place : place + size]
        place += size


def _varint(buffer: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(buffer):
        byte = buffer[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return value, place


def _scalar(buffer: bytes, step: int) -> Iterator[tuple[str, int, float]]:
    tag, value = "", None
    for number, raw in _fields(buffer):
        if number == 1 and isinstance(raw, bytes):
            tag = raw.decode("utf-8", errors="replace")
        elif number == 2 and isinstance(raw, bytes) and len(raw) == 4:
            value = struct.unpack("<f", raw)[0]
        elif number == 8 and isinstance(raw, bytes):
            value = _tensor(raw)
    if tag and value is not None:
        yield tag, step, value


def _tensor(buffer: bytes) -> float | None:
    """The value of a tensor that holds a single float; None of any other."""
    kind, content = 0, b""
    for number, raw in _fields(buffer):
        if number == 1 and isinstance(raw, int):
            kind = raw
        elif number in (4, 5, 6) and isinstance(raw, bytes):
            content = raw
    form = {FLOAT: "<f", DOUBLE: "<d"}.get(kind, "")
    if not form or len(content) != struct.calcsize(form):
        return None
    return float(struct.unpack(form, content)[0])


def read(files: Sequence[Path], folder: Path) -> RunRecord:
    """A run from its event files; those in folders ``train`` and ``validation`` belong together.

    Raises:
        RunError: No tag is known.
    """
    timeline = Timeline(SIGNS)
    signs: dict[str, str | None] = {}
    for path in files:
        _collect(path, _prefix(path, folder), timeline, signs)
    if not any(sign in TELLING for sign in signs.values()):
        tags = sorted(signs)
        raise RunError(
            f"{folder} has event files, but none of their tags is known: {', '.join(tags)}",
            hint=f"export the scalars as a table, then: espalier diagnose TABLE {map_option(tags)}",
        )
    # Only Lightning writes the epoch as a scalar, and it counts from 0.
    timeline.zero_based = True if "epoch" in signs.values() else None
    found = timeline.in_order()
    unread = [tag for tag, sign in signs.items() if sign is None]
    note = f"tags that were not read: {', '.join(sorted(unread)[:8])}"
    return RunRecord(
        path=str(folder),
        tool="tensorboard",
        epochs=found.epochs,
        steps=found.steps,
        facts=RunFacts(steps_per_epoch=found.steps_per_epoch),
        notes=(*found.notes, note) if unread else found.notes,
    )


def _prefix(path: Path, folder: Path) -> str:
    """The split that the folder of a file stands for: Keras writes one folder for each."""
    return f"{path.parent.name}_" if path.parent.parent == folder else ""


def _collect(path: Path, prefix: str, timeline: Timeline, signs: dict[str, str | None]) -> None:
    """Rows of the scalars that were written at the same step, one after another.

    Each new tag is noted in ``signs`` with what it holds.
    """
    places = {sign: place for place, sign in enumerate(timeline.signs)}
    row, at, epoch = [math.nan] * len(places), None, math.nan
    for tag, step, value in scalars_of(path):
        name = prefix + tag
        if name not in signs:
            signs[name] = recognised(name)
        place = places.get(signs[name] or "")
        if step != at or (place is not None and row[place] == row[place]):
            _flush(timeline, epoch, at, row)
            row, at, epoch = [math.nan] * len(places), step, math.nan
        if signs[name] == "epoch":
            epoch = value
        elif place is not None:
            row[place] = value if value == value else SPELLED_NAN
    _flush(timeline, epoch, at, row)


def _flush(timeline: Timeline, epoch: float, step: int | None, row: Sequence[float]) -> None:
    if step is not None and any(value == value for value in row):
        timeline.add(epoch, float(step), row)

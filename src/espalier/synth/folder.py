"""From a folder of photographs to a folder of painted ones, with a table that says what each is."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from espalier.data.folders import image_files
from espalier.data.images import Pixels, content_hash, read_bytes, read_image
from espalier.errors import DataError, UnreadableImageError
from espalier.files import remove_partials, write_whole
from espalier.synth import painters
from espalier.synth.canvas import Canvas
from espalier.synth.painters import Painter
from espalier.synth.plan import INTENSITIES, Original, Variant, missing_for_ratio, variants

MANIFEST = "synthetic.csv"
COLUMNS = (
    *("path", "label", "split", "group", "synthetic"),
    *("source", "painter", "kind", "intensity", "seed"),
)
Progress = Callable[[int, int], None]
Row = dict[str, str]


_JPEG_QUALITY = 95
_ROWS_BETWEEN_WRITES = 50


@dataclass(frozen=True)
class Order:
    """What a person wants made.

    Attributes:
        source: Folder of photographs to paint on; all image files below it count.
        out: Folder for what is made; outside of ``source``.
        painter: Name of a painter.
        shares: Share of each intensity, summing to 1.
        seed: Same seed, same pictures.
        variations: Variants of each photograph; None where ``ratio`` decides.
        ratio: Wanted (real + synthetic) images of the label per photograph in ``source``.
        against: Folder of real images of the label; None where there are none.
        label: Class of what is made; None: the painter's own word.
    """

    source: Path
    out: Path
    painter: str
    shares: Mapping[str, float]
    seed: int = 0
    variations: int | None = 2
    ratio: float | None = None
    against: Path | None = None
    label: str | None = None


@dataclass
class Made:
    """What came of an order.

    Attributes:
        manifest: The table beside the pictures.
        label: Class of what was made.
        photographs: Readable photographs in the source.
        real: Real images of the label that were counted.
        there: Pictures that an earlier call had made.
        made: Pictures made now, per intensity.
        unreadable: (path, reason) of files that were left out.
        not_found: Photographs in which no object was found.
        copies: Files with the same bytes as another; painted once only.
        is_enough: Whether the wanted number is there now.
    """

    manifest: Path
    label: str
    photographs: int = 0
    real: int = 0
    there: int = 0
    made: Counter[str] = field(default_factory=Counter)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    not_found: list[str] = field(default_factory=list)
    copies: int = 0
    is_enough: bool = True

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "manifest": str(self.manifest),
            "label": self.label,
            "photographs": self.photographs,
            "real": self.real,
            "there_before": self.there,
            "made": self.made.total(),
            "made_by_intensity": {name: self.made[name] for name in INTENSITIES},
            "unreadable": [{"path": path, "reason": why} for path, why in self.unreadable],
            "no_object_found": self.not_found,
            "exact_copies": self.copies,
            "is_enough": self.is_enough,
        }


def make(order: Order, progress: Progress | None = None) -> Made:
    """Paint what an order asks for, and go on where an earlier call with the same order stopped.

    Every file is written whole, none is replaced, and nothing is written into the source.

    Args:
        order: What to make.
        progress: Called with (pictures done, pictures to make).

    Raises:
        DataError: Folders that must not be used so, values that cannot hold, nothing to paint on.
        DiskError: A file could not be written; those before it are kept.
    """
    painter = painters.load(order.painter)
    _check(order)
    # Threads of OpenCV's own change nothing but the time of others.
    cv2.setNumThreads(1)
    done = Made(order.out / MANIFEST, order.label or painter.LABEL)
    originals = _originals(order, done)
    table = _Table(order, done.label)
    done.there = len(table.made_by(order.painter))
    done.real = _count_real(order)
    goal = _to_make(order, originals, done)
    for variant in _wanted(order, painter, originals, table, goal, done):
        picture = _painted(variant, painter, done)
        if picture is not None:
            table.add(variant, picture)
            done.made[variant.intensity] += 1
            if progress is not None:
                progress(done.made.total(), goal)
    table.write()
    if len(done.not_found) == len(originals):
        raise DataError(
            f"on none of the {len(originals):,} photographs of {order.source} was an object found",
            hint=f"espalier synth {order.painter} FOLDER, of whole dishes or green leaves",
        )
    done.there += table.taken_in
    done.is_enough = order.ratio is None or done.made.total() + table.taken_in >= goal
    return done


def painted(pixels: Pixels, painter: Painter, variant: Variant) -> Pixels | None:
    """One photograph with its paint, RGB [H, W, 3]; None where no object was found on it."""
    region = painter.find(pixels)
    if not region.is_sure:
        return None
    rng = np.random.default_rng(variant.random_seed)
    canvas = Canvas(pixels, region, rng)
    painter.paint(canvas, rng, INTENSITIES[variant.intensity], variant.kind)
    return canvas.finished(rng)


def _check(order: Order) -> None:
    source, out = (Path(os.path.realpath(folder)) for folder in (order.source, order.out))
    if not source.is_dir():
        raise DataError(f"{order.source} is not a folder", hint="name a folder of photographs")
    if source == out or source in out.parents or out in source.parents:
        raise DataError(
            f"the output {order.out} and the photographs {order.source} lie in one another",
            hint="name an output folder elsewhere: -o synthetic",
        )
    if (order.ratio is None) == (order.variations is None):
        raise DataError("give either a number of variations or a ratio", hint="--variations 2")
    if order.variations is not None and order.variations < 1:
        raise DataError(f"{order.variations} variations; at least 1", hint="--variations 2")
    if order.ratio is not None and not 0 < order.ratio <= 1000:
        raise DataError(f"a ratio of {order.ratio:g}; above 0, at most 1000", hint="--ratio 2")
    if order.against is not None and order.ratio is None:
        raise DataError("images to count against need a ratio", hint="add --ratio 2")
    if out.exists() and not out.is_dir():
        raise DataError(f"{order.out} is a file", hint="name a folder: -o synthetic")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise DataError(
            f"{order.out} holds files that were not made here; nothing is added to them",
            hint="name a folder that is new or empty",
        )


def _originals(order: Order, done: Made) -> list[Original]:
    """Readable photographs, each content once, by path."""
    found: dict[str, Original] = {}
    for path in image_files(order.source):
        try:
            content = content_hash(read_bytes(path))
            read_image(path, at_least=64)
        except UnreadableImageError as error:
            done.unreadable.append((path, error.message))
            continue
        done.photographs += 1
        done.copies += content in found
        found.setdefault(content, Original(Path(path), content))
    if not found:
        raise DataError(
            f"no readable photograph in {order.source} ({len(done.unreadable):,} are unreadable)",
            problems=[f"{path}: {why}" for path, why in done.unreadable[:10]],
            hint="name a folder with image files in it",
        )
    return list(found.values())


def _count_real(order: Order) -> int:
    """Real images of the label; what was made here before is not one, wherever it lies now."""
    if order.against is None:
        return 0
    files = image_files(order.against)
    return sum(f"__{order.painter}_" not in os.path.basename(path) for path in files)


def _to_make(order: Order, originals: list[Original], done: Made) -> int:
    if order.ratio is None:
        return len(originals) * (order.variations or 0)
    return missing_for_ratio(order.ratio, clean=done.photographs, real=done.real, made=done.there)


def _wanted(
    order: Order,
    painter: Painter,
    originals: list[Original],
    table: _Table,
    goal: int,
    done: Made,
) -> Iterator[Variant]:
    """The variants to make now; those that are there are passed over."""
    endless = variants(
        originals,
        painter=order.painter,
        kinds=painter.KINDS,
        shares=order.shares,
        seed=order.seed,
    )
    passed_over: set[str] = set()
    for variant in endless:
        is_last = variant.number > (order.variations or 10**9)
        is_enough = order.ratio is not None and done.made.total() + table.taken_in >= goal
        if is_last or is_enough or len(done.not_found) == len(originals):
            return
        passed_over.update(done.not_found[len(passed_over) :])
        if str(variant.original.path) in passed_over:
            continue
        if not table.has(variant):
            yield variant


def _painted(variant: Variant, painter: Painter, done: Made) -> Pixels | None:
    path = str(variant.original.path)
    picture = painted(read_image(path), painter, variant)
    if picture is None:
        done.not_found.append(path)
    return picture


class _Table:
    """The manifest of an output folder, and the pictures beside it.

    Attributes:
        taken_in: Pictures that a kill had left out of the table, and that are in it now.
    """

    def __init__(self, order: Order, label: str) -> None:
        self._folder, self._label = order.out, label
        self._path = order.out / MANIFEST
        self._rows: dict[str, Row] = {}
        self._unwritten = 0
        self.taken_in = 0
        if self._path.is_file():
            remove_partials(self._folder)
            self._rows = {row["path"]: row for row in _read(self._path)}

    def made_by(self, painter: str) -> list[str]:
        """Names of the pictures of a painter that are there."""
        return [
            name
            for name, row in self._rows.items()
            if row["painter"] == painter
            and row["label"] == self._label
            and (self._folder / name).is_file()
        ]

    def has(self, variant: Variant) -> bool:
        """Whether a picture is there; one that a kill left out of the table is taken in."""
        if not (self._folder / variant.name).is_file():
            return False
        if variant.name not in self._rows:
            self._rows[variant.name] = self._row(variant)
            self._unwritten += 1
            self.taken_in += 1
        return True

    def add(self, variant: Variant, picture: Pixels) -> None:
        """Write a picture whole, and from time to time the table."""
        if not self._path.exists():
            # From here on the folder is known as ours, and a killed call can go on.
            self.write(is_first=True)
        write_whole(self._folder / variant.name, lambda partial: _save(picture, variant, partial))
        self._rows[variant.name] = self._row(variant)
        self._unwritten += 1
        if self._unwritten >= _ROWS_BETWEEN_WRITES:
            self.write()

    def write(self, *, is_first: bool = False) -> None:
        """Write the table whole where it says something new."""
        if not (self._unwritten or is_first):
            return
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(self._rows[name] for name in sorted(self._rows))
        data = text.getvalue().encode("utf-8", "surrogateescape")
        write_whole(self._path, lambda partial: partial.write_bytes(data))
        self._unwritten = 0

    def _row(self, variant: Variant) -> Row:
        return {
            "path": variant.name,
            "label": self._label,
            "split": "train",
            # Never apart from its original, and from the other variants of it.
            "group": variant.original.content,
            "synthetic": "yes",
            "source": os.path.abspath(variant.original.path),
            "painter": variant.painter,
            "kind": variant.kind,
            "intensity": variant.intensity,
            "seed": str(variant.seed),
        }


def _read(path: Path) -> list[Row]:
    try:
        # A spreadsheet may have put its mark at the start.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            table = csv.DictReader(file)
            rows = list(table)
            if tuple(table.fieldnames or ()) != COLUMNS:
                raise ValueError(f"columns {table.fieldnames}, expected {', '.join(COLUMNS)}")
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"{path} is not a table of synthetic photographs: {error}",
            hint="name another output folder",
        ) from error
    return rows


def _save(picture: Pixels, variant: Variant, path: Path) -> None:
    """JPEG without loss of colour detail; the file itself says that it is synthetic."""
    about = f"synthetic: espalier synth {variant.painter}, original {variant.original.content}"
    Image.fromarray(picture).save(
        path, "JPEG", quality=_JPEG_QUALITY, subsampling=0, comment=about.encode()
    )

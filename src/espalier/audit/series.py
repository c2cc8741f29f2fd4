"""Which images may belong to one series, as their file names say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import PurePath

from espalier.records import Sample

_MOST = 20
_GAP_SECONDS = 10.0
# What a number at the end is counted within must have a number itself (plant07_003): a word alone
# (trash12, blight_orig_031) is the name of a class.
_NUMBERED = re.compile(
    r"(?P<series>.*\d.*?)[ _.\-(]+(?:aug|crop|frame|img|v)?[ _.\-]?\d{1,4}\)?", re.I
)
_EXPORTED = re.compile(r"(?P<series>.+)\.rf\.[0-9a-z]+", re.I)
_TIME = re.compile(r"(?P<day>(?:19|20)\d{6})[ _T\-]?(?P<time>[0-2]\d[0-5]\d[0-5]\d)")
_CAMERA = re.compile(r"(?:IMG|DSC|DSCN|DSCF|DJI|GOPR|SAM|P)_?(?P<number>\d{4,7})", re.I)


def guessed_series(samples: Sequence[Sample]) -> dict[str, tuple[Sample, ...]]:
    """Images of one label whose names make them a series, by a name for it; at least two of each.

    By what stands before a running number (``plant07_003``), the time of the photograph (10 s
    apart at most), the counter of a camera (runs of up to 20), or the original of an exported copy.
    A series that holds most images of its label says nothing and is left out.
    """
    by_label: dict[str, list[Sample]] = {}
    for sample in samples:
        by_label.setdefault(sample.label or "", []).append(sample)
    found: dict[str, tuple[Sample, ...]] = {}
    for label, members in by_label.items():
        for name, series in _series_of(members):
            if 2 <= len(series) <= max(2, len(members) // 3):
                found[f"{label}/{name}" if label else name] = tuple(series)
    return found


def _series_of(members: Sequence[Sample]) -> Iterator[tuple[str, list[Sample]]]:
    named: dict[str, list[Sample]] = {}
    timed: list[tuple[float, str, Sample]] = []
    counted: list[tuple[float, str, Sample]] = []
    for sample in members:
        stem = PurePath(sample.path).stem
        moment, camera = _moment(stem), _CAMERA.fullmatch(stem)
        if series := _EXPORTED.fullmatch(stem):
            named.setdefault(series["series"], []).append(sample)
        elif moment is not None:
            timed.append((moment, stem, sample))
        elif camera:
            counted.append((float(camera["number"]), stem, sample))
        elif series := _NUMBERED.fullmatch(stem):
            named.setdefault(series["series"], []).append(sample)
    yield from named.items()
    yield from _runs(timed, _GAP_SECONDS)
    yield from ((name, run) for name, run in _runs(counted, 1.0) if len(run) <= _MOST)


def _runs(
    placed: list[tuple[float, str, Sample]], gap: float
) -> Iterator[tuple[str, list[Sample]]]:
    """Images one after the other, each no further than the gap from the one before."""
    run: list[Sample] = []
    name, last = "", 0.0
    for place, stem, sample in sorted(placed, key=lambda one: one[:2]):
        if run and place - last > gap:
            yield name, run
            run = []
        name = name if run else stem
        run.append(sample)
        last = place
    if run:
        yield name, run


def _moment(stem: str) -> float | None:
    """Seconds since some day that a name like ``IMG_20240501_101502`` tells; None without one."""
    found = _TIME.search(stem)
    if found is None:
        return None
    try:
        moment = datetime.strptime(found["day"] + found["time"], "%Y%m%d%H%M%S")
    except ValueError:
        return None
    return (moment - datetime(1900, 1, 1)).total_seconds()

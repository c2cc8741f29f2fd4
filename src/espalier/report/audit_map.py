"""A map of the images: alike ones lie together, coloured by class and, beside it, by split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from espalier.audited import Audited
from espalier.records import SPLITS
from espalier.report import style
from espalier.report.sheet import MARGIN, Sheet, heading_height

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# t-SNE of 1,000, 2,000 and 3,000 images took 1.3, 3.2 and 5.6 CPU-seconds, more than linear.
MOST_IMAGES = 2000
# Of which every class has so many, where it has them: rare ones would not be seen.
FEWEST_OF_CLASS = 12
_COMPONENTS, _ITERATIONS, _PERPLEXITY = 50, 500, 30.0
_PANEL, _GAP, _LEGEND_ROW, _LEGEND_COLUMNS = 660, 36, 21, 5
MOST_NAMED = 150
# Half the width of a number, in the coordinates of the map.
_SMALL = 0.03
_MARKERS = "os^Dv"
_COLOURS = (
    *style.PALETTE,
    "#6A3D9A",
    "#8B1E3F",
    "#7F7F00",
    "#4D4D4D",
    "#66B032",
    "#A0522D",
)
_SPLIT_COLOURS = {"train": "#9fb3c4", "val": "#D55E00", "test": "#0072B2"}
_OTHER = "#b6bcc4"


@dataclass(frozen=True)
class _Look:
    colour: str
    marker: str


def map_rows(labels: npt.ArrayLike, most: int = MOST_IMAGES) -> Indices:
    """Which images are drawn: all, or at random ``most`` of them; rare classes keep theirs.

    Args:
        labels: Class indices [N].
        most: About how many; more only where there are so many classes.

    Returns:
        Positions, ascending.
    """
    classes = np.asarray(labels, dtype=np.int64)
    if len(classes) <= most:
        return np.arange(len(classes), dtype=np.int64)
    shuffled = np.random.default_rng(0).permutation(len(classes))
    of_class = np.zeros(len(classes), dtype=np.int64)
    for index in np.unique(classes):
        mine = shuffled[classes[shuffled] == index]
        of_class[mine] = np.arange(len(mine))
    first = of_class[shuffled] < FEWEST_OF_CLASS
    kept, rest = shuffled[first], shuffled[~first]
    chosen = np.concatenate([kept, rest[: max(0, most - len(kept))]])
    return np.sort(chosen).astype(np.int64)


def project(features: npt.NDArray[np.float32]) -> Points:
    """Places on a plane where images with like features lie together; the same for the same.

    PCA to 50 components, then t-SNE (van der Maaten and Hinton 2008) from the first two of them,
    on one thread, so that no sum depends on the number of cores. Bias: distances between groups,
    and the sizes of groups, say nothing.

    Args:
        features: Of the images [N, F]; numbers that are not finite count as 0.

    Returns:
        Places [N, 2], each axis within [-1, 1].
    """
    usable = np.nan_to_num(features.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if len(usable) < 4 or not (usable.std(axis=0) > 0).any():
        return _row_of_points(len(usable))
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    components = min(_COMPONENTS, *usable.shape)
    with threadpool_limits(1):
        reduced = PCA(components, svd_solver="randomized", random_state=0).fit_transform(usable)
        if components == 1:
            reduced = np.hstack([reduced, np.zeros_like(reduced)])
        start = reduced[:, :2] / max(float(reduced[:, 0].std()), 1e-12) * 1e-4
        places = TSNE(
            init=start.astype(np.float32),
            perplexity=min(_PERPLEXITY, (len(usable) - 1) / 3),
            max_iter=_ITERATIONS,
            random_state=0,
            n_jobs=1,
        ).fit_transform(reduced)
    return _within(places)


def _row_of_points(count: int) -> Points:
    """Where there is nothing to tell images apart: side by side."""
    return np.column_stack([np.linspace(-1, 1, count), np.zeros(count)])


def _within(places: npt.NDArray[np.floating]) -> Points:
    low, high = places.min(axis=0), places.max(axis=0)
    scaled: Points = (places - (low + high) / 2) / max(float((high - low).max()) / 2, 1e-12)
    return scaled.astype(np.float64)


def draw_map_of(audited: Audited, path: Path) -> Path | None:
    """Draw the map of a data set, of about 2,000 of its images where there are more.

    Args:
        audited: Whose features are drawn.
        path: The PNG file to write, whole.

    Returns:
        The file; None where there are no features, and nothing was written.

    Raises:
        DiskError: The file could not be written.
    """
    embedded = audited.embedded
    if embedded is None or not len(embedded.labels):
        return None
    rows = map_rows(embedded.labels)
    samples = audited.samples
    return draw_map(
        project(embedded.features[rows]),
        embedded.labels[rows],
        audited.catalog.classes,
        [samples[embedded.sample_ids[row]].split for row in rows],
        path,
        of=len(embedded.labels),
        model=embedded.model,
    )


def draw_map(
    points: Points,
    labels: npt.ArrayLike,
    classes: Sequence[str],
    splits: Sequence[str | None],
    path: Path,
    *,
    of: int | None = None,
    model: str = "",
) -> Path:
    """Draw the map twice: coloured by class, each class numbered where it lies, and by split.

    Args:
        points: Places [N, 2], as of ``project``.
        labels: Class indices [N]; -1 for none.
        classes: The label mapping.
        splits: Length N.
        path: The PNG file to write, whole.
        of: How many images there are, where not all are drawn.
        model: Whose features the places come from.

    Raises:
        ValueError: There is no image, or lengths differ.
        DiskError: The file could not be written.
    """
    indices = np.asarray(labels, dtype=np.int64)
    if not len(points) or not len(points) == len(indices) == len(splits):
        raise ValueError(f"{len(points)} points, {len(indices)} labels, {len(splits)} splits")
    present = [i for i in range(len(classes)) if (indices == i).any()]
    named = present[:MOST_NAMED]
    lines = _words(len(points), of, model)
    top = heading_height(lines) + 44
    legend = math.ceil(len(named) / _LEGEND_COLUMNS) * _LEGEND_ROW
    width = 2 * MARGIN + 2 * _PANEL + _GAP
    sheet = Sheet(width, top + _PANEL + 26 + legend + 36, classes)
    sheet.heading("Map of the images", lines)
    looks = {i: _class_look(number) for number, i in enumerate(present)}
    first = _panel(sheet, MARGIN, top, f"By class ({len(present):,})")
    _draw_classes(first, points, indices, looks)
    second = _panel(sheet, MARGIN + _PANEL + _GAP, top, "By split")
    _draw_splits(second, points, [split or "no split" for split in splits])
    _draw_legend(sheet, top + _PANEL + 26, classes, {i: looks[i] for i in named})
    if len(named) < len(present):
        text = f"and {len(present) - len(named):,} more classes"
        sheet.write(MARGIN, sheet.height - 24, text, size=10, colour=style.QUIET)
    return sheet.save(path)


def _words(drawn: int, of: int | None, model: str) -> list[str]:
    known = f", by features of {model}" if model else ""
    lines = [f"images that look alike to the network lie together{known}; distances between groups"]
    lines[0] += " say nothing"
    if of is not None and of > drawn:
        lines.append(f"{drawn:,} of {of:,} images, drawn at random; small classes keep theirs")
    return lines


def _panel(sheet: Sheet, x: float, top: float, title: str) -> Axes:
    sheet.write(x, top - 30, title, size=12, bold=True)
    axes = sheet.axes(x, top, _PANEL, _PANEL)
    axes.set_xlim(-1.06, 1.06)
    axes.set_ylim(-1.06, 1.06)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#d0d7de")
    return axes


def _class_look(number: int) -> _Look:
    """Twelve colours; with more classes the marker tells them apart."""
    marker = _MARKERS[number // len(_COLOURS) % len(_MARKERS)]
    return _Look(_COLOURS[number % len(_COLOURS)], marker)


def _area(count: int) -> float:
    """Of a point, in square points: large for few images, small for many."""
    return float(np.clip(24_000 / max(count, 1), 10, 46))


def _draw_classes(axes: Axes, points: Points, labels: Indices, looks: dict[int, _Look]) -> None:
    area = _area(len(points))
    unlabelled = points[labels < 0]
    axes.scatter(unlabelled[:, 0], unlabelled[:, 1], s=area, c=_OTHER, lw=0)
    for index, look in looks.items():
        mine = points[labels == index]
        axes.scatter(
            mine[:, 0], mine[:, 1], s=area, c=look.colour, marker=look.marker, lw=0, alpha=0.8
        )
    for number, (index, look) in enumerate(looks.items(), start=1):
        _write_number(axes, number, points[labels == index], look, 9.5 if len(looks) <= 30 else 7.5)


def _write_number(axes: Axes, number: int, points: Points, look: _Look, size: float) -> None:
    """In the midst of a class, or above it where it would cover all that there is of it."""
    heart = _heart(points)
    small = float(np.median(np.abs(points - heart).max(axis=1))) < _SMALL
    axes.annotate(
        str(number),
        heart,
        xytext=(0, 12 if small else 0),
        textcoords="offset points",
        fontsize=size,
        weight="bold",
        color=style.INK,
        ha="center",
        va="center",
        bbox={"boxstyle": "round,pad=0.18", "fc": "white", "ec": look.colour, "lw": 1.4},
    )


def _heart(points: Points) -> tuple[float, float]:
    """The point of a class that has most others of it around it."""
    distance = np.linalg.norm(points[:, None] - points[None, :600], axis=2)
    x, y = points[int((distance < 0.12).sum(axis=1).argmax())]
    return float(x), float(y)


def _draw_splits(axes: Axes, points: Points, splits: Sequence[str]) -> None:
    area = _area(len(points))
    known = [split for split in (*SPLITS, *sorted(set(splits))) if split in splits]
    for split in dict.fromkeys(known):
        mine = points[[name == split for name in splits]]
        axes.scatter(
            mine[:, 0],
            mine[:, 1],
            s=area * (1.0 if split == "train" else 1.3),
            c=_SPLIT_COLOURS.get(split, _OTHER),
            lw=0,
            alpha=0.75,
            label=f"{split} {len(mine):,}",
        )
    style.legend_above(axes, 4)
    for handle in axes.legend_.legend_handles if axes.legend_ else ():
        handle.set_sizes([40.0])  # type: ignore[union-attr]


def _draw_legend(sheet: Sheet, top: float, classes: Sequence[str], looks: dict[int, _Look]) -> None:
    from matplotlib.lines import Line2D

    column = (sheet.width - 2 * MARGIN) / _LEGEND_COLUMNS
    rows = math.ceil(len(looks) / _LEGEND_COLUMNS)
    for number, (index, look) in enumerate(looks.items()):
        x, middle = MARGIN + column * (number // rows), top + _LEGEND_ROW * (number % rows) + 8
        place = ([(x + 5) / sheet.width], [1 - middle / sheet.height])
        sheet.figure.add_artist(
            Line2D(*place, ls="", marker=look.marker, ms=7, color=look.colour, mew=0)
        )
        text = f"{number + 1}"
        sheet.write(x + 36, middle, text, size=9.5, bold=True, side="right", middle=True)
        sheet.write(x + 42, middle, classes[index], size=9.5, middle=True, room=column - 50)

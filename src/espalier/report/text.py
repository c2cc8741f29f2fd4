"""What a person reads at a terminal or in a log: plain text of at most 80 columns.

Every function returns text and prints nothing. What comes from other parts is described by
protocols here, so that this part needs none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rich.cells import cell_len

from espalier.metrics import ClassScore
from espalier.records import SPLITS, Catalog, EpochRow, Score, counts_line
from espalier.report.context import Baseline, read_baseline
from espalier.report.names import shorten
from espalier.report.numbers import clock, duration, millions, plain, rate_text, score_text, size
from espalier.report.paragraphs import wrapped
from espalier.report.reading import gap_points
from espalier.report.tables import table
from espalier.report.worth import Judged, adopted_lines, gain_text
from espalier.runs import RunDir

MOST_UNREADABLE = 5
WORST_CLASSES = 3
# What a person is asked for first when something is odd; environment.json has the others.
HEADER_VERSIONS = ("espalier", "torch", "python")
METRIC_NAMES = {
    "macro_f1": "macro-F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
}
EPOCH_COLUMNS = (
    ("stage", -9),
    ("epoch", 5),
    ("loss", 6),
    ("val loss", 8),
    ("val acc", 7),
    ("macro-F1", 8),
    ("gap", 5),
    ("lr", 7),
    ("time", 6),
)
EPOCH_LEGEND = "gap: accuracy on clean training images - validation, in points; *: best so far"


class ModelRow(Protocol):
    """One backbone in a list."""

    @property
    def name(self) -> str:
        """As timm calls it."""

    @property
    def parameters(self) -> float:
        """Of the backbone, in millions."""

    @property
    def size_mb(self) -> float:
        """Of its weights, in MB."""

    @property
    def imgsz(self) -> int:
        """Pixels across that it was made for."""

    @property
    def memory_gb(self) -> float:
        """To train all of it, in GB."""

    @property
    def fits(self) -> bool:
        """Whether this machine has that much."""

    @property
    def pretrained(self) -> bool:
        """Whether there are weights for it."""


class StagePlan(Protocol):
    """What one stage will do, as an estimate gives it."""

    @property
    def name(self) -> str:
        """Of the stage."""

    @property
    def epochs(self) -> int:
        """As planned."""

    @property
    def steps(self) -> int:
        """Optimizer steps."""

    @property
    def imgsz(self) -> int:
        """Pixels across."""

    @property
    def trainable(self) -> int:
        """Parameters that learn."""

    @property
    def lr(self) -> float:
        """Peak rate of the head; 0 where it is solved for."""

    @property
    def backbone_lr(self) -> float:
        """Peak rate of the backbone; 0 while frozen."""

    @property
    def inputs(self) -> str:
        """What it trains on, and why."""

    @property
    def may_stop_early(self) -> bool:
        """Whether early stopping can end it before its last epoch."""

    @property
    def seconds(self) -> float:
        """How long it should take."""


def header_lines(versions: Mapping[str, str], device: str, catalog: Catalog) -> list[str]:
    """Versions, device, images per split with their imbalance, and what could not be read."""
    named = [f"{name} {versions[name]}" for name in HEADER_VERSIONS if name in versions]
    lines = ["; ".join(part for part in (", ".join(named), device) if part)]
    for split in SPLITS:
        lines.append(f"{split:<5}  {counts_line(catalog.counts(split))}")
    return lines + _unreadable_lines(catalog)


def _unreadable_lines(catalog: Catalog) -> list[str]:
    broken = catalog.unreadable
    if not broken:
        return []
    lines = [f"{len(broken):,} of {len(catalog.samples):,} files cannot be read, left out:"]
    lines += [f"  {sample.path}: {sample.reason}" for sample in broken[:MOST_UNREADABLE]]
    if len(broken) > MOST_UNREADABLE:
        lines.append(f"  and {len(broken) - MOST_UNREADABLE:,} more, in catalog.csv")
    return lines


def epoch_header() -> str:
    """The heads over ``epoch_line``."""
    return _epoch_cells([name for name, _ in EPOCH_COLUMNS])


def epoch_line(row: EpochRow) -> str:
    """One epoch on one line; a star marks the best so far, the gap is in points."""
    cells = [
        shorten(row.stage, 9),
        str(row.epoch),
        plain(row.train_loss),
        plain(row.val_loss),
        plain(row.val_accuracy),
        plain(row.val_macro_f1),
        plain(gap_points(row), "+.1f"),
        rate_text(row.learning_rate),
        clock(row.seconds),
    ]
    return _epoch_cells(cells) + (" *" if row.best else "")


def _epoch_cells(cells: Sequence[str]) -> str:
    widths = [width for _, width in EPOCH_COLUMNS]
    return "  ".join(
        cell + " " * (-width - cell_len(cell)) if width < 0 else cell.rjust(width)
        for cell, width in zip(cells, widths, strict=True)
    )


def scores_table(scores: Mapping[str, Mapping[str, Score]]) -> str:
    """Per split: ``0.934 [0.913, 0.951]`` for each metric, macro-F1 first."""
    present = {key for of_split in scores.values() for key in of_split}
    keys = [key for key in METRIC_NAMES if key in present] + sorted(present - set(METRIC_NAMES))
    heads = ["(images)", *(METRIC_NAMES.get(key, key) for key in keys)]
    rows = [
        [name, *(score_text(of_split[key]) if key in of_split else "-" for key in keys)]
        for name, of_split in scores.items()
    ]
    bracketed = any(s.low is not None for of_split in scores.values() for s in of_split.values())
    note = "\nin brackets: 95 % interval over the choice of images" if bracketed else ""
    return table(heads, rows) + note


def worst_first(scores: Sequence[ClassScore]) -> list[ClassScore]:
    """Lowest F1 first; classes without images last, nothing is known of them."""
    return sorted(scores, key=lambda score: (score.support == 0, score.f1, score.name))


def per_class_table(scores: Sequence[ClassScore]) -> str:
    """Precision, recall, F1 and images of each class, worst first."""
    rows = [
        [s.name, plain(s.f1), plain(s.precision), plain(s.recall), f"{s.support:,}"]
        if s.support
        else [s.name, "-", "-", "-", "0"]
        for s in worst_first(scores)
    ]
    return table(["class, worst first", "F1", "precision", "recall", "images"], rows)


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """``comparison_rows`` as a table: a line per run, or per stage with its gain."""
    what = "stage" if rows and "stage" in rows[0] else "run"
    columns = [
        (what, [str(row[what]) for row in rows]),
        ("macro-F1", [plain(row["macro_f1"]) for row in rows]),
        ("at epoch", [str(row["best_epoch"]) for row in rows]),
        ("accuracy", [plain(row["accuracy"]) for row in rows]),
        ("final gap", [f"{plain(row['gap_points'], '+.1f')} {row['verdict']}" for row in rows]),
        ("time", [clock(row["seconds"]) for row in rows]),
        ("epochs", [str(row["epochs"]) for row in rows]),
    ]
    if what == "stage":
        columns.insert(2, ("gain", [plain(row["gain"], "+.3f") for row in rows]))
    elif any(row.get("baseline") is not None for row in rows):
        columns.insert(2, ("head alone", [plain(row.get("baseline")) for row in rows]))
    return table(
        [head for head, _ in columns],
        list(zip(*(cells for _, cells in columns), strict=True)),
    )


def plan_table(stages: Sequence[StagePlan]) -> str:
    """What each stage will do and how long it should take, for a dry run."""
    rows = [
        [
            stage.name,
            str(stage.epochs),
            f"{stage.steps:,}",
            str(stage.imgsz),
            millions(stage.trainable),
            rate_text(stage.lr),
            rate_text(stage.backbone_lr),
            duration(stage.seconds),
        ]
        for stage in stages
    ]
    heads = ["stage", "epochs", "steps", "pixels", "trains", "head lr", "backbone", "time"]
    return table(heads, rows)


def plan_notes(stages: Sequence[StagePlan]) -> list[str]:
    """What each stage trains on, and which of them early stopping may shorten."""
    lines = [line for stage in stages for line in wrapped(f"{stage.name}: {stage.inputs}")]
    named = ", ".join(stage.name for stage in stages if stage.may_stop_early)
    return lines + ([f"early stopping may shorten: {named}"] if named else [])


def split_table(catalog: Catalog) -> str:
    """Images of each class in train, val and test, and in all."""
    per_split = [catalog.counts(split) for split in SPLITS]
    columns = [*per_split, catalog.counts()]
    rows = [[name, *(f"{counts[name]:,}" for counts in columns)] for name in catalog.classes]
    rows.append(["all", *(f"{sum(counts.values()):,}" for counts in columns)])
    lines = [table(["class", *SPLITS, "all"], rows), "", f"train: {counts_line(per_split[0])}"]
    return "\n".join(lines + _unreadable_lines(catalog))


def models_table(rows: Sequence[ModelRow]) -> str:
    """Backbones with their sizes, and whether this machine can train them."""
    lines = [
        [
            row.name,
            str(row.imgsz),
            f"{row.parameters:.3g} M",
            f"{row.size_mb:,.3g} MB" if row.size_mb < 1000 else f"{row.size_mb:,.0f} MB",
            f"{row.memory_gb:.1f} GB",
            "yes" if row.fits else "no",
            "yes" if row.pretrained else "no",
        ]
        for row in rows
    ]
    heads = ["model", "pixels", "size", "file", "to train", "fits here", "weights"]
    return table(heads, lines)


def predictions_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Path, label and probability of each image, and the next best classes.

    Args:
        rows: Each with ``path``, ``label``, ``probability`` and ``top``, a list of mappings with
            ``label`` and ``probability``, best first.
    """
    lines = [
        [
            str(row["path"]),
            str(row["label"]),
            f"{row['probability']:.3f}",
            ", ".join(f"{e['label']} {e['probability']:.3f}" for e in row["top"][1:]),
        ]
        for row in rows
    ]
    heads = ["image", "label", "probability", "next"]
    if any(line[3] for line in lines):
        return table(heads, lines, words=(0, 1, 3))
    return table(heads[:3], [line[:3] for line in lines], words=(0, 1))


def closing_lines(
    run: RunDir, val: Judged | None, test: Judged | None, ended: str, seconds: float
) -> list[str]:
    """Scores, their gain over the baseline, worst classes, where things are, what to type next."""
    baseline = read_baseline(run.baseline_file)
    return [
        *verdict_lines(val, test, ended, seconds, baseline),
        *adopted_lines(run, test),
        "",
        *place_lines(run),
        "",
        "next:",
        f"  espalier evaluate {run.path}",
        f"  espalier predict {run.path} IMAGES",
    ]


def verdict_lines(
    val: Judged | None,
    test: Judged | None,
    ended: str,
    seconds: float,
    baseline: Baseline | None = None,
) -> list[str]:
    """Why and after how long it ended, the scores, and the worst classes."""
    judged = [split for split in (val, test) if split is not None]
    lines = ["", f"{ended or 'finished'}, {duration(seconds)} in all"]
    if judged:
        named = {f"{j.split} ({j.images:,})": j.scores for j in judged}
        lines += ["", *scores_table(named).splitlines()]
        lines += ["", *_worst_lines(judged[-1], baseline)]
        if baseline is not None:
            lines += ["", *wrapped(gain_text(judged[-1], baseline))]
    return lines


def place_lines(run: RunDir) -> list[str]:
    """Where the run, its pictures and its best weights are."""
    lines = [f"run     {run.path}", f"curves  {run.curves}"]
    if run.best.exists():
        lines.append(f"best    {run.best} ({size(run.best.stat().st_size)})")
    return lines


def _worst_lines(judged: Judged, baseline: Baseline | None) -> list[str]:
    known = [score for score in worst_first(judged.per_class) if score.support]
    before = {} if baseline is None else baseline.per_class
    return [f"worst classes by F1, {judged.split}:"] + [
        f"  {score.f1:.3f}  {shorten(score.name, 36)} (images: {score.support:,}"
        + (f"; head alone {before[score.name]:.3f})" if score.name in before else ")")
        for score in known[:WORST_CLASSES]
    ]

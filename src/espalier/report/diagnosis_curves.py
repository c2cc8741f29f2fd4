"""The curves of a run as SVG for a page, each with the findings that speak of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from espalier.report import style
from espalier.report.diagnosis_places import Place, epoch_of_step
from espalier.report.markup import Markup, element, joined
from espalier.run_record import EpochSigns, RunRecord, StepSigns

WIDTH, HEIGHT = 560, 268
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 46, 34
MOST_POINTS, MOST_DOTS = 300, 60
# A few values that dwarf the rest would leave a flat line of the others.
_DWARFED = 50.0
_LEAST, _LARGEST = 1e-300, 1e300
_MARKS = {"error": "var(--error)", "warning": "var(--warning)", "info": "var(--info)"}


@dataclass(frozen=True)
class Series:
    """One line: values at epochs; NaN where nothing was measured."""

    label: str
    colour: str
    epochs: tuple[float, ...]
    values: tuple[float, ...]
    thin: bool = False


@dataclass(frozen=True)
class Panel:
    """One set of axes.

    Attributes:
        key: What findings call it.
        title: Above it, with the unit.
        series: Its lines, each with a value at least.
        log: Whether the vertical axis is logarithmic.
    """

    key: str
    title: str
    series: tuple[Series, ...]
    log: bool = False


def panels_of(record: RunRecord) -> list[Panel]:
    """The panels that a record has figures for."""
    losses = (
        _of_steps(record, "single steps", "#9aa4af", lambda step: step.loss),
        _of_epochs(record, "as trained", style.TRAIN, "train_loss"),
        _of_epochs(record, "training, clean", style.PROBE, "clean_loss"),
        _of_epochs(record, "validation", style.VALIDATION, "val_loss"),
    )
    scores = (
        _of_epochs(record, "as trained", style.TRAIN, "train_accuracy"),
        _of_epochs(record, "training, clean", style.PROBE, "clean_accuracy"),
        _of_epochs(record, "validation", style.VALIDATION, "val_accuracy"),
        _of_epochs(record, "validation macro-F1", style.SCORE, "val_macro_f1"),
    )
    rates = (
        _of_epochs(record, "head", style.PROBE, "learning_rate"),
        _of_epochs(record, "backbone", style.VALIDATION, "backbone_learning_rate"),
    )
    norms = (
        _of_steps(record, "single steps", "#9aa4af", lambda step: step.grad_norm),
        _of_epochs(record, "mean of the epoch", style.PROBE, "mean_grad_norm"),
        _of_epochs(record, "largest of the epoch", style.VALIDATION, "max_grad_norm"),
    )
    made = (
        ("loss", "Loss (nats per image)", losses, _spans_widely(losses)),
        ("score", "Accuracy and macro-F1", scores, False),
        ("rate", "Learning rate", rates, True),
        ("gradient", "Gradient norm before clipping", norms, True),
        ("state", "Channels that are hardly ever active (share)", _dead(record), False),
    )
    panels = [Panel(key, title, _drawn(lines), log) for key, title, lines, log in made]
    return [panel for panel in panels if panel.series]


def draw_panel(panel: Panel, places: Sequence[Place], last_epoch: float) -> Markup:
    """A panel as SVG, with a numbered mark for each finding that lies on it.

    Args:
        panel: What to draw.
        places: Findings of any panel; those of others are left out.
        last_epoch: Right end of the axis.
    """
    own = [place for place in places if place.curve == panel.key]
    axis = _axis(panel, max(last_epoch, 1.0))
    marks = [_mark(place, axis, level) for level, place in enumerate(own)]
    lines = [_line(series, axis) for series in panel.series]
    said = "; ".join(_said(place) for place in own)
    return element(
        "svg",
        _frame(axis),
        *marks,
        *lines,
        element("text", panel.title, x=0, y=14, style=_TITLE),
        _legend(panel.series),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{panel.title}: {_spoken(panel)}" + (f". {said}" if said else ""),
        style="width:100%;height:auto;font:12px system-ui,sans-serif",
    )


_TITLE = "fill:var(--ink);font-weight:700;font-size:14px"
_SMALL = "fill:var(--quiet);font-size:11px"


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    last: float
    log: bool
    ticks: tuple[float, ...]

    def x(self, epoch: float) -> int:
        share = min(max(epoch / self.last, 0.0), 1.0)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT))

    def y(self, value: float) -> int:
        if self.log:
            value = math.log10(max(value, 1e-300))
        share = (value - self.low) / (self.high - self.low)
        return round(HEIGHT - BOTTOM - min(max(share, 0.0), 1.0) * (HEIGHT - TOP - BOTTOM))

    def usable(self, value: float) -> bool:
        return math.isfinite(value) and (value > 0 or not self.log)


def _of_epochs(record: RunRecord, label: str, colour: str, column: str) -> Series:
    epochs = tuple(float(epoch.epoch) for epoch in record.epochs)
    return Series(label, colour, epochs, tuple(record.column(column)))


def _of_steps(
    record: RunRecord, label: str, colour: str, value: Callable[[StepSigns], float]
) -> Series:
    steps = record.steps
    placed = epoch_of_step(record, [step.step for step in steps])
    values = [value(step) for step in steps] if placed else []
    return Series(label, colour, tuple(placed), tuple(values), thin=True)


def _dead(record: RunRecord) -> tuple[Series, ...]:
    parts = list(dict.fromkeys(part for epoch in record.epochs for part in epoch.dead))
    return tuple(
        Series(
            part,
            style.PALETTE[number % len(style.PALETTE)],
            tuple(float(epoch.epoch) for epoch in record.epochs),
            tuple(_share(epoch, part) for epoch in record.epochs),
        )
        for number, part in enumerate(parts[: len(style.PALETTE)])
    )


def _share(epoch: EpochSigns, part: str) -> float:
    return epoch.dead.get(part, math.nan)


def _drawn(series: Iterable[Series]) -> tuple[Series, ...]:
    """Those with something to see: a rate of 0 all along is that of a frozen backbone."""
    return tuple(_thinned(line) for line in series if any(_not_zero(v) for v in line.values))


def _not_zero(value: float) -> bool:
    return math.isfinite(value) and value != 0


def _thinned(line: Series) -> Series:
    """At most so many points; of those left out the largest stays: a spike must be seen."""
    size = math.ceil(len(line.values) / MOST_POINTS)
    if size <= 1:
        return line
    kept = []
    for start in range(0, len(line.values), size):
        part = range(start, min(start + size, len(line.values)))
        kept.append(max(part, key=lambda i: _or_least(line.values[i])))
    return Series(
        line.label,
        line.colour,
        tuple(line.epochs[i] for i in kept),
        tuple(line.values[i] for i in kept),
        line.thin,
    )


def _or_least(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _spans_widely(series: Iterable[Series]) -> bool:
    values = [v for line in series for v in line.values if math.isfinite(v) and v > 0]
    below = any(v < 0 for line in series for v in line.values)
    return bool(values) and not below and max(values) > _DWARFED * sorted(values)[len(values) // 2]


def _axis(panel: Panel, last: float) -> _Axis:
    values = [v for line in panel.series for v in line.values if math.isfinite(v)]
    if panel.log:
        positive = [v for v in values if v > 0] or [1.0]
        least = math.floor(math.log10(min(positive)))
        most = max(math.ceil(math.log10(max(positive))), least + 1)
        stride = math.ceil((most - least) / 5)
        powers = range(least, most + 1, stride)
        return _Axis(least, most, last, True, tuple(10.0**power for power in powers))
    # Beyond these, differences of numbers would be infinite or 0.
    low, high = max(min(0.0, *values), -_LARGEST), min(max(*values, _LEAST), _LARGEST)
    if panel.key in ("score", "state"):
        high = 1.0
    step = _nice((high - low or 1.0) / 4)
    low, high = math.floor(low / step) * step, math.ceil(high / step - 1e-9) * step
    high = high if high > low else low + step
    count = round((high - low) / step)
    return _Axis(low, high, last, False, tuple(low + i * step for i in range(count + 1)))


def _nice(rough: float) -> float:
    """The next of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * part for part in (1.0, 2.0, 5.0, 10.0) if power * part >= rough * 0.999)


def _frame(axis: _Axis) -> Markup:
    parts = []
    for tick in axis.ticks:
        y = axis.y(tick)
        rule = element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, style="stroke:var(--rule)")
        text = element("text", f"{tick:g}", x=LEFT - 6, y=y + 4, text_anchor="end", style=_SMALL)
        parts += [rule, text]
    stride = max(1, math.ceil(axis.last / 8))
    for epoch in range(0, math.floor(axis.last) + 1, stride):
        x, y = axis.x(epoch), HEIGHT - BOTTOM + 15
        parts.append(element("text", str(epoch), x=x, y=y, text_anchor="middle", style=_SMALL))
    middle = (LEFT + WIDTH - RIGHT) // 2
    name = element("text", "epoch", x=middle, y=HEIGHT - 4, text_anchor="middle", style=_SMALL)
    return joined(*parts, name)


def _line(series: Series, axis: _Axis) -> Markup:
    points = list(zip(series.epochs, series.values, strict=True))
    path, pen_down = [], False
    for epoch, value in points:
        if not axis.usable(value):
            pen_down = False
            continue
        path.append(f"{'L' if pen_down else 'M'}{axis.x(epoch)} {axis.y(value)}")
        pen_down = True
    width = 1 if series.thin else 2
    look = f"fill:none;stroke:{series.colour};stroke-width:{width};stroke-linejoin:round"
    dots = [] if series.thin or len(points) > MOST_DOTS else _dots(series, points, axis)
    return joined(element("path", d="".join(path), style=look), *dots)


def _dots(series: Series, points: Sequence[tuple[float, float]], axis: _Axis) -> list[Markup]:
    """A dot for each epoch, which tells its value; an arrow at the top for one beyond all."""
    dots = []
    for epoch, value in points:
        title = element("title", f"{series.label}, epoch {epoch:g}: {value:.4g}")
        x = axis.x(epoch)
        if value == math.inf:
            shape = f"M{x - 5} {TOP + 8}L{x} {TOP}L{x + 5} {TOP + 8}Z"
            dots.append(element("path", title, d=shape, style=f"fill:{series.colour}"))
        elif axis.usable(value):
            look = f"fill:{series.colour}"
            dots.append(element("circle", title, cx=x, cy=axis.y(value), r=3, style=look))
    return dots


def _mark(place: Place, axis: _Axis, level: int) -> Markup:
    """The epochs of a finding as a line or a band, with the finding's number at its top."""
    colour = _MARKS[place.severity]
    left, right = axis.x(place.start), axis.x(place.end)
    top, bottom = TOP, HEIGHT - BOTTOM
    shade = element(
        "rect", x=left, y=top, width=max(right - left, 2), height=bottom - top,
        style=f"fill:{colour};opacity:{0.28 if place.text else 0.06}",
    )  # fmt: skip
    x, y = min(left + 9, WIDTH - RIGHT - 9), top + 9 + 20 * (level % 8)
    badge = element("circle", cx=x, cy=y, r=9, style=f"fill:{colour}")
    number = element(
        "text", str(place.number), x=x, y=y + 4, text_anchor="middle",
        style="fill:var(--paper);font-weight:700;font-size:11px",
    )  # fmt: skip
    return joined(shade, badge, number)


def _said(place: Place) -> str:
    return f"finding {place.number}: {place.text or 'the whole run'}"


def _spoken(panel: Panel) -> str:
    """The last value of each line, for those who hear the page."""
    said = []
    for line in panel.series:
        known = [value for value in line.values if not math.isnan(value)]
        if known and not line.thin:
            said.append(f"{line.label} ends at {known[-1]:.3g}")
    return ", ".join(said)


def _legend(series: Sequence[Series]) -> Markup:
    parts, x = [], LEFT
    for number, line in enumerate(series):
        across = 30 + round(6.1 * len(line.label))
        if x + across > WIDTH and number:
            rest = f"and {len(series) - number} more"
            parts.append(element("text", rest, x=WIDTH, y=14, text_anchor="end", style=_SMALL))
            break
        style_of = f"stroke:{line.colour};stroke-width:{1 if line.thin else 3}"
        parts.append(element("line", x1=x, x2=x + 14, y1=30, y2=30, style=style_of))
        parts.append(element("text", line.label, x=x + 18, y=34, style=_SMALL))
        x += across
    return joined(*parts)

"""What rules on curves share: slopes with their noise, stretches of training, rates, movement."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from espalier.diagnose.facts import finite
from espalier.run_record import EpochSigns, RunRecord, StageFacts, StepSigns, part_values

# The median absolute deviation of a normal distribution, times this, is its standard deviation.
_NORMAL = 1.4826
# What grows out of zeros (a head that starts at chance) moves by its own size at first, whatever
# the rate: its update ratios say nothing.
_FROM_NOTHING = 0.1
_FIRST_STEPS = 20
# Below this, what is seen is weight decay and rounding.
_MOVES = 1e-6
# A backbone whose rate is a smaller share of the head's than this is slow by plan.
_ALIKE = 0.5

# Peak rates with which fine-tuning and training of small networks usually work, with 32 to 64
# images a step; (low, high) are the rates below and above which it rarely does.
USUAL_RATES = {
    "adam": (1e-5, 1e-3, 1e-2),
    "sgd": (1e-3, 5e-2, 1.0),
}
_USUAL_BATCHES = (32, 64)
# Usual instead, where weights are fine-tuned: by SGD at all (Kornblith et al. 2019,
# arXiv:1805.08974), by Adam where nothing is batch-normalised (transformers, ConvNeXt).
_FINE_TUNING = {"sgd": 1e-2, "adam": 1e-4}


def middle(values: Iterable[float]) -> float:
    """Median of the finite values; NaN of none."""
    known = finite(values)
    return float(median(known)) if known else math.nan


def spread(values: Sequence[float]) -> float:
    """Standard deviation as outliers cannot spoil it: 1.4826 x median absolute deviation."""
    centre = middle(values)
    return _NORMAL * middle(abs(value - centre) for value in values) if finite(values) else math.nan


@dataclass(frozen=True)
class Trend:
    """A straight line through a curve that single outliers cannot turn.

    Attributes:
        slope: Change per epoch, or per unit of what the positions are.
        error: Standard error of the slope, from what the line leaves over.
        level: Where the line ends.
        count: Points that it goes through.
    """

    slope: float
    error: float
    level: float
    count: int

    def falls_by(self, least: float) -> bool:
        """Whether it falls by more than ``least``, and by more than three standard errors."""
        return -self.slope > max(least, 3 * self.error)

    def rises_by(self, least: float) -> bool:
        """Whether it rises by more than ``least``, and by more than three standard errors."""
        return self.slope > max(least, 3 * self.error)


def trend(values: Sequence[float], positions: Sequence[float] | None = None) -> Trend | None:
    """Median of the slopes between all pairs of points (Theil 1950, Sen 1968).

    Args:
        values: A curve; what is not finite is passed over.
        positions: Where each value lies; None: 0, 1, 2 ...

    Returns:
        None of fewer than two points, or where all lie at one position. Of two points the error is
        0: two points leave nothing over, so ask for three where noise matters.
    """
    places = range(len(values)) if positions is None else positions
    points = [(x, y) for x, y in zip(places, values, strict=True) if math.isfinite(y)]
    slopes = [
        (points[j][1] - points[i][1]) / (points[j][0] - points[i][0])
        for i in range(len(points))
        for j in range(i + 1, len(points))
        if points[j][0] != points[i][0]
    ]
    if not slopes:
        return None
    slope = float(median(slopes))
    start = float(median(y - slope * x for x, y in points))
    left = [y - start - slope * x for x, y in points]
    centre = sum(x for x, _ in points) / len(points)
    width = math.sqrt(sum((x - centre) ** 2 for x, _ in points))
    return Trend(slope, spread(left) / width, start + slope * points[-1][0], len(points))


def relative_trend(values: Sequence[float]) -> Trend | None:
    """Trend of the logarithm: a slope of -0.03 is a fall of 3 % per epoch; positive values only."""
    return trend([math.log(v) if math.isfinite(v) and v > 0 else math.nan for v in values])


def running_median(values: Sequence[float], width: int = 5) -> list[float]:
    """Median of the ``width`` values around each, fewer at the ends; NaN where none is finite."""
    half = width // 2
    return [middle(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]


def detrended_variation(values: Sequence[float]) -> float:
    """Standard deviation of the noise on a curve, as a share of its median; NaN of under 4.

    By how far each value lies from the middle of its neighbours, so that a slope does not count;
    for independent noise the square of that is 3/2 of its variance.
    """
    known, level = finite(values), middle(values)
    if len(known) < 4 or level <= 0:
        return math.nan
    left = [y - (x + z) / 2 for x, y, z in zip(known, known[1:], known[2:], strict=False)]
    return math.sqrt(sum(value**2 for value in left) / len(left) / 1.5) / level


def sign_flips(values: Sequence[float]) -> float:
    """Share of neighbouring changes that point opposite ways: 2/3 for mere noise, 0 for a slope."""
    known = finite(values)
    steps = [after - before for before, after in pairwise(known) if after != before]
    if len(steps) < 2:
        return math.nan
    return sum(one * two < 0 for one, two in pairwise(steps)) / (len(steps) - 1)


def correlation(values: Sequence[float]) -> float:
    """Pearson correlation of a curve with its own position; NaN where it does not vary."""
    points = [(float(i), v) for i, v in enumerate(values) if math.isfinite(v)]
    if len(points) < 3:
        return math.nan
    xs, ys = [x for x, _ in points], [y for _, y in points]
    mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
    above = sum((x - mx) * (y - my) for x, y in points)
    below = math.sqrt(sum((x - mx) ** 2 for x in xs) * sum((y - my) ** 2 for y in ys))
    return above / below if below > 0 and math.isfinite(below) else math.nan


@dataclass(frozen=True)
class Stretch:
    """One stage of a run as it was: what was meant, its epochs and its sampled steps.

    Attributes:
        name: Of the stage; "" where the run has none.
        facts: What the stage was meant to do; None where nobody said.
        epochs: Of the stage, in order.
        steps: Sampled steps of the stage, in order.
    """

    name: str
    facts: StageFacts | None
    epochs: tuple[EpochSigns, ...]
    steps: tuple[StepSigns, ...]

    @property
    def solved(self) -> bool:
        """Whether its head was solved for, without steps."""
        return self.facts is not None and self.facts.solved

    @property
    def where(self) -> str:
        """``stage head``, or nothing where there are no stages."""
        return f"stage {self.name}" if self.name else ""

    @property
    def rates(self) -> list[float]:
        """Rate of the head at the end of each epoch; that of the backbone where there is none."""
        return [
            e.backbone_learning_rate
            if e.backbone_learning_rate > 0 and not e.learning_rate > 0
            else e.learning_rate
            for e in self.epochs
        ]

    @property
    def peak(self) -> float:
        """The largest rate that was seen, or planned; NaN where neither is known."""
        planned = [self.facts.learning_rate or math.nan] if self.facts else []
        seen = [*self.rates, *(step.learning_rate for step in self.steps)]
        return max(finite([*planned, *seen]), default=math.nan)

    def column(self, name: str) -> list[float]:
        """One numeric sign of its epochs; NaN where it was not measured."""
        return [float(getattr(epoch, name)) for epoch in self.epochs]

    def at_speed(self, share: float = 0.5) -> tuple[StepSigns, ...]:
        """Steps at that share of the largest rate seen or more; all where rates are unknown."""
        peak = max(finite(step.learning_rate for step in self.steps), default=math.nan)
        fast = tuple(step for step in self.steps if step.learning_rate >= share * peak)
        return fast or self.steps


def stretches(record: RunRecord) -> tuple[Stretch, ...]:
    """The stages of a run in their order; one without a name where the run has none."""
    facts = {stage.name: stage for stage in record.facts.stages}
    alone = record.facts.stages[0] if len(record.facts.stages) == 1 else None
    names = dict.fromkeys(
        [*(epoch.stage for epoch in record.epochs), *(step.stage for step in record.steps)]
    )
    found = [
        Stretch(
            name,
            facts.get(name, alone if not name else None),
            tuple(epoch for epoch in record.epochs if epoch.stage == name),
            tuple(step for step in record.steps if step.stage == name),
        )
        for name in names
    ]
    return tuple(sorted(found, key=_beginning))


def _beginning(stretch: Stretch) -> tuple[float, float]:
    """Where it begins, so that stages lie in time and not in the order of two files."""
    epochs = [epoch.epoch for epoch in stretch.epochs]
    epochs += [step.epoch for step in stretch.steps if step.epoch is not None]
    return (min(epochs, default=math.inf), min((s.step for s in stretch.steps), default=math.inf))


def settled(record: RunRecord, stretch: Stretch) -> bool:
    """Whether a stretch is over, so that its end can be judged; a living one may still recover."""
    if record.ended != "running":
        return True
    first = stretch.epochs[-1].epoch if stretch.epochs else 0
    later = any(epoch.epoch > first for epoch in record.epochs)
    planned = stretch.facts.epochs if stretch.facts is not None else record.facts.epochs
    return later or (planned is not None and len(stretch.epochs) >= planned)


def rising(record: RunRecord, stretch: Stretch) -> bool:
    """Whether a living run has not reached its peak yet: its low rates are those of a warmup."""
    seen = finite([*stretch.rates, *(step.learning_rate for step in stretch.steps)])
    return record.ended == "running" and max(seen, default=0.0) < stretch.peak / 2


def stepped(record: RunRecord) -> tuple[Stretch, ...]:
    """The stretches in which an optimizer took steps: without heads that were solved for."""
    return tuple(stretch for stretch in stretches(record) if not stretch.solved)


def part_names(steps: Sequence[StepSigns]) -> list[str]:
    """Parts that were measured in these steps, in forward order."""
    return list(dict.fromkeys(name for step in steps for name in step.parts))


def movements(steps: Sequence[StepSigns]) -> dict[str, float]:
    """Part -> median update ratio over these steps, in forward order.

    A head (the last part) that grew out of zeros is left out: it moves by its own size at first,
    whatever the rate.
    """
    names = part_names(steps)
    ratios = {
        name: finite(part_values(steps, name, lambda part: part.update_ratio)) for name in names
    }
    return {
        name: middle(known)
        for name, known in ratios.items()
        if known and not (name == names[-1] and _from_nothing(known))
    }


def _from_nothing(ratios: Sequence[float]) -> bool:
    first = max(ratios[:_FIRST_STEPS])
    return first > _FROM_NOTHING and middle(ratios) < first / 2


def telling_movements(stretch: Stretch) -> dict[str, float]:
    """Part -> median update ratio at speed, of the parts that say how large the rate is.

    A head starts so small that any step moves it far: it counts only where the parts below it rest
    or are slower by plan, and then it alone has the rate in question.
    """
    moved, facts = movements(stretch.at_speed()), stretch.facts
    if facts is None or not facts.learning_rate or facts.backbone_learning_rate is None:
        return moved
    head = part_names(stretch.steps)[-1:]
    body = {name: ratio for name, ratio in moved.items() if name not in head}
    if facts.backbone_learning_rate < _ALIKE * facts.learning_rate:
        return {name: ratio for name, ratio in moved.items() if name in head}
    return body if max(body.values(), default=0.0) > _MOVES else moved


def decay_movement(record: RunRecord, stretch: Stretch) -> float:
    """Change / weight that weight decay alone makes in a step at the peak rate; NaN if unknown.

    With momentum m it acts 1 / (1 - m) times, as its pull is the same in every step.
    """
    decay, momentum = record.facts.weight_decay, record.facts.momentum or 0.0
    if decay is None or not 0 <= momentum < 1:
        return math.nan
    return stretch.peak * decay / (1 - momentum)


def movement(steps: Sequence[StepSigns]) -> float:
    """Median update ratio over parts and steps; NaN where it was not measured."""
    return middle(movements(steps).values())


def backbone_movement(steps: Sequence[StepSigns]) -> float:
    """The same for the parts below the head (the last one); NaN where only a head learns."""
    found = list(movements(steps).items())
    head = part_names(steps)[-1:]
    return middle(ratio for name, ratio in found if name not in head)


def low_rate_share(stretch: Stretch, share: float) -> float | None:
    """For which share of a stretch the rate lay below ``share`` x its peak; None if unknown.

    Each sampled step stands for those until the next one. Without steps, epochs are counted.
    """
    known = [step for step in stretch.steps if math.isfinite(step.learning_rate)]
    # Steps have the rate of the head, which is zero where no optimizer holds it.
    moves = any(step.learning_rate > 0 for step in known)
    if moves and len(known) >= 5 and known[-1].step > known[0].step:
        spans = [
            (after.step - before.step, before.learning_rate) for before, after in pairwise(known)
        ]
    else:
        spans = [(1, rate) for rate in finite(stretch.rates)]
    whole = sum(length for length, _ in spans)
    if not whole or not math.isfinite(stretch.peak):
        return None
    return sum(length for length, rate in spans if rate < share * stretch.peak) / whole


def usual_rates(record: RunRecord, batch: int | None = None) -> tuple[float, float, float] | None:
    """(low, usual, high) peak rates of the run's optimizer; None where it is unknown.

    The usual one is scaled to the batch (SGD in proportion, Adam by the square root), and so is
    the high one to small batches: at two images a step a rate may be high that is not at 32.

    Args:
        record: The run.
        batch: Images per step; None: those of the run.
    """
    name = (record.facts.optimizer or "").lower()
    family = next((family for family in USUAL_RATES if family in name), None)
    if family is None:
        return None
    low, usual, high = USUAL_RATES[family]
    normless = record.facts.batch_norms == 0
    if record.facts.pretrained and (family == "sgd" or normless):
        usual = _FINE_TUNING[family]
    scale = _batch_scale(family, batch or record.facts.batch)
    return low * min(1.0, scale), usual * scale, high * min(1.0, scale)


def _batch_scale(family: str, batch: int | None) -> float:
    """Usual rate at a batch / that at 32 to 64 images."""
    if not batch or batch < 1:
        return 1.0
    nearest = min(max(batch, _USUAL_BATCHES[0]), _USUAL_BATCHES[1])
    relative = batch / nearest
    return relative if family == "sgd" else math.sqrt(relative)


def rounded(factor: float) -> float:
    """A factor with one digit, as a person would choose it: 0.0032 -> 0.003."""
    return float(f"{factor:.0e}")


def nats(value: float) -> str:
    """``1.23``; small ones with two digits: ``0.0045``."""
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"

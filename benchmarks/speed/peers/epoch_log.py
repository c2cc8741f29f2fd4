"""What a peer writes while it trains: one JSON line per epoch, with the CPU-seconds until then.

The clock starts with the process. Work that its users would not do, such as looking at the test
images after every epoch, is measured too, and subtracted.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Moment:
    """CPU-seconds of this process and its children, and seconds since it started."""

    cpu: float
    wall: float

    def since(self, other: Moment) -> Moment:
        """What was used between two moments."""
        return Moment(self.cpu - other.cpu, self.wall - other.wall)


def cpu_seconds(process: psutil.Process) -> float:
    """Of this process, of the children that ended, and of those that still live."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = time.process_time() + ended.ru_utime + ended.ru_stime
    for child in process.children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.Error:
            # It ended between the two looks.
            continue
        total += times.user + times.system
    return total


class EpochLog:
    """The lines of one training."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.process = psutil.Process()
        self.left_out = Moment(0.0, 0.0)
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Count its images from zero."""
        self.first_step: Moment | None = None
        self.trained: Moment | None = None
        self.images = 0

    def now(self) -> Moment:
        """Where the clock stands, without what is left out."""
        wall = time.time() - self.process.create_time()
        return Moment(cpu_seconds(self.process), wall).since(self.left_out)

    @contextmanager
    def not_counted(self) -> Iterator[None]:
        """The clock stands still."""
        before = self.now()
        yield
        spent = self.now().since(before)
        self.left_out = Moment(self.left_out.cpu + spent.cpu, self.left_out.wall + spent.wall)

    def step(self, images: int) -> None:
        """A training step is done; the first of an epoch, which warms up, is not part of the speed.

        Args:
            images: In its batch.
        """
        if self.first_step is None:
            self.first_step = self.now()
        else:
            self.images += images

    def end_training(self) -> None:
        """The training part of an epoch is done."""
        self.trained = self.now()

    def end_epoch(
        self, phase: str, val_macro_f1: float | None, test_macro_f1: float | None
    ) -> None:
        """Write the line of an epoch; scores are None where nothing was judged."""
        assert self.first_step is not None
        assert self.trained is not None
        now, spent = self.now(), self.trained.since(self.first_step)
        self.write(
            {
                "phase": phase,
                "cpu_seconds": round(now.cpu, 3),
                "seconds": round(now.wall, 3),
                "val_macro_f1": val_macro_f1,
                "test_macro_f1": test_macro_f1,
                "images": self.images,
                "train_cpu_seconds": round(spent.cpu, 3),
                "train_seconds": round(spent.wall, 3),
            }
        )
        self.begin_epoch()

    def end(self) -> None:
        """Write what was left out, so that it can be taken off the whole process as well."""
        left_out = {"cpu_seconds": self.left_out.cpu, "seconds": self.left_out.wall}
        self.write({"left_out": {name: round(value, 3) for name, value in left_out.items()}})

    def write(self, line: dict[str, object]) -> None:
        """Append one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def macro_f1(labels: Labels, predicted: Labels, classes: int) -> float:
    """Mean over the classes of 2 hits / (images of it + predictions of it); 0 for one without both.

    Args:
        labels: [N], true class.
        predicted: [N].
        classes: How many there are.
    """
    hits = np.bincount(labels[labels == predicted], minlength=classes)
    both = np.bincount(labels, minlength=classes) + np.bincount(predicted, minlength=classes)
    return float(np.mean(2 * hits / np.maximum(both, 1)))

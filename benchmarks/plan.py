"""The chosen way to compute against the best one there is: ``python -m benchmarks.plan``.

For each model, every combination of precision, memory layout and grouped convolutions in fp32 is
timed for longer than the probe may, in turn, in CPU-seconds of one thread. Then the probe decides
with an empty cache, several times. The ratio is speed of what it chose / speed of the best.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.measure import circumstances, load_average, short, spread, timed
from espalier.files import write_text
from espalier.models.build import build_model
from espalier.models.grouped import has_grouped_convolutions, keep_grouped_in_fp32
from espalier.models.inference import keep_freed_memory
from espalier.recipe.load import load_recipe
from espalier.recipe.precision import Way, on_cpu
from espalier.recipe.schema import Model, Recipe
from espalier.train.probing import measure_plan

HERE = Path(__file__).resolve().parent
MODELS = ("mobilenetv2_100", "mobilenetv3_small_100", "efficientnet_b0", "resnet50")
CLASSES = 12
TARGET, STRETCH = 0.95, 0.98


class Cell(NamedTuple):
    """One combination of the grid."""

    precision: str
    channels_last: bool
    grouped_fp32: bool

    @property
    def name(self) -> str:
        """``bf16 channels-last, grouped fp32``."""
        layout = "channels-last" if self.channels_last else "channels-first"
        return f"{self.precision} {layout}" + (", grouped fp32" if self.grouped_fp32 else "")


def main() -> None:
    options = parse()
    record = measure(options)
    write_text(options.out / "plan.json", json.dumps(record, indent=1) + "\n")
    for result in record["results"]["models"]:
        sys.stdout.write(line(result) + "\n")


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="random weights")
    parser.add_argument("--imgsz", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5, help="steps of each combination")
    parser.add_argument("--probes", type=int, default=3, help="fresh decisions of each model")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--quick", action="store_true", help="two models, few repeats")
    options = parser.parse_args(words)
    if options.quick:
        options.models, options.repeats, options.probes = options.models[:2], 3, 1
    return options


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All models, one after the other."""
    torch.set_num_threads(1)
    keep_freed_memory()
    before, began = load_average(), time.perf_counter()
    models = [measure_model(name, options) for name in options.models]
    return {
        "format": 1,
        "part": "plan",
        "command": " ".join(["python -m benchmarks.plan", *sys.argv[1:]]),
        "quick": options.quick,
        **circumstances(),
        "load_average": {"before": before, "after": load_average()},
        "took_seconds": round(time.perf_counter() - began),
        "settings": {
            "imgsz": options.imgsz,
            "batch": options.batch,
            "threads": 1,
            "repeats": options.repeats,
            "probes": options.probes,
        },
        "results": {"target": TARGET, "stretch": STRETCH, "models": models},
    }


def measure_model(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The grid, what each probe chose, and the ratio of the worst choice."""
    recipe = load_recipe(
        words=[f"model={name}", f"imgsz={options.imgsz}", f"batch={options.batch}"],
        sets=["training.threads=1", "model.weights=none", "training.device=cpu"],
    )
    times = time_grid(recipe, options.repeats)
    rates = {
        cell: {way: options.batch / figure[way] for way in ("median", "low", "high")}
        for cell, figure in times.items()
    }
    best = max(rates, key=lambda cell: rates[cell]["median"])
    probes = [probe(recipe) for _ in range(options.probes)]
    for found in probes:
        chosen = Cell(*found.pop("chosen"))
        ratio = rates[chosen]["median"] / rates[best]["median"]
        found.update({"chosen": chosen.name, "ratio": short(ratio)})
    return {
        "model": name,
        "grid": {
            cell.name: {"step_cpu_seconds": times[cell], **rate(rates[cell])} for cell in times
        },
        "best": best.name,
        "probes": probes,
        "ratio": min(found["ratio"] for found in probes),
        "probe_cpu_seconds": short(statistics.median(found["cpu_seconds"] for found in probes)),
    }


def rate(found: dict[str, float]) -> dict[str, Any]:
    """Images per CPU-second; the shortest step is the highest."""
    return {
        "images_per_cpu_second": {
            "median": short(found["median"]),
            "low": short(found["high"]),
            "high": short(found["low"]),
        }
    }


def time_grid(recipe: Recipe, repeats: int) -> dict[Cell, dict[str, Any]]:
    """CPU-seconds of a training step in each cell, in turn; the first of each does not count."""
    batch, imgsz = int(recipe.training.batch), int(recipe.training.imgsz)
    first, _ = build_model(Model(name=recipe.model.name, weights="none"), CLASSES, imgsz)
    last = copy.deepcopy(first).to(memory_format=torch.channels_last)
    images, labels = torch.randn(batch, 3, imgsz, imgsz), torch.arange(batch) % CLASSES
    inputs = {False: images, True: images.contiguous(memory_format=torch.channels_last)}
    models: dict[bool, nn.Module] = {False: first.train(), True: last.train()}
    cells = grid(has_grouped_convolutions(first))
    found: dict[Cell, list[float]] = {cell: [] for cell in cells}
    for turn in range(repeats + 1):
        for cell in cells if turn % 2 else reversed(cells):
            model = models[cell.channels_last]
            keep_grouped_in_fp32(model, cell.grouped_fp32)
            work = step(model, inputs[cell.channels_last], labels, cell.precision)
            spent = timed(work).cpu
            if turn:
                found[cell].append(spent)
    return {cell: spread(values) for cell, values in found.items()}


def grid(has_grouped: bool) -> list[Cell]:
    """Every combination that means something for a model."""
    return [
        Cell(precision, last, grouped)
        for precision in ("fp32", "bf16")
        for last in (False, True)
        for grouped in (False, True)
        if not grouped or (has_grouped and precision == "bf16")
    ]


def step(model: nn.Module, images: Tensor, labels: Tensor, precision: str) -> Callable[[], None]:
    """Forward and backward of a training step, as anyone would write it."""

    def work() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(images)
        torch.autograd.backward(cross_entropy(logits.float(), labels))
        model.zero_grad(set_to_none=True)

    return work


def probe(recipe: Recipe) -> dict[str, Any]:
    """What the program chooses on a machine that it has never seen, and what that costs."""
    found: list[Way] = []
    with empty_cache():
        spent = timed(lambda: found.append(on_cpu(recipe.training, measure_plan(recipe))))
    (way,) = found
    return {
        "chosen": way[:3],
        "reason": way.reason,
        "cpu_seconds": short(spent.cpu),
        "seconds": short(spent.wall),
    }


@contextmanager
def empty_cache() -> Iterator[None]:
    """No figures of earlier runs, and none left behind."""
    before = os.environ.get("ESPALIER_CACHE")
    with tempfile.TemporaryDirectory(prefix="espalier-bench-") as folder:
        os.environ["ESPALIER_CACHE"] = folder
        try:
            yield
        finally:
            os.environ.pop("ESPALIER_CACHE")
            if before is not None:
                os.environ["ESPALIER_CACHE"] = before


def line(result: dict[str, Any]) -> str:
    chosen = sorted({found["chosen"] for found in result["probes"]})
    return (
        f"{result['model']}: best {result['best']}, chosen {' or '.join(chosen)}, "
        f"ratio {result['ratio']:.3f}, {result['probe_cpu_seconds']:.1f} CPU-seconds"
    )


if __name__ == "__main__":
    main()

"""Who takes part, and with which settings: for each the strongest sensible use that is known."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed import environments

PEERS = Path(__file__).resolve().parent / "peers"
ONE_STAGE = "stages=[{name: all, train: all, epochs: 1, lr: 1e-3, backbone_lr: 5e-4}]"
HEAD_ONLY = "stages=[{name: head, train: head, solve: true, epochs: 1, lr: 1e-3}]"


@dataclass(frozen=True)
class Trial:
    """What all contenders are given.

    Attributes:
        data: Folder with train, val and test.
        model: A timm name.
        weights: A file; None: random.
        imgsz: Pixels across and down.
        max_batches: None: whole epochs, and scores. Else one epoch of so many, for speed and
            memory.
    """

    data: Path
    model: str
    weights: Path | None
    imgsz: int
    max_batches: int | None = None


@dataclass(frozen=True)
class Contender:
    """One way to train.

    Attributes:
        name: As on the command line.
        label: As in tables and pictures.
        family: Contenders of one program.
        words: What is said to that program.
        does: One sentence for the report.
    """

    name: str
    label: str
    family: str
    words: tuple[str, ...]
    does: str

    @property
    def is_espalier(self) -> bool:
        """Whether it is ours."""
        return self.family == "espalier"

    def command(self, trial: Trial, seed: int, folder: Path) -> list[str]:
        """The words that start it, in a folder of its own."""
        if self.is_espalier:
            return espalier_command(self.words, trial, seed, folder)
        return peer_command(self, trial, seed, folder)


SCRIPTS = {"plain": "plain_loop.py", "timm": "timm_recipe.py", "fastai": "fastai_tune.py"}

CONTENDERS = (
    Contender(
        "espalier-quick",
        "Espalier, quick",
        "espalier",
        ("--preset", "quick"),
        "`espalier train --preset quick`.",
    ),
    Contender(
        "espalier-standard",
        "Espalier, standard",
        "espalier",
        ("--preset", "standard"),
        "`espalier train`, the default recipe.",
    ),
    Contender(
        "espalier-head",
        "Espalier, head only",
        "espalier",
        ("--preset", "quick", "--set", HEAD_ONLY),
        "The first stage of `quick` alone: a linear head is solved for.",
    ),
    Contender(
        "plain-3",
        "plain loop, 1+1+1",
        "plain",
        ("--epochs", "1", "1", "1"),
        "A PyTorch loop as tutorials write it: ImageFolder, PIL transforms, fp32, Adam; "
        "one epoch each of head, top and everything at 1e-3, 3e-4, 1e-4.",
    ),
    Contender(
        "plain-6",
        "plain loop, 2+2+2",
        "plain",
        ("--epochs", "2", "2", "2"),
        "The same, two epochs each.",
    ),
    Contender(
        "timm",
        "timm (own runner), 5 epochs",
        "timm",
        ("--epochs", "5"),
        "The loop of timm's training script in our own words (the script is in no package), over "
        "timm's loaders, AdamW 1e-3, cosine, channels-last, head started at 0.05 of its size.",
    ),
    Contender(
        "fastai",
        "fastai fine_tune, 1+4",
        "fastai",
        ("--epochs", "1", "4"),
        "`vision_learner(...).fine_tune(4, base_lr=1e-2)`, crops and flips.",
    ),
)
BY_NAME = {contender.name: contender for contender in CONTENDERS}
# One of each program: for speed and memory it matters what runs, not for how long.
FOR_THROUGHPUT = ("espalier-standard", "plain-3", "timm", "fastai")
FOR_QUICK = ("espalier-quick", "plain-3")


def espalier_command(words: tuple[str, ...], trial: Trial, seed: int, folder: Path) -> list[str]:
    start = [sys.executable, "-c", "from espalier.cli import main; main()", "train"]
    if trial.max_batches is not None:
        bound = ("--max-batches", str(trial.max_batches))
        words = (*words, "--set", ONE_STAGE, *bound)
    given = {
        "model": trial.model,
        "weights": str(trial.weights or "none"),
        "imgsz": str(trial.imgsz),
        "workers": "1",
        "device": "cpu",
        "seed": str(seed),
        "out": str(folder),
        "name": "run",
    }
    flags = [word for key, value in given.items() for word in (f"--{key}", value)]
    return [*start, str(trial.data), *words, *flags, "--set", "training.threads=1", "--json"]


def peer_command(contender: Contender, trial: Trial, seed: int, folder: Path) -> list[str]:
    words = contender.words
    if trial.max_batches is not None:
        words = ("--epochs", "1", "--max-batches", str(trial.max_batches))
    given = {
        "data": str(trial.data),
        "model": trial.model,
        "imgsz": str(trial.imgsz),
        "seed": str(seed),
        "log": str(folder / "epochs.jsonl"),
        "out": str(folder),
    }
    if trial.weights is not None:
        given["weights"] = str(trial.weights)
    flags = [word for key, value in given.items() for word in (f"--{key}", value)]
    python = str(environments.interpreter(contender.family))
    return [python, str(PEERS / SCRIPTS[contender.family]), *flags, *words]


def surroundings(folder: Path) -> dict[str, str]:
    """Environment variables of a contender: one thread, no network, nothing cached before."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {
        **os.environ,
        **threads,
        "ESPALIER_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "ignore",
    }

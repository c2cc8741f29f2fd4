"""R4, held out: no threshold was ever tuned on it. A transformer on photographs of waste.

Other pictures, classes, network and optimizer settings than R1 to R3. It has a file of its own, so
that nothing here changes what the runs of R1 and R2 are made of.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.faults import networks
from benchmarks.faults.loop import Loop
from benchmarks.faults.networks import Activation
from benchmarks.faults.pictures import SHARED, Pictures, Split
from benchmarks.faults.recipes import Plan

WASTE = SHARED / "datasets" / "trashnet6"
SIDE, PATCH = 32, 8
WIDTH_OF_HEAD = 16


class Attention(nn.Module):
    """Every patch looks at every other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // WIDTH_OF_HEAD)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [N, T, W]."""
        size, tokens, width = x.shape
        parts = self.qkv(x).view(size, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(*parts)
        mixed: Tensor = self.out(seen.transpose(1, 2).reshape(size, tokens, width))
        return mixed


class Layer(nn.Module):
    """Attention, then two linear layers; norms first, ways around unless they are taken away."""

    def __init__(
        self, width: int, *, kind: str, act: Activation, residual: bool, dropout: float
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(width, kind), norm(width, kind)
        self.attention = Attention(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), act(), nn.Linear(2 * width, width))
        self.drop = nn.Dropout(dropout)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [N, T, W]."""
        for piece in (lambda y: self.attention(self.norm1(y)), lambda y: self.mlp(self.norm2(y))):
            made = self.drop(piece(x))
            x = x + made if self.residual else made
        return x


class Embedding(nn.Module):
    """Patches as tokens, each with what is learned of its place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, PATCH, PATCH)
        self.places = nn.Parameter(0.02 * torch.randn(1, (SIDE // PATCH) ** 2, width))

    def forward(self, x: Tensor) -> Tensor:
        """Pictures [N, 3, S, S] as tokens [N, T, W]."""
        tokens: Tensor = self.patches(x).flatten(2).transpose(1, 2) + self.places
        return tokens


class Mean(nn.Module):
    """The mean token."""

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [N, T, W] -> [N, W]."""
        return x.mean(dim=1)


class PatchTransformer(nn.Sequential):
    """A small vision transformer: LayerNorm and GELU; no BatchNorm, no ReLU."""

    def __init__(
        self,
        classes: int,
        *,
        width: int = 64,
        kind: str = "layer",
        act: Activation = nn.GELU,
        residual: bool = True,
        dropout: float = 0.0,
    ) -> None:
        parts: dict[str, nn.Module] = {"stem": Embedding(width)}
        for number in (1, 2, 3):
            parts[f"block{number}"] = Layer(
                width, kind=kind, act=act, residual=residual, dropout=dropout
            )
        parts |= {
            "norm": norm(width, kind),
            "pool": Mean(),
            "drop": nn.Dropout(dropout),
            "head": nn.Linear(width, classes),
        }
        super().__init__(OrderedDict(parts))


def norm(width: int, kind: str) -> nn.Module:
    return nn.Identity() if kind == "none" else nn.LayerNorm(width)


class HeldOutLoop(Loop):
    """The plain loop with the pictures and the network of R4."""

    def __init__(self, plan: Plan, seed: int, folder: Path) -> None:
        # A loop picks its pictures by recipe, and digits need no file; they are replaced below.
        super().__init__(dataclasses.replace(plan, recipe="R1"), seed, folder)
        self.plan = plan
        self.pictures = waste(folder.parent)
        self.train = self._drawn(self.pictures.train)
        self.val, self.val_classes = self.pictures.val, self.pictures.classes
        mean, std = torch.tensor(self.pictures.mean), torch.tensor(self.pictures.std)
        for view in (self.train_view, self.val_view):
            view.mean, view.std = mean, std
        self.train_view.flips = True

    def _model(self) -> nn.Module:
        plan, classes = self.plan, len(self.pictures.classes)
        torch.manual_seed(self.seed)
        model = PatchTransformer(classes, width=plan.width, kind=plan.kind, dropout=plan.dropout)
        networks.fresh_head(model, classes)
        return model


@cache
def waste(folder: Path) -> Pictures:
    """1,768 training photographs of six kinds of waste, 328 of validation, 431 of the test.

    Args:
        folder: Keeps the shrunken pictures, so that they are decoded once.
    """
    kept = folder / f"waste-{SIDE}.npz"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **_shrunk())
    with np.load(kept) as found:
        names = tuple(found["names"].tolist())
        train, val, test = (
            Split(
                torch.from_numpy(found[f"{part}_pixels"]).float() / 255,
                torch.from_numpy(found[f"{part}_labels"]),
            )
            for part in ("train", "val", "test")
        )
    mean, std = train.pixels.mean(dim=(0, 2, 3)), train.pixels.std(dim=(0, 2, 3))
    return Pictures(names, train, val, test, None, tuple(mean.tolist()), tuple(std.tolist()))


def _shrunk() -> dict[str, npt.NDArray[np.generic]]:
    names = sorted(entry.name for entry in (WASTE / "train").iterdir() if entry.is_dir())
    found: dict[str, npt.NDArray[np.generic]] = {"names": np.array(names)}
    for part in ("train", "val", "test"):
        files = [(label, name) for label, name in enumerate(names)]
        pairs = [
            (path, label)
            for label, name in files
            for path in sorted((WASTE / part / name).iterdir())
        ]
        found[f"{part}_pixels"] = np.stack([_small(path) for path, _ in pairs])
        found[f"{part}_labels"] = np.array([label for _, label in pairs], dtype=np.int64)
    return found


def _small(path: Path) -> npt.NDArray[np.uint8]:
    """A photograph as [3, SIDE, SIDE] of bytes."""
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small.transpose(2, 0, 1), dtype=np.uint8)

"""The small networks of the plain loops: a backbone in parts, and a head."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Activation = Callable[[], nn.Module]


def norm(channels: int, kind: str) -> nn.Module:
    """The normalisation of a layer: ``batch``, ``group`` or ``none``."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(4, channels) if kind == "group" else nn.Identity()


class Block(nn.Module):
    """Two convolutions, and a way around them unless it is taken away."""

    def __init__(
        self, before: int, after: int, stride: int, *, kind: str, act: Activation, residual: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = norm(after, kind)
        self.act = act()
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = norm(after, kind)
        same = before == after and stride == 1
        self.around = nn.Identity() if same else nn.Conv2d(before, after, 1, stride, bias=False)
        self.residual = residual
        self.last = act()

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps [N, C, H, W]."""
        y = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        return self.last(y + self.around(x) if self.residual else y)


class ResNet8(nn.Sequential):
    """75,000 parameters: a stem, three blocks, a head."""

    def __init__(
        self,
        classes: int,
        *,
        width: int = 16,
        kind: str = "batch",
        act: Activation = nn.ReLU,
        residual: bool = True,
        dropout: float = 0.0,
    ) -> None:
        a, b, c = width, 2 * width, 4 * width
        make = {"kind": kind, "act": act, "residual": residual}
        stem = nn.Sequential(nn.Conv2d(3, a, 3, 1, 1, bias=False), norm(a, kind), act())
        super().__init__(
            OrderedDict(
                stem=stem,
                block1=Block(a, a, 1, **make),
                block2=Block(a, b, 2, **make),
                block3=Block(b, c, 2, **make),
                pool=pooled(),
                drop=nn.Dropout(dropout),
                head=nn.Linear(c, classes),
            )
        )


class SmallCNN(nn.Sequential):
    """Three convolutions with pooling between them, and a head."""

    def __init__(
        self,
        classes: int,
        *,
        width: int = 16,
        kind: str = "batch",
        act: Activation = nn.ReLU,
        residual: bool = True,
        dropout: float = 0.0,
    ) -> None:
        parts: dict[str, nn.Module] = {}
        before = 3
        for number, after in enumerate((width, 2 * width, 4 * width), start=1):
            conv = nn.Conv2d(before, after, 3, 1, 1, bias=kind == "none")
            parts[f"block{number}"] = nn.Sequential(conv, norm(after, kind), act(), nn.MaxPool2d(2))
            before = after
        parts |= {
            "pool": pooled(),
            "drop": nn.Dropout(dropout),
            "head": nn.Linear(before, classes),
        }
        super().__init__(OrderedDict(parts))


def pooled() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def fresh_head(model: nn.Module, classes: int) -> None:
    """A new head whose first loss is that of chance."""
    head: Any = model.head
    new = nn.Linear(head.in_features, classes)
    nn.init.normal_(new.weight, std=0.01)
    nn.init.zeros_(new.bias)
    model.head = new

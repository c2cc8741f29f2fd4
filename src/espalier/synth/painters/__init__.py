"""What can be painted: one file per painter, and its name is the word on the command line."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol, cast

from espalier.data.images import Pixels
from espalier.errors import DataError
from espalier.synth.canvas import Canvas, Random
from espalier.synth.region import Region


class Painter(Protocol):
    """What a file in this folder has at its top level; see ``docs/guide/synthetic.md``."""

    LABEL: str
    """The class that a painted photograph belongs to, unless the person says otherwise."""
    KINDS: tuple[str, ...]
    """What it can paint; one is drawn for each variant."""

    def find(self, pixels: Pixels) -> Region:
        """Where paint may go on a photograph, RGB [H, W, 3]."""
        ...

    def paint(self, canvas: Canvas, rng: Random, amount: float, kind: str) -> None:
        """Paint one variant; ``amount`` is 0.25 (light), 0.5 (medium) or 1 (heavy)."""
        ...


def names() -> tuple[str, ...]:
    """The painters there are, in alphabetical order."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> Painter:
    """The painter of a name.

    Raises:
        DataError: There is none of this name.
    """
    if name not in names():
        raise DataError(
            f"there is no painter `{name}`", hint=f"one of {', '.join(names())}: see --help"
        )
    return cast(Painter, importlib.import_module(f"{__name__}.{name}"))

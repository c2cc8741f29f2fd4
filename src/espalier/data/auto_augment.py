"""RandAugment and TrivialAugment, torchvision's own, made a pure function of one seed.

Torchvision draws from torch's global generator, from which training draws its dropout while the
loader's threads work. A torch function mode, which holds for one thread only, hands these draws a
generator of their own: nothing global is read or written, and the operators stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from torch.overrides import TorchFunctionMode
from torchvision.transforms import v2

from espalier.data.augment_geometry import Steps, happens
from espalier.data.resample import Image

_OPERATORS: dict[str, Callable[[Mapping[str, float]], v2.Transform]] = {
    "randaugment": lambda params: v2.RandAugment(int(params["num_ops"]), int(params["magnitude"])),
    "trivialaugment": lambda params: v2.TrivialAugmentWide(),
}
_DRAWS = frozenset({torch.rand, torch.randint, torch.randn, torch.randperm, torch.normal})
_SEEDS = 2**63


class AutoAugment:
    """The automatic augmentations among the steps of a policy; safe to call from many threads.

    Args:
        steps: Steps with all their parameters; other steps are left to others.
    """

    def __init__(self, steps: Steps) -> None:
        self._steps = {name: steps[name] for name in _OPERATORS if name in steps}
        self._operators = {name: _OPERATORS[name](p) for name, p in self._steps.items()}

    def draw(self, rng: np.random.Generator) -> dict[str, int]:
        """Which of them happen to one image, each with the seed of its own choices."""
        return {
            name: int(rng.integers(_SEEDS))
            for name in self._steps
            if happens(name, self._steps, rng)
        }

    def __call__(self, image: Image, seeds: Mapping[str, int]) -> Image:
        """Apply what was drawn to a view [H, W, 3]."""
        if not seeds:
            return image
        # As a Pillow image: as fast or faster, and no threads of torch's inside the loader's.
        picture = Pillow.fromarray(image)
        for name, seed in seeds.items():
            with _OwnGenerator(seed):
                picture = self._operators[name](picture)
        return np.asarray(picture, dtype=np.uint8)

    def on_tensor(self, image: torch.Tensor, seeds: Mapping[str, int]) -> torch.Tensor:
        """The same for a uint8 view [3, H, W] on any device."""
        for name, seed in seeds.items():
            with _OwnGenerator(seed):
                image = self._operators[name](image)
        return image


class _OwnGenerator(TorchFunctionMode):
    """Inside, and in this thread alone, torch's random functions draw from a seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in _DRAWS:
            return func(*args, **{**(kwargs or {}), "generator": self._generator})
        return func(*args, **(kwargs or {}))

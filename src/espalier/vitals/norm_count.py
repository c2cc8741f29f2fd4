"""Whether BatchNorm learns from validation: it counts the batches that it takes statistics of."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class NormCount:
    """Batches that BatchNorm has counted between a step and the end of validation.

    Args:
        model: The network; of its layers the last that counts is watched.
    """

    def __init__(self, model: nn.Module) -> None:
        layers = [
            module
            for module in model.modules()
            if isinstance(module, _BatchNorm) and module.num_batches_tracked is not None
        ]
        self._layer = layers[-1] if layers else None
        self._at_step: Tensor | None = None

    def stepped(self) -> None:
        """Remember the count of now; it stays on its device."""
        count = self._count()
        self._at_step = None if count is None else count.detach().clone()

    def since_step(self) -> int | None:
        """Batches counted since the last step; None without BatchNorm or without a step."""
        count = self._count()
        if count is None or self._at_step is None:
            return None
        counted = int(count) - int(self._at_step)
        # Somebody else's weights were put in between: their count says nothing of validation.
        return counted if counted >= 0 else None

    def _count(self) -> Tensor | None:
        """Read anew: a model that is moved to another device has another tensor."""
        return None if self._layer is None else self._layer.num_batches_tracked

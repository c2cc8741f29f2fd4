"""What a training run needs and does not change, except for the model's own weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from lightning_fabric import Fabric

from espalier.data.store import PixelStore
from espalier.models.build import Classifier
from espalier.recipe.schema import Recipe, Stage
from espalier.records import Catalog, Sample
from espalier.runs import RunDir
from espalier.train.watch import Watch


@dataclass(frozen=True)
class Job:
    """All that training needs and does not change, except for the model's own weights.

    Attributes:
        side: Pixels of the short side to which photographs are reduced.
        store: Where they are kept decoded; None: read from their files each time.
    """

    recipe: Recipe
    catalog: Catalog
    run: RunDir
    model: Classifier
    class_weights: npt.NDArray[np.float64]
    fabric: Fabric
    watch: Watch
    side: int
    store: PixelStore | None = None

    @property
    def train(self) -> tuple[Sample, ...]:
        """Training samples, in catalog order."""
        return self.catalog.in_split("train")

    @property
    def class_index(self) -> Mapping[str, int]:
        """Class name -> index."""
        return {name: index for index, name in enumerate(self.catalog.classes)}

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of the recipe."""
        return self.recipe.stages

"""Kept features of a job: which frozen layers make them, what they depend on, where they lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch

from espalier import cache
from espalier.data.loader import Loader
from espalier.models.cut import Piece
from espalier.models.frozen import FrozenLayers
from espalier.models.inference import judging_batch
from espalier.models.openvino_layers import OpenVinoLayers
from espalier.recipe.merge import is_given
from espalier.recipe.schema import Stage
from espalier.train.features import KeptFeatures, Shelf, digest_of
from espalier.train.job import Job
from espalier.train.keeping import GIB
from espalier.train.loaders import build_loader, build_normalizer, judged_imgsz


class Keeper:
    """Makes and keeps what some frozen pieces give, for any loader of the job.

    Args:
        job: What trains; its recipe says how frozen layers compute and what may be kept.
        pieces: They must rest, and go on resting.
        on_disk: Whether features are kept in the cache folder; else in memory.
        pause: Called between batches; may raise to stop in good order.
    """

    def __init__(
        self, job: Job, pieces: Sequence[Piece], *, on_disk: bool, pause: Callable[[], None]
    ) -> None:
        self.job = job
        self.on_disk = on_disk
        self.pause = pause
        self.weights = digest_of(pieces)
        self.frozen = frozen_layers(job, pieces)
        self.normalizer = build_normalizer(job.recipe).to(job.fabric.device)

    def __call__(self, live: Loader, views: int) -> KeptFeatures:
        """Kept features in place of a loader's pixels; 0 views for its one fixed view."""
        return KeptFeatures(live, self._features, views, self._shelf(live, views))

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        return self.frozen(self.normalizer(images.to(self.job.fabric.device)))

    def _shelf(self, live: Loader, views: int) -> Shelf:
        section = self.job.recipe.features
        return Shelf(
            stored=section.stored,
            key=self._key(live, views),
            folder=cache.cache_folder("features") if self.on_disk else None,
            budget=int(section.budget_gib * GIB),
            note=self.job.watch.on_note,
            pause=self.pause,
        )

    def _key(self, live: Loader, views: int) -> Mapping[str, Any]:
        """Everything that the features depend on, but for the number of the view."""
        recipe, transform = self.job.recipe, live.transform
        # A fixed view depends on neither seed nor augmentation.
        augment = [live.seed, recipe.augment.policy, recipe.augment.steps] if views else None
        return {
            "weights": self.weights,
            "model": recipe.model.name,
            "torch": torch.__version__,
            "engine": self.frozen.engine,
            "precision": recipe.features.precision,
            "channels_last": recipe.training.channels_last,
            "device": recipe.training.device.partition(":")[0],
            "normalization": [recipe.data.mean, recipe.data.std],
            "transform": [type(transform).__name__, transform.imgsz, transform.at_least],
            "fit": [recipe.data.fit, recipe.data.crop_share],
            "augment": augment,
            "side": live.side,
            "rendered": live.augment is not None,
            "samples": [sample.sample_id for sample in live.samples],
        }


def frozen_layers(job: Job, pieces: Sequence[Piece]) -> FrozenLayers:
    """Frozen pieces as the recipe wants them computed.

    Raises:
        ModelError: With OpenVINO, which is not installed. A person asked for it, and it cannot run
            them: when they are first called.
    """
    recipe = job.recipe
    precision, last = recipe.features.precision, cast(bool, recipe.training.channels_last)
    if recipe.features.engine != "openvino":
        device = job.fabric.device
        return FrozenLayers(pieces, precision=precision, channels_last=last, device=device)
    asked = is_given(recipe.why.get("features.engine"))
    return OpenVinoLayers(
        pieces,
        precision=precision,
        channels_last=last,
        threads=cast(int, recipe.training.threads),
        on_refusal=None if asked else job.watch.on_note,
    )


def keep_backbone(job: Job, pause: Callable[[], None], *, on_disk: bool | None = None) -> Keeper:
    """A keeper of the whole backbone's pooled features, small enough to be kept anywhere.

    The backbone is left in evaluation mode.

    Args:
        job: What trains.
        pause: As for ``Keeper``.
        on_disk: None: as the recipe says.
    """
    job.model.to(job.fabric.device).backbone.eval()
    if on_disk is None:
        on_disk = job.recipe.features.keep in ("auto", "disk")
    piece = Piece("backbone", job.model.backbone)
    return Keeper(job, [piece], on_disk=on_disk, pause=pause)


def fixed_loader(job: Job, stage: Stage) -> Loader:
    """All training images in the one view that validation would have of them."""
    imgsz = judged_imgsz(job.recipe, stage)
    return build_loader(job, job.train, "val", imgsz, judging_batch(imgsz))

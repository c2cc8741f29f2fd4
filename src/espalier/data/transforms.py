"""From a decoded photograph to the square that the network sees; one transform per split.

Training draws an augmented view; validation, test and prediction crop, pad or squash in one fixed
way. ``transform_for`` chooses by the name of the split, so that validation cannot be given the
training transform.
"""

from __future__ import annotations

import math
from typing import Protocol, assert_never

import numpy as np

from espalier.data.augment_colour import hide, recolour, soften
from espalier.data.augment_geometry import (
    SPARE_PIXELS,
    Image,
    Steps,
    centre_box,
    draw_view,
    letterbox,
    render,
    resize,
)
from espalier.recipe.policies import resolve_steps
from espalier.recipe.schema import Fit, Recipe
from espalier.records import Split


class Transform(Protocol):
    """What the loader needs of a transform."""

    @property
    def imgsz(self) -> int:
        """Pixels across and down of the result."""

    @property
    def at_least(self) -> int:
        """Pixels that the short side of a photograph needs for no result to be enlarged."""

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Turn pixels [H, W, 3] into [imgsz, imgsz, 3]."""


class TrainTransform:
    """An augmented view, drawn anew from ``rng`` at every call.

    Args:
        imgsz: Pixels across and down of the result.
        fit: ``crop`` views parts of the picture, at the centre where no crop is drawn; ``pad`` sets
            the picture between grey bars first; ``squash`` stretches it to a square.
        steps: Steps with all their parameters, as ``resolve_steps`` gives them.
    """

    def __init__(self, imgsz: int, fit: Fit, steps: Steps) -> None:
        self.imgsz = imgsz
        self.fit = fit
        self.steps = {step: dict(params) for step, params in steps.items() if params["p"] > 0.0}

    @property
    def at_least(self) -> int:
        """Pixels of the short side that the smallest crop at the largest zoom needs."""
        share = 1.0
        if crop := self.steps.get("random_resized_crop"):
            shape = min(crop["min_ratio"], 1.0 / crop["max_ratio"], 1.0)
            share = math.sqrt(crop["min_area"] * shape)
        if crop := self.steps.get("enlarged_crop"):
            share = min(share, 1.0 / crop["factor"])
        if affine := self.steps.get("affine"):
            share /= max(1.0, affine["max_scale"])
        return math.ceil(self.imgsz / share)

    def __call__(self, image: Image, rng: np.random.Generator) -> Image:
        """Turn pixels [H, W, 3] into a view [imgsz, imgsz, 3]."""
        if self.fit == "pad":
            image = letterbox(image, math.ceil(self.at_least * SPARE_PIXELS))
        height, width = image.shape[:2]
        view = draw_view(width, height, self.imgsz, self.fit, self.steps, rng)
        seen = render(image, view, self.imgsz)
        seen = recolour(seen, self.steps, rng)
        seen = soften(seen, self.steps, rng)
        return hide(seen, self.steps, rng)


class EvalTransform:
    """The one fixed view of a photograph, for validation, test and prediction.

    Args:
        imgsz: Pixels across and down of the result.
        fit: ``crop`` keeps the central square, ``pad`` adds grey bars, ``squash`` stretches.
        crop_share: Share of the short side that ``crop`` keeps; the other fits keep everything.
    """

    def __init__(self, imgsz: int, fit: Fit, crop_share: float) -> None:
        self.imgsz = imgsz
        self.fit = fit
        self.crop_share = crop_share

    @property
    def at_least(self) -> int:
        """Pixels of the short side that fill the result without enlargement."""
        return math.ceil(self.imgsz / (self.crop_share if self.fit == "crop" else 1.0))

    def __call__(self, image: Image, rng: np.random.Generator | None = None) -> Image:
        """Turn pixels [H, W, 3] into [imgsz, imgsz, 3]; ``rng`` is never touched."""
        if self.fit == "pad":
            image = letterbox(image, self.imgsz)
        elif self.fit == "crop":
            height, width = image.shape[:2]
            x, y, side, _ = (int(v) for v in centre_box(width, height, self.crop_share))
            image = image[y : y + side, x : x + side]
        return resize(image, self.imgsz, self.imgsz)


def transform_for(split: Split, recipe: Recipe, imgsz: int) -> TrainTransform | EvalTransform:
    """The transform that belongs to a split: random for ``train``, fixed for every other."""
    if split == "train":
        steps = resolve_steps(recipe.augment.policy, recipe.augment.steps)
        return TrainTransform(imgsz, recipe.data.fit, steps)
    if split == "val" or split == "test":
        return EvalTransform(imgsz, recipe.data.fit, recipe.data.crop_share)
    assert_never(split)

"""From a decoded photograph to the square that the network sees; one transform per split.

Training draws an augmented view; validation, test and prediction crop, pad or squash in one fixed
way. ``transform_for`` chooses by the name of the split, so that validation cannot be given the
training transform.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, assert_never

import numpy as np

from espalier.data.augment_colour import Look, draw_look, retouch
from espalier.data.augment_geometry import Steps, View, centre_box, draw_view, render
from espalier.data.resample import SPARE_PIXELS, Bars, Image, bars, letterbox, sample
from espalier.recipe.policies import resolve_steps
from espalier.recipe.schema import Fit, Recipe
from espalier.records import Split

_ONE_BY_ONE = ("randaugment", "trivialaugment")


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


@dataclass(frozen=True, slots=True)
class Drawn:
    """Everything that is random about one augmented view: where from, automatic steps, looks."""

    view: View
    auto: dict[str, int]
    look: Look


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
        # It needs torch; who only asks for sizes, or draws a run, does without.
        from espalier.data.auto_augment import AutoAugment

        self.auto = AutoAugment(self.steps)

    @property
    def one_by_one(self) -> str:
        """The step that takes one image at a time wherever it is computed; empty: none does."""
        return next((step for step in _ONE_BY_ONE if step in self.steps), "")

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
        drawn = self.draw(image.shape[1], image.shape[0], rng)
        if self.fit == "pad":
            image = letterbox(image, self.most)
        seen = render(image, drawn.view, self.imgsz)
        return retouch(self.auto(seen, drawn.auto), drawn.look)

    def draw(self, width: int, height: int, rng: np.random.Generator) -> Drawn:
        """All random choices for a picture of ``width`` x ``height`` pixels."""
        if self.fit == "pad":
            width = height = self.bars(width, height).side
        return Drawn(
            view=draw_view(width, height, self.imgsz, self.fit, self.steps, rng),
            auto=self.auto.draw(rng),
            look=draw_look(self.imgsz, self.steps, rng),
        )

    def bars(self, width: int, height: int) -> Bars:
        """How ``pad`` sets a picture between grey bars."""
        return bars(width, height, self.most)

    @property
    def most(self) -> int:
        """Pixels across of the largest square that ``pad`` makes."""
        return math.ceil(self.at_least * SPARE_PIXELS)


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
        return sample(image, self.imgsz, self.imgsz)


def transform_for(split: Split, recipe: Recipe, imgsz: int) -> TrainTransform | EvalTransform:
    """The transform that belongs to a split: random for ``train``, fixed for every other."""
    if split == "train":
        steps = resolve_steps(recipe.augment.policy, recipe.augment.steps)
        return TrainTransform(imgsz, recipe.data.fit, steps)
    if split == "val" or split == "test":
        return EvalTransform(imgsz, recipe.data.fit, recipe.data.crop_share)
    assert_never(split)


def at_least_for(
    recipe: Recipe, sizes: Iterable[int], eval_sizes: Iterable[int] | None = None
) -> int:
    """Pixels of the short side that a picture needs to serve every view of a run.

    A picture decoded or stored once at this size feeds training whose resolution changes between
    stages or epochs, and a validation and test whose resolution is another.

    Args:
        recipe: With the policy, the fit and the share of the crop.
        sizes: Every ``imgsz`` of a training view; at least one.
        eval_sizes: Every ``imgsz`` in validation and test; None: those of training.
    """
    sizes = tuple(sizes)
    wanted: tuple[tuple[Split, tuple[int, ...]], ...] = (
        ("train", sizes),
        ("val", sizes if eval_sizes is None else tuple(eval_sizes)),
    )
    return max(
        transform_for(split, recipe, size).at_least for split, asked in wanted for size in asked
    )

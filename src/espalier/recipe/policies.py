"""Augmentation as data: the steps, the named policies, and the merge of a person's changes.

Lengths are shares of the view's side, areas are shares of its square, angles are degrees and
``p`` is the probability that the step happens to one image. Steps are listed in the order in which
they are applied. No array is touched here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from espalier.errors import RecipeError

Params = dict[str, float]
Steps = dict[str, Params]


@dataclass(frozen=True, slots=True)
class ParamSpec:
    """The value a step takes when it is named without it, the range allowed, and its meaning."""

    default: float
    low: float
    high: float
    meaning: str


def _p(default: float) -> ParamSpec:
    return ParamSpec(default, 0.0, 1.0, "probability per image")


def _strength(default: float) -> ParamSpec:
    return ParamSpec(default, 0.0, 1.0, "factor drawn from 1 - value to 1 + value")


def _share(default: float, meaning: str) -> ParamSpec:
    return ParamSpec(default, 0.0, 1.0, meaning)


def _ratio(default: float, which: str) -> ParamSpec:
    return ParamSpec(default, 0.1, 10.0, f"{which} width : height")


def _area(default: float, which: str) -> ParamSpec:
    return ParamSpec(default, 0.001, 1.0, f"{which} share of the square's area")


STEPS: dict[str, dict[str, ParamSpec]] = {
    "random_resized_crop": {
        "p": _p(1.0),
        "min_area": _area(0.6, "smallest"),
        "max_area": _area(1.0, "largest"),
        "min_ratio": _ratio(0.8, "smallest"),
        "max_ratio": _ratio(1.25, "largest"),
    },
    # Only happens to images that random_resized_crop leaves alone: one picture has one crop.
    "enlarged_crop": {
        "p": _p(1.0),
        "factor": ParamSpec(1.1, 1.0, 4.0, "resize to factor x imgsz, then crop imgsz anywhere"),
    },
    "hflip": {"p": _p(0.5)},
    "vflip": {"p": _p(0.3)},
    "rotation": {
        "p": _p(0.5),
        "degrees": ParamSpec(15.0, 0.0, 180.0, "largest angle, either way"),
    },
    "affine": {
        "p": _p(0.3),
        "translate": _share(0.05, "largest shift, each axis, either way"),
        "min_scale": ParamSpec(0.9, 0.2, 5.0, "smallest zoom"),
        "max_scale": ParamSpec(1.1, 0.2, 5.0, "largest zoom"),
        "shear": ParamSpec(0.0, 0.0, 60.0, "largest horizontal shear in degrees, either way"),
    },
    "perspective": {
        "p": _p(0.2),
        "distortion": ParamSpec(0.1, 0.0, 0.9, "corners move inward by up to value / 2"),
    },
    "elastic_distortion": {
        "p": _p(0.3),
        "cells": ParamSpec(5.0, 2.0, 20.0, "columns and rows of the points that are pushed"),
        "strength": ParamSpec(0.2, 0.0, 0.45, "largest push, each axis, as a share of a cell"),
    },
    "grid_distortion": {
        "p": _p(0.3),
        "cells": ParamSpec(5.0, 2.0, 20.0, "columns and rows of the grid"),
        "strength": ParamSpec(0.3, 0.0, 0.9, "columns and rows are 1 +- value wide"),
    },
    "randaugment": {
        "p": _p(1.0),
        "num_ops": ParamSpec(2.0, 1.0, 14.0, "torchvision's operators, one after another"),
        "magnitude": ParamSpec(9.0, 0.0, 30.0, "how strong each of them is"),
    },
    "trivialaugment": {"p": _p(1.0)},
    "colour_jitter": {
        "p": _p(0.5),
        "brightness": _strength(0.2),
        "contrast": _strength(0.2),
        "saturation": _strength(0.2),
        "hue": ParamSpec(0.02, 0.0, 0.5, "largest turn of the hue in turns, either way"),
    },
    "grayscale": {"p": _p(0.1)},
    "shadow": {
        "p": _p(0.2),
        "min_darkness": _share(0.3, "least light taken away in the shadow"),
        "max_darkness": _share(0.6, "most light taken away in the shadow"),
    },
    "blur": {
        "p": _p(0.1),
        "min_sigma": ParamSpec(0.3, 0.01, 20.0, "smallest sigma in output pixels"),
        "max_sigma": ParamSpec(1.0, 0.01, 20.0, "largest sigma in output pixels"),
    },
    "noise": {
        "p": _p(0.2),
        "deviation": ParamSpec(0.03, 0.0, 1.0, "largest standard deviation as a share of white"),
    },
    "coarse_dropout": {
        "p": _p(0.5),
        "max_holes": ParamSpec(6.0, 1.0, 64.0, "most holes; at least one is made"),
        "min_size": _share(0.08, "smallest side of a hole"),
        "max_size": _share(0.2, "largest side of a hole"),
    },
    "random_erasing": {
        "p": _p(0.1),
        "min_area": _area(0.02, "smallest"),
        "max_area": _area(0.1, "largest"),
        "min_ratio": _ratio(0.3, "smallest"),
        "max_ratio": _ratio(3.3, "largest"),
    },
}
"""What each step may take; a step added to a policy starts from these defaults."""

WHOLE_NUMBERS = frozenset({"cells", "max_holes", "num_ops", "magnitude"})

POLICIES: dict[str, Steps] = {
    "none": {},
    "light": {
        "random_resized_crop": {"min_area": 0.8, "min_ratio": 0.9, "max_ratio": 1.1},
        "hflip": {"p": 0.5},
    },
    # The nine steps of the three-stage recipe, mild: fine-grained photographs lose their class
    # when lesions or leaf edges are cropped away, recoloured or blurred.
    "standard": {
        "random_resized_crop": {"min_area": 0.6},
        "hflip": {"p": 0.5},
        "vflip": {"p": 0.3},
        "rotation": {"p": 0.5, "degrees": 15.0},
        "affine": {"p": 0.3, "translate": 0.05, "min_scale": 0.9, "max_scale": 1.1},
        "perspective": {"p": 0.2, "distortion": 0.1},
        "colour_jitter": {"p": 0.5},
        "blur": {"p": 0.1},
        "random_erasing": {"p": 0.1},
    },
    # Field photographs: rotation 45, jitter 0.8, dropout 0.5, vflip 0.3, grid 0.3, shadow 0.2.
    "strong": {
        "random_resized_crop": {"min_area": 0.5, "min_ratio": 0.75, "max_ratio": 1.3333},
        "hflip": {"p": 0.5},
        "vflip": {"p": 0.3},
        "rotation": {"p": 0.7, "degrees": 45.0},
        "grid_distortion": {"p": 0.3},
        "colour_jitter": {
            "p": 0.8,
            "brightness": 0.3,
            "contrast": 0.3,
            "saturation": 0.3,
            "hue": 0.05,
        },
        "shadow": {"p": 0.2},
        "coarse_dropout": {"p": 0.5},
    },
    "heavy": {
        "random_resized_crop": {"min_area": 0.3, "min_ratio": 0.75, "max_ratio": 1.3333},
        "hflip": {"p": 0.5},
        "vflip": {"p": 0.5},
        "rotation": {"p": 0.8, "degrees": 90.0},
        "affine": {
            "p": 0.5,
            "translate": 0.1,
            "min_scale": 0.8,
            "max_scale": 1.2,
            "shear": 10.0,
        },
        "perspective": {"p": 0.3, "distortion": 0.3},
        "grid_distortion": {"p": 0.4, "strength": 0.4},
        "colour_jitter": {
            "p": 0.9,
            "brightness": 0.4,
            "contrast": 0.4,
            "saturation": 0.4,
            "hue": 0.1,
        },
        "grayscale": {"p": 0.1},
        "shadow": {"p": 0.3},
        "blur": {"p": 0.3, "max_sigma": 1.5},
        "noise": {"p": 0.3, "deviation": 0.05},
        "coarse_dropout": {"p": 0.6, "max_holes": 8.0},
        "random_erasing": {"p": 0.3, "max_area": 0.2},
    },
    # Resize x1.1 + crop, flip, rotation 15, jitter .2/.2/.2/.1, blur .2, affine .3, erasing .1.
    "e8": {
        "enlarged_crop": {"p": 1.0, "factor": 1.1},
        "hflip": {"p": 0.5},
        "rotation": {"p": 1.0, "degrees": 15.0},
        "affine": {"p": 0.3, "translate": 0.1, "min_scale": 0.9, "max_scale": 1.1},
        "colour_jitter": {
            "p": 1.0,
            "brightness": 0.2,
            "contrast": 0.2,
            "saturation": 0.2,
            "hue": 0.1,
        },
        "blur": {"p": 0.2},
        "random_erasing": {"p": 0.1},
    },
    # Torchvision's own operators after a crop and a flip. The crop is that of standard: leaves and
    # lesions must stay in the picture.
    "randaugment": {
        "random_resized_crop": {"min_area": 0.6},
        "hflip": {"p": 0.5},
        "randaugment": {"num_ops": 2.0, "magnitude": 9.0},
    },
    "trivialaugment": {
        "random_resized_crop": {"min_area": 0.6},
        "hflip": {"p": 0.5},
        "trivialaugment": {"p": 1.0},
    },
}
"""Named policies; parameters that a policy does not name have the defaults of ``STEPS``."""


def resolve_steps(policy: str, overrides: Mapping[str, Mapping[str, float]] | None) -> Steps:
    """Every step of a policy with every parameter, after a person's changes.

    A change of a step that the policy lacks adds that step with the defaults of ``STEPS``; ``p: 0``
    switches a step off, and stays in the answer, so that resolving an answer again changes nothing.

    Raises:
        RecipeError: Unknown policy, step or parameter (with the nearest name), a value that is no
            number or out of range, or a minimum above its maximum; all of them at once.
    """
    base = POLICIES.get(policy)
    if base is None:
        raise RecipeError(
            f"augment.policy is {policy!r}; allowed: {', '.join(POLICIES)}",
            hint=f"--set augment.policy={_nearest(policy, POLICIES) or 'standard'}",
        )
    changes = overrides or {}
    problems = [text for step, params in changes.items() for text in _problems(step, params)]
    if not problems:
        steps = _merge(base, changes)
        problems = [text for step, params in steps.items() for text in _crossed(step, params)]
    if problems:
        raise RecipeError(
            f"augment.steps cannot be applied to the policy {policy!r}",
            hint="correct augment.steps, for example --set augment.steps.rotation.degrees=10",
            problems=problems,
        )
    return steps


def _merge(base: Steps, changes: Mapping[str, Mapping[str, float]]) -> Steps:
    """Steps in the order of ``STEPS``: their defaults, then the policy, then the changes."""
    merged: Steps = {}
    for step, specs in STEPS.items():
        if step in base or step in changes:
            defaults = {name: spec.default for name, spec in specs.items()}
            given = {name: float(value) for name, value in changes.get(step, {}).items()}
            merged[step] = {**defaults, **base.get(step, {}), **given}
    return merged


def _problems(step: str, params: Mapping[str, float]) -> list[str]:
    """What is wrong with one changed step, a line each."""
    specs = STEPS.get(step)
    if specs is None:
        return [f"{step!r} is no step{_meant(step, STEPS)}; allowed: {', '.join(STEPS)}"]
    problems = []
    for name, value in params.items():
        spec = specs.get(name)
        if spec is None:
            allowed = ", ".join(specs)
            problems.append(f"{step} takes no {name!r}{_meant(name, specs)}; allowed: {allowed}")
        elif not _within(name, value, spec):
            kind = "a whole number" if name in WHOLE_NUMBERS else "a number"
            problems.append(
                f"{step}.{name} is {value!r}; allowed: {kind} from {spec.low:g} to {spec.high:g} "
                f"({spec.meaning})"
            )
    return problems


def _within(name: str, value: object, spec: ParamSpec) -> bool:
    """Whether a value is a number inside its range; NaN is not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    whole = name not in WHOLE_NUMBERS or float(value).is_integer()
    return whole and spec.low <= value <= spec.high


def _crossed(step: str, params: Params) -> list[str]:
    """Pairs ``min_x`` > ``max_x`` of one step, a line each."""
    pairs = [(name, "max_" + name[4:]) for name in params if name.startswith("min_")]
    return [
        f"{step}.{low} is {params[low]:g}, above {step}.{high} = {params[high]:g}"
        for low, high in pairs
        if params[low] > params[high]
    ]


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a person most likely meant; None when none is close."""
    return next(iter(difflib.get_close_matches(str(name), list(known), n=1)), None)


def _meant(name: str, known: Iterable[str]) -> str:
    """``, did you mean 'x'?`` or nothing."""
    nearest = _nearest(name, known)
    return f", did you mean {nearest!r}?" if nearest else ""

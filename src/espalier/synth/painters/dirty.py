"""What a meal leaves on a dish: sauce, wiped streaks, splatters, grease, crumbs, dried rings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from espalier.data.images import Pixels
from espalier.data.synthetic import noise
from espalier.data.synthetic.noise import Plane, smoothstep
from espalier.synth import marks
from espalier.synth.canvas import Canvas, Colour, Random
from espalier.synth.region import Region, find_object

LABEL = "dirty"


@dataclass(frozen=True)
class Meal:
    """What was eaten.

    Attributes:
        sauces: What a thick layer reflects, linear RGB.
        bits: Colours of solid remains, linear RGB.
        body: Scattering of the sauce, as ``Canvas.lay`` takes it.
        wet: How much it glints.
        moist: How much of the dirt is sauce, and not solid; in [0, 1].
    """

    sauces: tuple[Colour, ...]
    bits: tuple[Colour, ...]
    body: float
    wet: float
    moist: float


# Looked up from photographs of food in even light, turned into linear RGB.
_TOMATO, _CURRY, _GRAVY = (0.40, 0.10, 0.025), (0.48, 0.25, 0.03), (0.24, 0.10, 0.022)
_EGG, _COCOA, _SOY = (0.72, 0.42, 0.05), (0.13, 0.055, 0.018), (0.16, 0.06, 0.012)
_CREAM, _BERRY, _PESTO = (0.62, 0.53, 0.36), (0.20, 0.018, 0.04), (0.14, 0.16, 0.03)
_CRUST, _BREAD, _CHAR = (0.36, 0.17, 0.045), (0.56, 0.34, 0.12), (0.12, 0.06, 0.025)
_HERB, _ONION, _CARROT = (0.10, 0.16, 0.025), (0.60, 0.50, 0.27), (0.58, 0.19, 0.03)
_RICE, _MEAT = (0.66, 0.56, 0.36), (0.25, 0.11, 0.05)

MEALS: Mapping[str, Meal] = MappingProxyType(
    {
        "tomato": Meal((_TOMATO, _TOMATO), (_HERB, _TOMATO, _ONION), 0.7, 0.35, 0.8),
        "curry": Meal((_CURRY, _CURRY), (_RICE, _HERB, _CARROT), 0.7, 0.35, 0.75),
        "gravy": Meal((_GRAVY, _GRAVY), (_MEAT, _ONION, _CARROT), 0.55, 0.4, 0.8),
        "egg": Meal((_EGG, _CREAM), (_EGG, _CRUST, _CHAR), 0.9, 0.2, 0.6),
        "cocoa": Meal((_COCOA, _GRAVY), (_COCOA, _CRUST), 0.8, 0.3, 0.7),
        "soy": Meal((_SOY, _GRAVY), (_RICE, _HERB, _CARROT), 0.3, 0.4, 0.65),
        "berry": Meal((_BERRY, _CREAM), (_BERRY, _BREAD), 0.5, 0.35, 0.75),
        "pesto": Meal((_PESTO, _CREAM), (_HERB, _BREAD, _CRUST), 0.6, 0.4, 0.6),
        "toast": Meal((_CREAM, _EGG), (_CRUST, _BREAD, _BREAD, _CHAR), 0.5, 0.1, 0.15),
        "fry": Meal((_CRUST, _CREAM), (_CRUST, _MEAT, _CHAR, _ONION), 0.5, 0.4, 0.4),
    }
)
KINDS = tuple(MEALS)

# A variant in which less of the dish differs than this would be a clean one with a wrong label.
_LEAST_CHANGED = 0.08
_MOST_ROUNDS = 4


def find(pixels: Pixels) -> Region:
    """The dish."""
    return find_object(pixels)


def paint(canvas: Canvas, rng: Random, amount: float, kind: str) -> None:
    """Leave the rests of one meal on the dish, ``amount`` from a trace to a plate not scraped."""
    meal = MEALS[kind]
    grease(canvas, rng, amount)
    for _ in range(_MOST_ROUNDS):
        for sauce in meal.sauces:
            if rng.random() < 0.35 + 0.65 * meal.moist:
                sauces(canvas, rng, amount * meal.moist, sauce, meal)
        solids(canvas, rng, amount * (1.15 - meal.moist), meal)
        if canvas.changed >= _LEAST_CHANGED * amount:
            return


def grease(canvas: Canvas, rng: Random, amount: float) -> None:
    """A film that dulls and yellows a little, wiped in curves, with a sheen where it is thick."""
    cloud = canvas.noise(noise.clouds(), rng, 0.3)
    strength = np.float32(0.10 + 0.22 * amount * rng.uniform(0.4, 1))
    film: Plane = smoothstep(-0.4, 1.6, cloud) * strength
    wiped = canvas.blank()
    for _ in range(int(rng.integers(1, 4))):
        marks.smear(wiped, _swipe(canvas, rng), canvas.reach * rng.uniform(0.2, 0.5), rng, dry=0.3)
    film = film * (1 + 0.8 * wiped)
    canvas.lay(film, (0.62, 0.52, 0.30), body=0.12)
    sheen = film * (1 + 0.5 * canvas.noise(noise.crumbs(), rng, 0.3)) * smoothstep(0.2, 1.2, cloud)
    # On a dark dish the same film shows far more: there less of it is a film that people leave.
    shine = np.float32(0.35 * min(1.0, 0.3 + 2 * canvas.brightness))
    canvas.lay(np.clip(sheen, 0, 1) * shine, (0.95, 0.93, 0.88), body=0.6)


def sauces(canvas: Canvas, rng: Random, amount: float, colour: Colour, meal: Meal) -> None:
    """One sauce in all its forms: a thin wiped film, streaks, spots, a splatter, dried rings."""
    tone = _vary(colour, rng)
    thin, thick = canvas.blank(), canvas.blank()
    _wipe(canvas, rng, amount, thin)
    _spot(canvas, rng, amount, thick)
    uneven = np.clip(0.8 + 0.3 * canvas.noise(noise.crumbs(), rng, 0.5), 0.2, 1.6)
    canvas.lay(thin * uneven, tone, body=meal.body * 0.7)
    canvas.lay(thick * uneven, tone, body=meal.body, relief=0.5, wet=meal.wet)
    if rng.random() < 0.15 + 0.25 * amount:
        rims = canvas.blank()
        for place in canvas.somewhere(rng, int(rng.integers(1, 3)), 0.2).tolist():
            radius = canvas.reach * rng.uniform(0.08, 0.3)
            marks.ring(rims, tuple(place), radius, rng, width=max(1.4, 0.012 * canvas.reach))
        canvas.lay(rims * np.float32(rng.uniform(0.4, 0.9)), tone, body=0.2)


def _wipe(canvas: Canvas, rng: Random, amount: float, thin: Plane) -> None:
    """What bread, a fork or a tongue of sauce has drawn along an arc."""
    for _ in range(int(rng.poisson(0.7 + 7 * amount))):
        width = canvas.reach * rng.uniform(0.06, 0.15 + 0.55 * amount)
        thickness = rng.uniform(0.2, 0.45 + 0.75 * amount)
        dry = rng.uniform(0.5, 1.1)
        marks.smear(thin, _swipe(canvas, rng), width, rng, dry=dry, thick=thickness)


def _spot(canvas: Canvas, rng: Random, amount: float, thick: Plane) -> None:
    count = int(rng.poisson(1 + 9 * amount))
    sizes = canvas.reach * (0.015 + 0.28 * (0.15 + amount) * rng.beta(0.7, 4, count))
    for place, size in zip(_clustered(canvas, rng, count), sizes, strict=True):
        soft = rng.uniform(0.08, 0.3)
        marks.blob(thick, place, float(size), rng, soft=soft, thick=rng.uniform(0.5, 1.4))
    if rng.random() < 0.75:
        place = tuple(canvas.somewhere(rng, 1, 0.15)[0].tolist())
        marks.droplets(thick, place, 0.6 * canvas.reach, int(8 + 50 * amount), rng)


def solids(canvas: Canvas, rng: Random, amount: float, meal: Meal) -> None:
    """Crumbs and bits of food, each standing up in the light with its shadow beside it."""
    count = int(8 + 170 * amount * rng.uniform(0.4, 1.2))
    places = np.array(_clustered(canvas, rng, count), np.float32).reshape(-1, 2)
    # Most crumbs are dust, a few are pieces.
    sizes = canvas.reach * np.clip(0.0035 * (1 + rng.pareto(1.2, count)), 0.005, 0.045)
    tones = np.array([_vary(meal.bits[i], rng) for i in rng.integers(0, len(meal.bits), count)])
    stand, colours = marks.particles(canvas.shape, places, sizes, tones, rng, rough=0.5)
    canvas.shade(np.minimum(stand, 1), 0.45, max(1.2, 0.012 * canvas.reach))
    canvas.lay(stand * np.float32(1.8), colours, body=1.6, relief=0.5, wet=0.08)


def _clustered(canvas: Canvas, rng: Random, count: int) -> list[tuple[float, float]]:
    """Places in a few heaps with some strays: food does not fall evenly."""
    heaps = canvas.somewhere(rng, max(1, int(rng.integers(1, 5))), 0.15)
    spread = canvas.reach * rng.uniform(0.06, 0.28, len(heaps))
    chosen = rng.integers(0, len(heaps), count)
    # Heavier tails than a normal draw: some fall far from their heap.
    near = heaps[chosen] + rng.standard_t(3, (count, 2)) * spread[chosen, None] * 0.8
    strays = rng.random(count) < 0.12
    near[strays] = canvas.somewhere(rng, count)[strays]
    return [(float(x), float(y)) for x, y in near]


def _swipe(canvas: Canvas, rng: Random) -> Plane:
    """A curve of a hand: about the dish's middle, or across it."""
    middle = canvas.somewhere(rng, 1, 0.3)[0]
    turned = rng.uniform(0, 2 * np.pi)
    radius = canvas.reach * rng.uniform(0.3, 0.9)
    if rng.random() < 0.5:
        away = canvas.reach * rng.uniform(0.6, 1.6)
        middle[0] -= away * np.cos(turned)
        middle[1] -= away * np.sin(turned)
        radius = away
    span = canvas.reach * rng.uniform(0.4, 1.3) / radius * rng.choice([-1, 1])
    return marks.arc((float(middle[0]), float(middle[1])), radius, turned - span / 2, span, rng)


def _vary(colour: Colour, rng: Random) -> Colour:
    """The same food, another pot: lighter or darker, a little more red or yellow."""
    light = np.exp(rng.normal(0, 0.22))
    red, green, blue = (
        float(np.clip(c * light * np.exp(rng.normal(0, 0.08)), 0.004, 0.9)) for c in colour
    )
    return red, green, blue

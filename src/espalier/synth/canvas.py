"""A photograph to paint on: its light, noise and sharpness are measured, and the paint obeys them.

All marks are laid in linear light on a copy of fixed size. What they changed, and nothing else, is
brought back to the photograph: outside the marks its pixels stay as they were.
"""

from __future__ import annotations

import cv2
import numpy as np

from espalier.data.images import Pixels
from espalier.data.synthetic import noise
from espalier.data.synthetic.noise import Plane
from espalier.synth.region import Region

Colour = tuple[float, float, float]
Random = np.random.Generator

# Marks of two pixels in a photograph of 256 are drawn three pixels wide, then averaged down.
_SIDE = 400
_GAMMA = 2.2
_NOISIEST = 8.0


class Canvas:
    """The working copy of one photograph.

    Attributes:
        base: The photograph in linear light [H, W, 3], 1 is white.
        paint: As ``base``, with everything laid so far.
        mask: Where paint holds [H, W], in [0, 1].
        depth: Pixels to the border of the object [H, W], 0 outside.
        reach: The largest ``depth``: half the width of the object, in pixels of the copy.
        light: What a white surface would send back at each place [H, W, 3].
        brightness: Median luminance of the object, linear, 1 is white.
        azimuth: Where the light seems to come from, as a unit vector (x, y) in the picture.
    """

    def __init__(self, pixels: Pixels, region: Region, rng: Random) -> None:
        self._pixels = pixels
        height, width = pixels.shape[:2]
        scale = _SIDE / min(height, width)
        self._size = round(width * scale), round(height * scale)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        work = cv2.resize(pixels, self._size, interpolation=how)
        self.base: Plane = (work.astype(np.float32) / 255) ** _GAMMA
        self.paint = self.base.copy()
        self.mask: Plane = cv2.resize(region.mask, self._size, interpolation=cv2.INTER_LINEAR)
        inside = (self.mask > 0.5).astype(np.uint8)
        self.depth: Plane = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
        self.reach = float(np.clip(self.depth.max(), 4, _SIDE / 2))
        self.shape = self.mask.shape
        self._cover = self.blank()
        self._measure(region.albedo, rng)

    def _measure(self, usual: float, rng: Random) -> None:
        bright = self.base @ np.array([0.2126, 0.7152, 0.0722], np.float32)
        weight = np.maximum(self.mask, 1e-4)
        soft = _blurred(bright * weight, self.reach / 5) / _blurred(weight, self.reach / 5)
        self.brightness = middle = float(np.median(bright[self.mask > 0.5]))
        # How bright a white thing would be here: pale objects tell, dark ones give a lower bound.
        level = float(np.clip(middle / usual, 0.42, 0.9))
        relative = np.clip((soft / max(middle, 0.02)) ** 0.7, 0.55, 1.4)
        self.light: Plane = (level * relative)[..., None] * self._cast(middle)
        self.azimuth = _uphill(soft, self.mask, rng)
        # Sheen lies on top of whatever is on the surface.
        self._sheen = np.clip(bright - 1.25 * soft - 0.08, 0, 1) * (bright > 0.55)
        self._noise = _noise_level(self._pixels)
        self._softness = _softness(self._pixels)

    def _cast(self, middle: float) -> Plane:
        """Colour of the light, as far as a pale object shows it [3], mean 1."""
        colour = np.median(self.base[self.mask > 0.5], axis=0) + 0.02
        tint = colour / colour.mean()
        return np.asarray(tint ** (0.5 * np.clip(middle / 0.5, 0, 1)), dtype=np.float32)

    def blank(self) -> Plane:
        """An empty sheet of the canvas's size [H, W]."""
        return np.zeros(self.shape, np.float32)

    def noise(self, tile: Plane, rng: Random, share: float = 0.42) -> Plane:
        """A patch of a noise tile over the whole canvas [H, W], mean about 0, deviation about 1."""
        height, width = self.shape
        patch = noise.patch(tile, max(height, width), rng, share)
        return patch[:height, :width]

    def somewhere(self, rng: Random, count: int, inset: float = 0.1) -> Plane:
        """Places on the object as (x, y) [count, 2], rather in its middle than at its border.

        Args:
            rng: Decides the places.
            count: How many.
            inset: Least distance to the border, as a share of ``reach``.
        """
        coarse = cv2.resize(self.depth, None, fx=0.125, fy=0.125, interpolation=cv2.INTER_AREA)
        odds = np.clip(coarse / self.reach - inset, 0, 0.5).astype(np.float64).ravel() ** 0.6
        if odds.sum() == 0:
            odds = coarse.astype(np.float64).ravel()
        chosen = rng.choice(odds.size, count, p=odds / odds.sum())
        y, x = np.divmod(chosen, coarse.shape[1])
        places: Plane = np.stack([x, y], axis=1) * 8.0 + rng.uniform(0, 8, (count, 2))
        return places.astype(np.float32)

    def lay(
        self,
        density: Plane,
        colour: Colour | Plane,
        *,
        body: float,
        relief: float = 0.0,
        wet: float = 0.0,
    ) -> None:
        """Lay a substance: it swallows light by its colour (Beer and Lambert) and scatters some.

        Args:
            density: How thick it lies [H, W]; 0 none, 1 a normal layer, more is thicker.
            colour: What a thick layer reflects, linear RGB in [0, 1]; of all, or [H, W, 3].
            body: Scattering, from 0 for a clear liquid to about 3 for something opaque.
            relief: How much its bumps catch the light.
            wet: Strength of the glints on it.
        """
        window = _window(density)
        if window is None:
            return
        thick = density[window] * self.mask[window]
        albedo = np.asarray(colour, np.float32) if isinstance(colour, tuple) else colour[window]
        albedo = np.maximum(albedo, np.float32(0.004))
        # What a thick layer sends back, a thin one lets pass; grey would come of 1 - albedo.
        passed = np.exp(thick[..., None] * (np.log(albedo) * np.float32(0.42)))
        cover = (1 - np.exp(-thick * body))[..., None]
        slope = self._slope(thick)
        lit = self.light[window] * albedo * np.clip(1 + relief * slope, 0.5, 1.5)[..., None]
        under = self.paint[window]
        laid = under * passed * (1 - cover) + lit * cover
        if wet > 0:
            glint = noise.smoothstep(0.5, 1.1, slope) * np.minimum(thick, 1) * np.float32(wet)
            laid += glint[..., None] * self.light[window]
        self.paint[window] = laid
        self._cover[window] = np.maximum(
            self._cover[window], np.maximum(cover[..., 0], 0.5 * thick)
        )

    def blend(self, colours: Plane, share: Plane) -> None:
        """Replace a share of what is there by other colours, both [H, W, 3] or [H, W, 1]."""
        self.paint += (colours - self.paint) * share

    def shade(self, height: Plane, strength: float, far: float) -> None:
        """Cast the shadow of what stands on the surface.

        Args:
            height: Where something stands [H, W], in [0, 1].
            strength: Share of the light it takes away.
            far: Length of the shadow in pixels of the canvas.
        """
        dx, dy = (-far * value for value in self.azimuth)
        move = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
        moved = cv2.warpAffine(height, move, (self.shape[1], self.shape[0]))
        dark = _blurred(moved, 0.5 * far + 0.6) * self.mask * np.float32(strength)
        self.paint *= 1 - np.clip(dark, 0, 0.9)[..., None]

    def _slope(self, thick: Plane) -> Plane:
        """How much each place of a layer is turned to the light, about [-1.5, 1.5]."""
        smooth = _blurred(thick, 1.2)
        across = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8)
        down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)
        slope: Plane = -(across * self.azimuth[0] + down * self.azimuth[1]) * 9
        return slope

    @property
    def changed(self) -> float:
        """Share of the object that looks different now: by more than 6 of 255 in some channel."""
        inside = self.mask > 0.5
        moved = np.abs(_display(self.paint[inside]) - _display(self.base[inside])) > 6 / 255
        return float((moved[:, 0] | moved[:, 1] | moved[:, 2]).mean())

    def finished(self, rng: Random) -> Pixels:
        """The photograph with the paint on it [H, W, 3], with its own sharpness and noise."""
        under = self._cover * (self._sheen > 0)
        painted = self.paint + (self._sheen * under)[..., None]
        change = (_display(painted) - _display(self.base)) * 255
        height, width = self._pixels.shape[:2]
        how = cv2.INTER_AREA if width < self._size[0] else cv2.INTER_LINEAR
        change = cv2.resize(change, (width, height), interpolation=how)
        cover = cv2.resize(self._cover, (width, height), interpolation=how)
        if self._softness > 0:
            change = _blurred(change, self._softness)
        grain = rng.standard_normal((height, width, 1), np.float32) * np.float32(self._noise)
        change = change + grain * np.clip(cover, 0, 1)[..., None]
        # JPEG shows a change of half a step nowhere: clean places keep their exact values.
        whole = self._pixels + np.where(np.abs(change) < 0.5, 0, change)
        return np.clip(np.rint(whole), 0, 255).astype(np.uint8)


def _window(density: Plane) -> tuple[slice, slice] | None:
    """The part of a sheet that holds anything, with room for its shading."""
    drawn = density > 0.004
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    if not len(rows):
        return None
    top, left = max(int(rows[0]) - 4, 0), max(int(columns[0]) - 4, 0)
    return slice(top, int(rows[-1]) + 5), slice(left, int(columns[-1]) + 5)


def _blurred(values: Plane, sigma: float) -> Plane:
    """A Gaussian; wide ones are taken on a smaller copy, which is as smooth and far faster."""
    if sigma <= 6:
        narrow: Plane = cv2.GaussianBlur(values, (0, 0), max(sigma, 0.2))
        return narrow
    small = cv2.resize(values, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 4)
    wide: Plane = cv2.resize(small, values.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return wide


def _uphill(soft: Plane, mask: Plane, rng: Random) -> tuple[float, float]:
    """Where the object gets brighter, as a unit vector; from above where it does not say."""
    rows, columns = np.nonzero(mask[::8, ::8] > 0.5)
    values = soft[::8, ::8][rows, columns]
    if len(values) > 20:
        table = np.stack([columns, rows, np.ones_like(rows)], axis=1).astype(np.float64)
        (dx, dy, _), *_ = np.linalg.lstsq(table, values.astype(np.float64), rcond=None)
        length = float(np.hypot(dx, dy))
        if length * np.ptp(rows) > 0.08 * float(values.mean()):
            return float(dx / length), float(dy / length)
    angle = rng.normal(-np.pi / 2, 0.6)
    return float(np.cos(angle)), float(np.sin(angle))


def _noise_level(pixels: Pixels) -> float:
    """Standard deviation of the sensor's noise, in steps of 255.

    From the quietest half of the picture, by a filter that ignores edges (Immerkaer 1996).
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    rough = np.abs(cv2.filter2D(grey, -1, kernel))[(grey > 4) & (grey < 250)]
    if rough.size == 0:
        return 0.0
    return float(np.clip(np.median(rough) / 0.6745 / 6, 0, _NOISIEST))


def _softness(pixels: Pixels) -> float:
    """Blur that a drawn edge needs to look like the photograph's sharpest ones, in its pixels.

    From how much the strongest edges lose when blurred again (Zhuo and Sim 2011).
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    again = 1.0
    first, second = (_gradient(plane) for plane in (grey, _blurred(grey, again)))
    strong = first > max(25.0, float(np.percentile(first, 97)))
    if strong.sum() < 20:
        return 0.4
    ratio = float(np.percentile(first[strong] / np.maximum(second[strong], 1e-3), 75))
    sigma = again / np.sqrt(max(ratio * ratio - 1, 0.05))
    # Averaging down has blurred the paint by about half a pixel already.
    return float(np.sqrt(np.clip(sigma * sigma - 0.3, 0, 4)))


def _gradient(grey: Plane) -> Plane:
    across = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=0.25)
    length: Plane = cv2.magnitude(across, cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=0.25))
    return length


def _display(linear: Plane) -> Plane:
    shown: Plane = np.clip(linear, 0, 1) ** (1 / _GAMMA)
    return shown

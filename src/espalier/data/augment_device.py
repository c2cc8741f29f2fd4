"""Training views of a whole batch at once, on the device that trains.

What is random is drawn by the transform of the threads, from the same generators; only the
arithmetic differs. Pixels stay floating point until the end, where the threads round after every
step: on photographs the views differ by less than one step of 255 on average. The grain of noise is
the device's own: as strong, and as reproducible, but not the same pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from espalier.data.augment_colour import LUMA, Look, blur_radius, shadow_light
from espalier.data.augment_geometry import View, matrix_to_view, shrunk_size, whole_pixels
from espalier.data.resample import GREY, SPARE_PIXELS, Image
from espalier.data.transforms import Drawn, TrainTransform

_HALF_PIXEL = 0.5
_WHITE = 255.0
# Long side to short side up to which pictures are padded together: beside one panorama of 20 : 1 a
# whole batch would take 20 times its memory.
_LONGEST = 3.0


class Pictures(NamedTuple):
    """Pictures of different sizes in one tensor.

    Attributes:
        pixels: uint8 [B, 3, H, W], each picture in its top left corner; the rest is never seen.
        sizes: Width and height of each picture, int64 [B, 2], on the host.
    """

    pixels: torch.Tensor
    sizes: npt.NDArray[np.int64]


def pad_together(images: Sequence[Image]) -> Pictures:
    """Pictures [H, W, 3] of any sizes as one batch on the host."""
    sizes = np.array([(image.shape[1], image.shape[0]) for image in images], dtype=np.int64)
    width, height = sizes.max(axis=0)
    pixels = np.zeros((len(images), height, width, 3), dtype=np.uint8)
    for row, image in zip(pixels, images, strict=True):
        row[: image.shape[0], : image.shape[1]] = image
    return Pictures(torch.from_numpy(pixels).permute(0, 3, 1, 2), sizes)


def _is_strip(image: Image) -> bool:
    short, long = sorted(image.shape[:2])
    return bool(long > _LONGEST * short)


class DeviceAugment:
    """The views that a training transform draws, rendered on a device.

    Args:
        transform: Draws the views, and says their size and fit.
        device: Where they are rendered; any that torch knows.
    """

    def __init__(self, transform: TrainTransform, device: torch.device) -> None:
        self.transform = transform
        self.device = device

    def __call__(self, pictures: Pictures, rngs: Sequence[np.random.Generator]) -> torch.Tensor:
        """Views uint8 [B, 3, imgsz, imgsz], channels last in memory, on the device.

        Args:
            pictures: On any device; moved if they are elsewhere.
            rngs: One generator per picture, as the transform would be given.
        """
        drawn = [
            self.transform.draw(int(width), int(height), rng)
            for (width, height), rng in zip(pictures.sizes, rngs, strict=True)
        ]
        return self.render(pictures, drawn)

    def views(self, images: Sequence[Image], drawn: Sequence[Drawn]) -> torch.Tensor:
        """The views of pictures [H, W, 3] of any sizes, of choices made before."""
        odd = [i for i, image in enumerate(images) if _is_strip(image)]
        if not odd:
            return self.render(pad_together(images), drawn)
        side = self.transform.imgsz
        shape, layout = (len(images), 3, side, side), torch.channels_last
        seen = torch.empty(shape, dtype=torch.uint8, device=self.device, memory_format=layout)
        usual = [i for i in range(len(images)) if i not in odd]
        for group in (*([usual] if usual else []), *([i] for i in odd)):
            pictures = pad_together([images[i] for i in group])
            seen[group] = self.render(pictures, [drawn[i] for i in group])
        return seen

    def render(self, pictures: Pictures, drawn: Sequence[Drawn]) -> torch.Tensor:
        """The views of choices made before, for example in a thread while the device trains."""
        # Resampling is written as matrix products, which autocast would round to 8 bits.
        with torch.autocast(self.device.type, enabled=False):
            pixels = pictures.pixels.to(self.device, non_blocking=True).float()
            sizes = pictures.sizes
            if self.transform.fit == "pad":
                pixels, sizes = self._letterbox(pixels, sizes)
            seen = _render(pixels, sizes, [one.view for one in drawn], self.transform.imgsz)
            seen = self._auto(seen, drawn)
            seen = _retouch(seen, [one.look for one in drawn])
        return _bytes(seen).contiguous(memory_format=torch.channels_last)

    def _letterbox(
        self, pixels: torch.Tensor, sizes: npt.NDArray[np.int64]
    ) -> tuple[torch.Tensor, npt.NDArray[np.int64]]:
        """Each picture between grey bars, as a square."""
        plans = [self.transform.bars(int(width), int(height)) for width, height in sizes]
        across, down = [], []
        for plan, (width, height) in zip(plans, sizes, strict=True):
            across.append((plan.left, plan.width, 0, width))
            down.append((plan.top, plan.height, 0, height))
        columns, rows = _Axis.of(across, pixels.device), _Axis.of(down, pixels.device)
        largest = max(plan.side for plan in plans)
        # Bars have no weight, so they come out as zero: that is made to mean grey.
        boxed = _resample(pixels - GREY, columns, rows, (largest, largest)) + GREY
        return boxed, np.array([(plan.side, plan.side) for plan in plans], dtype=np.int64)

    def _auto(self, seen: torch.Tensor, drawn: Sequence[Drawn]) -> torch.Tensor:
        """Torchvision's automatic augmentations, which take one image at a time."""
        chosen = [index for index, one in enumerate(drawn) if one.auto]
        if not chosen:
            return seen
        whole = _bytes(seen)
        for index in chosen:
            whole[index] = self.transform.auto.on_tensor(whole[index], drawn[index].auto)
        return whole.float()


@dataclass(frozen=True, slots=True)
class _Axis:
    """How one side of each picture is resampled; every tensor is [B, 1].

    Attributes:
        first: Place of the first pixel that is made; those before it get nothing.
        count: Pixels that are made.
        start: Where the part that they are made of begins in the picture.
        length: How long that part is.
        mirrored: Whether they are laid down in reverse.
        spare: Times that a side may shrink without being averaged.
    """

    first: torch.Tensor
    count: torch.Tensor
    start: torch.Tensor
    length: torch.Tensor
    mirrored: torch.Tensor
    spare: float

    @classmethod
    def of(
        cls,
        places: Sequence[tuple[float, float, float, float]],
        device: torch.device,
        mirrored: Sequence[bool] | None = None,
        spare: float = 1.0,
    ) -> _Axis:
        """From (first, count, start, length) of each picture."""
        table = torch.tensor(np.array(places, dtype=np.float32), device=device)
        first, count, start, length = (table[:, i : i + 1] for i in range(4))
        flips = torch.tensor(mirrored or [False] * len(places), device=device)
        return cls(first, count, start, length, flips[:, None], spare)

    def weights(self, made: int, size: int) -> torch.Tensor:
        """Share of each of ``size`` pixels in each of ``made`` ones [B, made, size].

        By the area covered where the side shrinks by more than ``spare``, else linear.
        """
        place = torch.arange(made, device=self.first.device) - self.first
        inside = (place >= 0) & (place < self.count)
        place = torch.where(self.mirrored, self.count - 1 - place, place)
        step = self.length / self.count
        low = (self.start + place * step)[..., None]
        high = low + step[..., None]
        pixel = torch.arange(size, device=low.device, dtype=low.dtype)
        covered = torch.minimum(high, pixel + 1) - torch.maximum(low, pixel)
        first, last = self.start + _HALF_PIXEL, self.start + self.length - _HALF_PIXEL
        centre = torch.clamp((low + high) / 2, first[..., None], last[..., None])
        near = 1.0 - (centre - (pixel + _HALF_PIXEL)).abs()
        averaged = (step > self.spare)[..., None]
        weights = torch.where(averaged, covered / step[..., None], near).clamp(min=0.0)
        return weights * inside[..., None]


def _resample(
    pixels: torch.Tensor, columns: _Axis, rows: _Axis, size: tuple[int, int]
) -> torch.Tensor:
    """Pixels [B, 3, H, W] at another size (width, height), one side after the other."""
    across = columns.weights(size[0], pixels.shape[3])[:, None]
    down = rows.weights(size[1], pixels.shape[2])[:, None]
    return down @ pixels @ across.transpose(2, 3)


def _render(
    pixels: torch.Tensor, sizes: npt.NDArray[np.int64], views: Sequence[View], imgsz: int
) -> torch.Tensor:
    """Views [B, 3, S, S]: those that are neither turned nor bent need no warp."""
    upright = [i for i, view in enumerate(views) if view.turned is None and view.columns is None]
    warped = [i for i in range(len(views)) if i not in set(upright)]
    seen = pixels.new_empty((len(views), 3, imgsz, imgsz))
    if upright:
        seen[upright] = _upright(pixels[upright], [views[i] for i in upright], imgsz)
    if warped:
        seen[warped] = _warped(pixels[warped], sizes[warped], [views[i] for i in warped], imgsz)
    return seen


def _upright(pixels: torch.Tensor, views: Sequence[View], imgsz: int) -> torch.Tensor:
    boxes = [whole_pixels(view.box) for view in views]
    device = pixels.device
    columns = _Axis.of(
        [(0, imgsz, x, width) for x, _, width, _ in boxes],
        device,
        [view.mirrored for view in views],
        SPARE_PIXELS,
    )
    rows = _Axis.of(
        [(0, imgsz, y, height) for _, y, _, height in boxes],
        device,
        [view.upside_down for view in views],
        SPARE_PIXELS,
    )
    return _resample(pixels, columns, rows, (imgsz, imgsz))


def _warped(
    pixels: torch.Tensor, sizes: npt.NDArray[np.int64], views: Sequence[View], imgsz: int
) -> torch.Tensor:
    """Average down where a warp would skip pixels, then look every view pixel up."""
    pairs = [(int(width), int(height)) for width, height in sizes]
    small = [shrunk_size(*pair, view, imgsz) for pair, view in zip(pairs, views, strict=True)]
    matrices = [matrix_to_view(*pair, view, imgsz) for pair, view in zip(pairs, views, strict=True)]
    if small != pairs:
        columns, rows = (
            _Axis.of(
                [(0, new[side], 0, old[side]) for new, old in zip(small, pairs, strict=True)],
                pixels.device,
            )
            for side in (0, 1)
        )
        size = (max(new[0] for new in small), max(new[1] for new in small))
        pixels = _resample(pixels, columns, rows, size)
    back = torch.tensor(np.linalg.inv(np.stack(matrices)), device=pixels.device).float()
    place = _looked_up(back, views, imgsz)
    last = torch.tensor(np.array(small, dtype=np.float32) - 1, device=pixels.device)
    x = _mirrored_index(place[:, 0] / place[:, 2] - _HALF_PIXEL, last[:, 0, None, None])
    y = _mirrored_index(place[:, 1] / place[:, 2] - _HALF_PIXEL, last[:, 1, None, None])
    height, width = pixels.shape[2:]
    grid = torch.stack((x * (2 / max(1, width - 1)), y * (2 / max(1, height - 1))), dim=3) - 1
    return functional.grid_sample(
        pixels, grid, mode="bilinear", padding_mode="border", align_corners=True
    )


def _looked_up(back: torch.Tensor, views: Sequence[View], imgsz: int) -> torch.Tensor:
    """Homogeneous places in the pictures of all view pixels [B, 3, S, S]; ``back`` [B, 3, 3]."""
    straight = np.arange(imgsz) + _HALF_PIXEL
    columns, rows = (
        torch.tensor(np.stack(places), device=back.device).float()
        for places in (
            [straight if view.columns is None else view.columns for view in views],
            [straight if view.rows is None else view.rows for view in views],
        )
    )
    across = back[:, :, 0, None] * columns[:, None]
    down = back[:, :, 1, None] * rows[:, None] + back[:, :, 2, None]
    place = across[:, :, None, :] + down[:, :, :, None]
    pushed = {i: view.pushed for i, view in enumerate(views) if view.pushed is not None}
    if pushed:
        chosen = list(pushed)
        push = torch.tensor(np.stack(list(pushed.values())), device=back.device).float()
        place[chosen] += torch.einsum("bij,bjhw->bihw", back[chosen, :, :2], push)
    return place


def _mirrored_index(position: torch.Tensor, last: torch.Tensor | int) -> torch.Tensor:
    """Fold positions back into 0 to ``last``, as OpenCV's BORDER_REFLECT_101 does."""
    period = 2 * torch.as_tensor(last, device=position.device).clamp(min=1)
    folded = (torch.remainder(position + last, period) - last).abs()
    return torch.minimum(folded, torch.as_tensor(last, device=position.device))


def _retouch(seen: torch.Tensor, looks: Sequence[Look]) -> torch.Tensor:
    """Colour, shadow, blur, noise and holes of those views [B, 3, S, S] that have them."""
    for touch, happens in (
        (_recolour, [look.colour is not None for look in looks]),
        (_shade, [look.shadow is not None for look in looks]),
        (_blur, [look.sigma is not None for look in looks]),
        (_add_noise, [look.noise is not None for look in looks]),
        (_cover, [bool(look.holes) for look in looks]),
    ):
        chosen = [index for index, yes in enumerate(happens) if yes]
        if chosen:
            seen[chosen] = touch(seen[chosen], [looks[index] for index in chosen])
    return seen


def _recolour(seen: torch.Tensor, looks: Sequence[Look]) -> torch.Tensor:
    table = np.stack([look.colour for look in looks if look.colour is not None])
    colour = torch.tensor(table, device=seen.device).float()
    luma = torch.tensor(LUMA, device=seen.device).float()
    mean = torch.einsum("c,bchw->b", luma, seen) / (seen.shape[2] * seen.shape[3])
    offset = (colour[:, :, 3] * mean[:, None])[:, :, None, None]
    mixed = torch.einsum("bij,bjhw->bihw", colour[:, :, :3], seen)
    return (mixed + offset).clamp(0.0, _WHITE)


def _shade(seen: torch.Tensor, looks: Sequence[Look]) -> torch.Tensor:
    side = seen.shape[2]
    lights = [shadow_light(look.shadow, side) for look in looks if look.shadow is not None]
    return seen * (torch.tensor(np.stack(lights), device=seen.device)[:, None] / _WHITE)


def _blur(seen: torch.Tensor, looks: Sequence[Look]) -> torch.Tensor:
    """Each view with its own sigma: a depthwise convolution, one side after the other."""
    sigmas = [look.sigma for look in looks if look.sigma is not None]
    radius = max(blur_radius(sigma) for sigma in sigmas)
    away = np.abs(np.arange(-radius, radius + 1))
    kernels = [np.exp(-0.5 * (away / s) ** 2) * (away <= blur_radius(s)) for s in sigmas]
    table = np.repeat(np.stack([kernel / kernel.sum() for kernel in kernels]), 3, axis=0)
    weights = torch.tensor(table, device=seen.device).float()[:, None]
    count, channels, side, _ = seen.shape
    place = torch.arange(-radius, side + radius, device=seen.device)
    around = _mirrored_index(place, side - 1)
    flat = seen[:, :, around][:, :, :, around].reshape(1, count * channels, *2 * [len(around)])
    flat = functional.conv2d(flat, weights[:, :, :, None], groups=count * channels)
    flat = functional.conv2d(flat, weights[:, :, None, :], groups=count * channels)
    return flat.reshape(seen.shape)


def _add_noise(seen: torch.Tensor, looks: Sequence[Look]) -> torch.Tensor:
    generator = torch.Generator(seen.device)
    noisy = torch.empty_like(seen)
    for row, image, look in zip(noisy, seen, looks, strict=True):
        if look.noise is not None:
            generator.manual_seed(look.noise.seed)
            row.normal_(0.0, look.noise.deviation, generator=generator).add_(image)
    return noisy.clamp_(0.0, _WHITE)


def _cover(seen: torch.Tensor, looks: Sequence[Look]) -> torch.Tensor:
    """Grey wherever a row and a column of the same hole meet."""
    most = max(len(look.holes) for look in looks)
    table = np.zeros((len(looks), most, 4), dtype=np.float32)
    for row, look in zip(table, looks, strict=True):
        row[: len(look.holes)] = look.holes
    holes = torch.tensor(table, device=seen.device)[..., None]
    pixel = torch.arange(seen.shape[2], device=seen.device)
    x, y, width, height = holes.unbind(dim=2)
    columns = (pixel >= x) & (pixel < x + width)
    rows = (pixel >= y) & (pixel < y + height)
    covered = rows.float().transpose(1, 2) @ columns.float() > 0
    return seen.masked_fill(covered[:, None], GREY)


def _bytes(seen: torch.Tensor) -> torch.Tensor:
    return seen.round().clamp(0.0, _WHITE).to(torch.uint8)

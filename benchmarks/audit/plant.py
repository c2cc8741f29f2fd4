"""Problems planted among photographs: every one known by file, all drawn from one seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Rng = np.random.Generator
Kind = Literal["exact", "near", "broken", "odd"]

# Of the photographs. Leaks and conflicts are half equal bytes, half changed a little.
EXACT, NEAR, LEAKED, CONFLICTING, BROKEN, ODD = 0.01, 0.02, 0.01, 0.005, 0.005, 0.002
SUFFIXES = (".jpg", ".jpeg", ".png")
QUALITY = 90
# Mean grey level of a picture that is far too dark, and from white of one far too bright.
LEFT = 0.05 * 255


@dataclass(frozen=True)
class Planted:
    """One problem.

    Attributes:
        kind: A copy of equal bytes, one changed a little, a broken file, or an odd picture.
        how: What was done, such as ``crop`` or ``truncated``.
        path: The file, relative to the photographs.
        source: The file that it is a copy of; its own path where it is none.
    """

    kind: Kind
    how: str
    path: str
    source: str


@dataclass(frozen=True)
class Labelled:
    """One photograph of a manifest: where it is, and what it is said to be."""

    path: str
    label: str
    split: str


def photographs(folder: Path) -> list[str]:
    """All pictures of a folder of ``split/class/file``, relative to it, in a fixed order."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(path.relative_to(folder).as_posix() for path in found)


def plant_all(folder: Path, seed: int) -> list[Planted]:
    """Plant every kind of problem in a folder of copies; no photograph serves twice."""
    rng = np.random.default_rng(seed)
    names = photographs(folder)
    order = iter([names[i] for i in rng.permutation(len(names))])
    return [
        *plant_copies(folder, order, len(names), rng),
        *plant_broken(folder, order, counted(BROKEN, len(names)), rng),
        *plant_odd(folder, order, counted(ODD, len(names)), rng),
    ]


def counted(share: float, of: int) -> int:
    """At least one of each."""
    return max(1, round(share * of))


# ---- copies


def plant_copies(folder: Path, order: Iterator[str], count: int, rng: Rng) -> list[Planted]:
    """Copies in the same part, in another part, and under another label."""
    splits, classes = parts_of(folder)
    made = []
    jobs = [
        *(("exact", "same") for _ in range(counted(EXACT, count))),
        *(("near", "same") for _ in range(counted(NEAR, count))),
        *either(counted(LEAKED, count), "split"),
        *either(counted(CONFLICTING, count), "label"),
    ]
    changes = list(CHANGES)
    near = 0
    for kind, where in jobs:
        source = next(order)
        split, label, _ = source.split("/")
        if where == "split":
            split = str(rng.choice([other for other in splits if other != split]))
        if where == "label":
            label = str(rng.choice([other for other in classes if other != label]))
        how = "equal bytes" if kind == "exact" else changes[near % len(changes)]
        near += kind == "near"
        made.append(copy_one(folder, source, f"{split}/{label}", how, rng))
    return made


def either(count: int, where: str) -> list[tuple[str, str]]:
    return [("near" if number % 2 else "exact", where) for number in range(count)]


def parts_of(folder: Path) -> tuple[list[str], list[str]]:
    """Splits and classes of a folder."""
    names = [name.split("/") for name in photographs(folder)]
    return sorted({name[0] for name in names}), sorted({name[1] for name in names})


def copy_one(folder: Path, source: str, place: str, how: str, rng: Rng) -> Planted:
    """One copy of a photograph under a name that tells nothing."""
    suffix = Path(source).suffix if how == "equal bytes" else ".jpg"
    path = f"{place}/{rng.bytes(6).hex()}{suffix}"
    if how == "equal bytes":
        (folder / path).write_bytes((folder / source).read_bytes())
        return Planted("exact", how, path, source)
    pixels, quality = CHANGES[how](read(folder / source), rng)
    write(folder / path, pixels, quality)
    return Planted("near", how, path, source)


def cropped(pixels: Pixels, rng: Rng) -> tuple[Pixels, int]:
    """Between 55 and 90 % of the area, anywhere."""
    height, width = pixels.shape[:2]
    side = np.sqrt(rng.uniform(0.55, 0.9))
    tall, wide = round(side * height), round(side * width)
    top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
    return pixels[top : top + tall, left : left + wide], QUALITY


def flipped(pixels: Pixels, rng: Rng) -> tuple[Pixels, int]:
    """Mirrored, or upside down."""
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels[::-1], QUALITY


def compressed(pixels: Pixels, rng: Rng) -> tuple[Pixels, int]:
    """JPEG of quality 20 to 60."""
    return pixels, int(rng.integers(20, 61))


def relit(pixels: Pixels, rng: Rng) -> tuple[Pixels, int]:
    """Darker or brighter, with less or more contrast."""
    gain = rng.uniform(0.6, 0.85) if rng.random() < 0.5 else rng.uniform(1.15, 1.5)
    changed = gain * pixels.astype(np.float32) + rng.uniform(-15, 15)
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8), QUALITY


def resized(pixels: Pixels, rng: Rng) -> tuple[Pixels, int]:
    """Half to nine tenths of the size."""
    share = rng.uniform(0.5, 0.9)
    small = cv2.resize(pixels, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8), QUALITY


def combined(pixels: Pixels, rng: Rng) -> tuple[Pixels, int]:
    """Cropped, mirrored, relit and compressed, one on the other."""
    for change in (cropped, flipped, relit):
        pixels, _ = change(pixels, rng)
    return compressed(pixels, rng)


CHANGES: dict[str, Callable[[Pixels, Rng], tuple[Pixels, int]]] = {
    "crop": cropped,
    "flip": flipped,
    "JPEG": compressed,
    "brightness": relit,
    "size": resized,
    "all together": combined,
}


# ---- broken and odd files


def plant_broken(folder: Path, order: Iterator[str], count: int, rng: Rng) -> list[Planted]:
    """Files that lost their end, hold nothing, or hold text."""
    made = []
    for number in range(count):
        path = next(order)
        file = folder / path
        how = ("truncated", "zero bytes", "text")[number % 3]
        if how == "truncated":
            data = file.read_bytes()
            file.write_bytes(data[: int(len(data) * rng.uniform(0.2, 0.8))])
        else:
            file.write_bytes(b"" if how == "zero bytes" else b"Not Found\n" * (1 + number))
        made.append(Planted("broken", how, path, path))
    return made


def plant_odd(folder: Path, order: Iterator[str], each: int, rng: Rng) -> list[Planted]:
    """Pictures changed in their place, so that one rule or another should speak of them."""
    made = []
    for number in range(each):
        for how, change in ODDITIES.items():
            path = next(order)
            change(folder / path, number, rng)
            made.append(Planted("odd", how, path, path))
    return made


def save_as_png(file: Path, number: int, rng: Rng) -> None:
    _, data = cv2.imencode(".png", read(file))
    file.write_bytes(data.tobytes())


def make_constant(file: Path, number: int, rng: Rng) -> None:
    tone = np.full_like(read(file), 20 + 9 * number % 200)
    write(file, tone, QUALITY)


def make_small(file: Path, number: int, rng: Rng) -> None:
    pixels = read(file)
    share = 0.15
    small = cv2.resize(pixels, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    write(file, np.asarray(small, dtype=np.uint8), QUALITY)


def make_strip(file: Path, number: int, rng: Rng) -> None:
    pixels = read(file)
    tall = max(1, pixels.shape[1] // 6)
    top = int(rng.integers(0, pixels.shape[0] - tall + 1))
    write(file, pixels[top : top + tall], QUALITY)


def make_dark(file: Path, number: int, rng: Rng) -> None:
    pixels = read(file)
    write(file, np.rint(LEFT / pixels.mean() * pixels).clip(0, 255).astype(np.uint8), QUALITY)


def make_bright(file: Path, number: int, rng: Rng) -> None:
    dark = 255 - read(file)
    write(file, 255 - np.rint(LEFT / dark.mean() * dark).clip(0, 255).astype(np.uint8), QUALITY)


def make_blurred(file: Path, number: int, rng: Rng) -> None:
    pixels = read(file)
    width = 0.05 * min(pixels.shape[:2])
    write(file, np.asarray(cv2.GaussianBlur(pixels, (0, 0), width), dtype=np.uint8), QUALITY)


def make_gray(file: Path, number: int, rng: Rng) -> None:
    gray = cv2.cvtColor(read(file), cv2.COLOR_BGR2GRAY)
    write(file, np.repeat(gray[:, :, None], 3, axis=2), QUALITY)


def turn_by_exif(file: Path, number: int, rng: Rng) -> None:
    from PIL import Image

    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = (6, 8, 3)[number % 3]
    picture.save(file, "JPEG", quality=QUALITY, exif=exif)


ODDITIES: dict[str, Callable[[Path, int, Rng], None]] = {
    "wrong_extension": save_as_png,
    "constant_images": make_constant,
    "too_small": make_small,
    "extreme_aspect": make_strip,
    "odd_exposure, dark": make_dark,
    "odd_exposure, bright": make_bright,
    "blurred": make_blurred,
    "gray_among_colour": make_gray,
    "rotated_by_exif": turn_by_exif,
}
"""By the rule that should speak of it."""


def read(file: Path) -> Pixels:
    """Pixels [H, W, 3], as OpenCV orders them."""
    found = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if found is None:
        raise ValueError(f"{file} cannot be decoded, so nothing can be planted from it")
    return np.asarray(found, dtype=np.uint8)


def write(file: Path, pixels: Pixels, quality: int) -> None:
    """A JPEG file, whatever its name says."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels), options)
    file.write_bytes(data.tobytes())


# ---- labels


def mislabelled(
    rows: Sequence[Labelled], share: float, how: Literal["random", "by class"], seed: int
) -> list[Labelled]:
    """The same photographs, a share of them with a wrong label.

    Args:
        rows: With their right labels.
        share: Of all photographs.
        how: ``random``: any photograph, any other class. ``by class``: each class is taken for one
            other class only, some classes three times as often as others, and one never.
        seed: Same seed, same mistakes.
    """
    rng = np.random.default_rng(seed)
    classes = sorted({row.label for row in rows})
    turned = dict(zip(classes, np.roll(classes, -1).tolist(), strict=True))
    wrong = drawn_wrong(rows, classes, share, how, rng)
    found = []
    for index, row in enumerate(rows):
        label = row.label
        if index in wrong and how == "by class":
            label = turned[label]
        elif index in wrong:
            label = str(rng.choice([other for other in classes if other != label]))
        found.append(Labelled(row.path, label, row.split))
    return found


def drawn_wrong(
    rows: Sequence[Labelled], classes: Sequence[str], share: float, how: str, rng: Rng
) -> set[int]:
    """Which rows get a wrong label: exactly the share of all, rounded."""
    odds = np.ones(len(rows))
    if how == "by class":
        strength = {name: number % 4 for number, name in enumerate(classes)}
        odds = np.array([strength[row.label] for row in rows], dtype=np.float64)
    drawn = rng.choice(len(rows), round(share * len(rows)), replace=False, p=odds / odds.sum())
    return set(drawn.tolist())

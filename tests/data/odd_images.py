"""Writes image files as people have them: every mode, orientation and kind of damage."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def picture(width: int = 48, height: int = 32, *, seed: int = 0) -> Image.Image:
    """A smooth RGB picture whose four corners differ, so that every turn of it shows."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR)


def noise(width: int, height: int, *, seed: int = 0) -> Image.Image:
    """A picture that compresses badly, so that its file is long enough to be cut."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def jpeg(image: Image.Image, **options: object) -> bytes:
    """The bytes of a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def oriented(image: Image.Image, orientation: int, form: str) -> bytes:
    """The bytes of a file whose EXIF block asks for a turn."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    lossless = {"lossless": True} if form == "WEBP" else {}
    image.save(buffer, form, exif=exif, **lossless)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG file that promises pixels it does not have: a decompression bomb."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


def write_photos(
    folder: Path, counts: Mapping[str, int], *, seed: int = 0, prefix: str = "photo"
) -> Path:
    """Small PNG photographs, all different, in one folder per class."""
    number = seed * 100_000
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            number += 1
            noise(6, 5, seed=number).save(folder / name / f"{prefix}{index:03}.png")
    return folder


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every entry below a folder with size and time of change, to see that nothing was touched."""
    found = {}
    for here, folders, files in os.walk(folder):
        for name in (*folders, *files):
            state = os.lstat(os.path.join(here, name))
            found[os.path.join(here, name)] = (state.st_size, state.st_mtime_ns)
    return found

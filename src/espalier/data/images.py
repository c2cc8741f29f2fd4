"""One image file as people have them, read to RGB pixels; or the reason why it cannot be."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from espalier.data import torchvision_sets
from espalier.errors import UnreadableImageError

Pixels = npt.NDArray[np.uint8]

# HEIC is listed although Pillow alone cannot read it: phones write it, and a file that is left
# out must be counted and explained, not overlooked.
IMAGE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
        *(".webp", ".avif", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".heic", ".heif"),
    )
)
MAX_PIXELS = 178_956_970
"""Largest picture that is decoded, in pixels: twice Pillow's warning level, where it refuses."""

# A closed list: the suffix is not trusted, and some of Pillow's formats start other programs.
_FORMATS = (
    *("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "PPM", "JPEG2000"),
    *("HEIF",),
)
_CHECK_SIDE = 64
# Shrinking 640 x 480 by whole steps takes 0.07 ms and blurs nothing; to any other size 2 ms, half
# as long as decoding. So a picture may stay this much larger where whole steps lead there.
_SLACK = 1.3
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Inspection(NamedTuple):
    """What one look at a file tells.

    Attributes:
        content: First 16 hex digits of the SHA-256 of the file's bytes.
        width: Pixels across after EXIF orientation; 0 when unreadable.
        height: Pixels down after EXIF orientation; 0 when unreadable.
        reason: Why it is unreadable; empty when it is readable.
    """

    content: str
    width: int
    height: int
    reason: str = ""


class Picture(NamedTuple):
    """One photograph, decoded.

    Attributes:
        content: As in ``Inspection``.
        pixels: RGB [H, W, 3], turned upright; shared, so not to be written to.
        width: Pixels across of the whole picture, after EXIF orientation.
        height: Pixels down of the whole picture, after EXIF orientation.
    """

    content: str
    pixels: Pixels
    width: int
    height: int


def read_image(path: str, *, at_least: int | None = None) -> Pixels:
    """The whole picture as RGB, turned upright; transparency lies on white.

    Args:
        path: A file, or ``torchvision:NAME/part/index``.
        at_least: Where given, a JPEG may come smaller by 2, 4 or 8, as long as its short side
            keeps at least so many pixels; this is several times faster for large photographs.

    Returns:
        Writable pixels [H, W, 3] in C order.

    Raises:
        UnreadableImageError: The file is missing, empty, damaged, too large or no picture.
    """
    if torchvision_sets.is_address(path):
        return _pixels(to_rgb(torchvision_sets.open_image(path)))
    return _pixels(_decode(read_bytes(path), at_least)[0])


def read_picture(path: str, *, at_least: int) -> Picture:
    """As ``read_image``, with the hash of what was read and the size of the whole picture.

    Raises:
        UnreadableImageError: As in ``read_image``.
    """
    if torchvision_sets.is_address(path):
        return _read_member(path)
    data = read_bytes(path)
    return decode_picture(data, content_hash(data), at_least=at_least)


def decode_picture(data: bytes, content: str, *, at_least: int) -> Picture:
    """A picture from the bytes of its file, whose hash is known.

    Raises:
        UnreadableImageError: They are damaged, too large or no picture.
    """
    image, (width, height) = _decode(data, at_least)
    return Picture(content, np.asarray(image, dtype=np.uint8), width, height)


def reduced(pixels: Pixels, side: int) -> Pixels:
    """Pixels [H, W, 3] averaged down until the short side is ``side``, or little more.

    By a whole number of pixels to one where that ends below 1.3 x ``side``: it is 20 times faster
    and sharper. Nothing is ever enlarged. The same pixels and side always give the same result.
    """
    height, width = pixels.shape[:2]
    short = min(height, width)
    steps = max(1, short // side)
    if short // steps > _SLACK * side:
        size = _scaled(width, side, short), _scaled(height, side, short)
    elif steps == 1:
        return pixels
    else:
        size = width // steps, height // steps
        pixels = pixels[: size[1] * steps, : size[0] * steps]
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def largest_reduced(width: int, height: int, side: int) -> int:
    """Bytes that the reduced pixels of a picture take at most, whatever its format."""
    short = min(width, height)
    share = min(1.0, _SLACK * side / short)
    return 3 * math.ceil(width * share) * math.ceil(height * share)


def image_size(path: str) -> tuple[int, int] | None:
    """Width and height from the head of a file, not turned; None where it has no readable head."""
    try:
        with _silent_pillow(), Image.open(path, formats=_known_formats()) as image:
            return image.size
    except Exception:
        # Whatever stops the head from being read is reported when the whole file is looked at.
        return None


def _scaled(length: int, side: int, short: int) -> int:
    return max(1, round(length * side / short))


def inspect_image(path: str) -> Inspection:
    """Hash a file and decode it once, whole, at the smallest scale its format allows."""
    data = b""
    try:
        if torchvision_sets.is_address(path):
            member = _read_member(path)
            return Inspection(member.content, member.width, member.height)
        data = read_bytes(path)
        _, (width, height) = _decode(data, _CHECK_SIDE)
    except UnreadableImageError as error:
        return Inspection(content_hash(data), 0, 0, error.message)
    return Inspection(content_hash(data), width, height)


def read_bytes(path: str) -> bytes:
    """All bytes of a file.

    Raises:
        UnreadableImageError: It is missing, empty or may not be read.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"cannot be opened: {error.strerror or error}") from error
    if not data:
        raise UnreadableImageError("empty file (0 bytes)")
    return data


def read_header(data: bytes) -> tuple[str, int]:
    """Format as Pillow names it, and EXIF orientation 1 to 8, of a file's bytes.

    Raises:
        UnreadableImageError: The picture is too large.
    """
    with _silent_pillow(), _open(data) as image:
        return image.format or "", _orientation(image)


def content_hash(data: bytes) -> str:
    """First 16 hex digits of the SHA-256: what a photograph is known by."""
    return hashlib.sha256(data).hexdigest()[:16]


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in mode RGB: wide values scaled to 8 bits, transparency laid on white."""
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_eight_bits(np.asarray(image), image.mode, image.format))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _pixels(image: Image.Image) -> Pixels:
    return np.array(image, dtype=np.uint8)


def _read_member(address: str) -> Picture:
    # These sets hold decoded pixels, so the pixels are their bytes.
    pixels = _pixels(to_rgb(torchvision_sets.open_image(address)))
    height, width = pixels.shape[:2]
    content = content_hash(f"{width}x{height}:".encode() + pixels.tobytes())
    return Picture(content, pixels, width, height)


def _decode(data: bytes, at_least: int | None) -> tuple[Image.Image, tuple[int, int]]:
    """The upright RGB picture, and its full size (width, height) before any draft scaling."""
    try:
        with _silent_pillow(), _open(data) as image:
            full = image.size
            if at_least is not None:
                image.draft(None, (at_least, at_least))
            image.load()
            turn = _orientation(image)
            rgb = to_rgb(image)
    except UnreadableImageError:
        raise
    except Exception as error:
        # Decoders raise whatever a damaged file makes them stumble over; all mean the same.
        raise UnreadableImageError(_reason(data, error)) from error
    if turn in _TURNS:
        rgb = rgb.transpose(_TURNS[turn])
    return rgb, (full[1], full[0]) if turn >= 5 else full


def _open(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=_known_formats())
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImageError(_too_large(f"{image.width:,} x {image.height:,}"))
    return image


def _known_formats() -> list[str]:
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 where there is none or the EXIF block is damaged."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        # The picture itself is fine; cameras and editors write broken EXIF blocks.
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _eight_bits(values: npt.NDArray[np.generic], mode: str, form: str | None) -> Pixels:
    """Values [H, W] as uint8 [H, W].

    16-bit data spans 0..65535. For 32-bit and float data no range is declared: the first of
    0..1 (float only), 0..255 and 0..65535 that holds all values counts, else their own range.
    """
    numbers = np.nan_to_num(values.astype(np.float64))
    if mode.startswith("I;16") or form == "PPM":
        low, high = 0.0, 65535.0
    else:
        low, high = _range(float(numbers.min()), float(numbers.max()), is_float=mode == "F")
    scaled = (numbers - low) * (255.0 / (high - low))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _range(low: float, high: float, *, is_float: bool) -> tuple[float, float]:
    if low >= 0:
        limits = (1.0, 255.0, 65535.0) if is_float else (255.0, 65535.0)
        for limit in limits:
            if high <= limit:
                return 0.0, limit
    return low, high if high > low else low + 1.0


def _reason(data: bytes, error: Exception) -> str:
    """Why a file is no picture, in a few words for a person."""
    if isinstance(error, UnidentifiedImageError):
        return _unknown_format(data)
    if isinstance(error, Image.DecompressionBombError):
        size = re.search(r"\((\d+) pixels\)", str(error))
        return _too_large(f"{int(size.group(1)):,}" if size else "")
    text = " ".join(str(error).split()) or type(error).__name__
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return f"truncated: the file ends early, after {len(data):,} bytes"
    return f"damaged: {text[:120]}"


def _too_large(size: str) -> str:
    return f"too large: {size} pixels, the limit is {MAX_PIXELS:,} pixels"


def _unknown_format(data: bytes) -> str:
    head = data[:512]
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return "HEIC, which cannot be read here: convert it to JPEG"
    if not head.strip(b"\0"):
        return "not a picture: the file holds only zeros"
    if all(byte >= 32 or byte in b"\t\r\n\f" for byte in head):
        return "not a picture: the file holds text"
    return "not a picture in a known format"


_silence = threading.Lock()
_silent_decodes = 0
_PILLOW_FILTER = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


@contextlib.contextmanager
def _silent_pillow() -> Iterator[None]:
    """No warnings from Pillow's own modules while any thread is inside.

    Pillow warns of large pictures, odd EXIF and TIFF tags: noise about files that read fine, and
    an error where warnings are errors. ``warnings.catch_warnings`` is not safe here, because
    threads that leave in another order than they came would leave a wrong list of filters behind.
    """
    global _silent_decodes
    filters: list[object] = warnings.filters  # type: ignore[assignment]
    with _silence:
        _silent_decodes += 1
        if _PILLOW_FILTER not in filters:
            filters.insert(0, _PILLOW_FILTER)
    try:
        yield
    finally:
        with _silence:
            _silent_decodes -= 1
            if _silent_decodes == 0:
                with contextlib.suppress(ValueError):
                    warnings.filters.remove(_PILLOW_FILTER)  # type: ignore[attr-defined]

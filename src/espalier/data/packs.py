"""Packs: files that hold many decoded photographs each, found by the hash of their bytes.

A pack is the pixels of its pictures one after the other, then an index as JSON, then 16 bytes: the
length of the index and a magic word. All in one file, so that one rename publishes it, one removal
takes it away, and a file that lost its end is no pack.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import secrets
import struct
import threading
import time
import weakref
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from io import FileIO
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import __version__ as pillow_version
from PIL import features

from espalier.data.images import Picture, Pixels
from espalier.files import partial_of

SUFFIX = ".pack"
# The number in the magic word is the version of the format.
_END = struct.Struct("<Q8s")
_MAGIC = b"pixels 1"
_ABANDONED = 3600.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where one picture lies in a pack, and how large it was before it was reduced, upright."""

    offset: int
    height: int
    width: int
    checksum: int
    full_height: int
    full_width: int

    @property
    def size(self) -> int:
        """Bytes of its pixels."""
        return self.height * self.width * 3


class Pack:
    """One file of pictures, opened when the first one is read.

    Reading copies instead of mapping the file into memory: what is cut off or unreachable meanwhile
    is then an error that can be handled and not a signal that kills the process, and the pages do
    not count as memory of the run.

    Args:
        path: The file.
        places: Content hash -> where it lies.
        size: Bytes of the file.
    """

    def __init__(self, path: Path, places: dict[str, Place], size: int) -> None:
        self.path = path
        self.places = places
        self.size = size
        self._file: FileIO | None = None
        self._sound: set[str] = set()
        self._lock = threading.Lock()

    def read(self, content: str) -> Pixels | None:
        """Pixels [H, W, 3]; None where the file no longer holds what it held.

        Raises:
            OSError: The file is gone or cannot be read.
        """
        place = self.places[content]
        pixels = np.empty((place.height, place.width, 3), dtype=np.uint8)
        with self._lock:
            file = self._opened()
            file.seek(place.offset)
            count = file.readinto(pixels.data.cast("B"))
        return pixels if count == place.size and self._is_sound(content, pixels) else None

    def _is_sound(self, content: str, pixels: Pixels) -> bool:
        """Whether the checksum holds, at the first reading; a disk may lose what it took."""
        if content not in self._sound and zlib.crc32(pixels.data) == self.places[content].checksum:
            self._sound.add(content)
        return content in self._sound

    def _opened(self) -> FileIO:
        if self._file is None:
            self._file = self._kept_open("rb")
        return self._file

    def _kept_open(self, mode: Literal["rb", "x+b"]) -> FileIO:
        file = self.path.open(mode, buffering=0)
        # A run that ends without closing its store is no mistake, so nothing warns of it.
        weakref.finalize(self, file.close)
        return file

    def remove(self) -> None:
        """Remove the file; on most systems what is open can be read on."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        """Let go of the file; the next reading opens it again."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


class GrowingPack(Pack):
    """A pack that is being written, readable at once here and by others when it is published."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(partial_of(folder / f"{secrets.token_hex(8)}{SUFFIX}"), {}, 0)
        self._file = self._kept_open("x+b")

    def add(self, picture: Picture) -> None:
        """Append a picture.

        Raises:
            OSError: It could not be written whole; what was added before is intact.
        """
        pixels = np.ascontiguousarray(picture.pixels)
        height, width = pixels.shape[:2]
        checksum = zlib.crc32(pixels.data)
        place = Place(self.size, height, width, checksum, picture.height, picture.width)
        self._write(self.size, pixels.data.cast("B"))
        self.size += place.size
        self.places[picture.content] = place

    def publish(self) -> None:
        """Write the index and give the file its name: the hash of the index.

        Two runs that build the same pack at once give it the same name and the same bytes.

        Raises:
            OSError: It could not be written, or was removed; its pictures can still be read here.
        """
        index = _index(self.places)
        end = _END.pack(len(index), _MAGIC)
        self._write(self.size, memoryview(index + end))
        self._opened().truncate(self.size + len(index) + len(end))
        path = self.path.parent / f"{hashlib.sha256(index).hexdigest()[:16]}{SUFFIX}"
        os.replace(self.path, path)
        self.path, self.size = path, self.size + len(index) + len(end)

    def _write(self, offset: int, data: memoryview) -> None:
        with self._lock:
            file = self._opened()
            file.seek(offset)
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def open_packs(folder: Path) -> Iterator[Pack]:
    """Whole packs of a folder that were made by the decoders of this process, in order of name.

    What is damaged, half-written or made by other versions is passed over.
    """
    with contextlib.suppress(OSError):
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            if not path.name.startswith("."):
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError, struct.error):
                    yield _open_pack(path)


def remove_abandoned(folder: Path) -> None:
    """Remove half-written packs that nobody wrote to for an hour: what killed runs left behind."""
    for path in folder.glob(f".*.partial-*{SUFFIX}"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()


def decoders() -> str:
    """The versions that pixels depend on: a stored picture must equal one decoded now."""
    jpeg = features.version("libjpeg_turbo") or features.version("jpg")
    return f"pillow {pillow_version}, jpeg {jpeg}, opencv {cv2.__version__}, {platform.machine()}"


def _index(places: Mapping[str, Place]) -> bytes:
    pictures = {content: astuple(place) for content, place in places.items()}
    return json.dumps({"decoders": decoders(), "pictures": pictures}).encode()


def _open_pack(path: Path) -> Pack:
    """The pack in a file; ``ValueError`` where it is none, or not for us."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size - _END.size)
        length, magic = _END.unpack(file.read(_END.size))
        if magic != _MAGIC or length + _END.size > size:
            raise ValueError(f"{path} is not a pack")
        file.seek(size - _END.size - length)
        index = json.loads(file.read(length))
    places = {content: Place(*values) for content, values in index["pictures"].items()}
    if index["decoders"] != decoders():
        raise ValueError(f"{path} was made by {index['decoders']}")
    if sum(place.size for place in places.values()) != size - _END.size - length:
        raise ValueError(f"{path} does not hold what its index says")
    return Pack(path, places, size)

"""The store: each photograph decoded once, and kept a little larger than training needs it.

What is in the store is what decoding would give, byte for byte, and it is found by the hash of the
photograph's own bytes. So a store may be absent, full, shared, damaged or removed while a run
trains: that changes how long things take and nothing else.
"""

from __future__ import annotations

import errno
import math
import threading
from pathlib import Path
from typing import Protocol

import numpy as np

from espalier.cache import GIB, evict, free_bytes, mark_used, used_bytes
from espalier.data.images import (
    Inspection,
    Picture,
    Pixels,
    content_hash,
    decode_picture,
    inspect_image,
    read_bytes,
    read_picture,
    reduced,
)
from espalier.data.packs import GrowingPack, Pack, open_packs, remove_abandoned
from espalier.data.torchvision_sets import is_address
from espalier.errors import UnreadableImageError
from espalier.files import disk_error

# Views from reduced pictures against views from whole ones (240 pixels across, at 48 to 96 pixels,
# policies light and standard): with 1 x what the smallest crop needs 35-43 dB, with 1.25 x 40-47 dB
# but for one size, with 1.5 x 40-47 dB for twice the bytes.
SPARE_SIDE = 1.25
PACK_BYTES = 256 * 2**20
PACK_PICTURES = 4000
RESERVE = GIB
"""Bytes that are left free on the disk, for the run itself and for everybody else."""


class PixelStore(Protocol):
    """Decoded photographs, each under the hash of its bytes; threads may share one."""

    @property
    def side(self) -> int:
        """Pixels of the short side to which photographs are reduced; see ``images.reduced``."""

    @property
    def note(self) -> str:
        """Why no more photographs are taken in, as a sentence; empty while they are."""

    def full_size(self, content: str) -> tuple[int, int] | None:
        """Width and height of the whole photograph, upright; None where it is not in the store."""

    def get(self, content: str) -> Pixels | None:
        """Its reduced pixels [H, W, 3], not to be written to; None where they must be decoded."""

    def put(self, picture: Picture) -> None:
        """Keep a reduced picture, unless it is there or there is no room.

        Raises:
            DiskError: It could not be written, and the store was asked for explicitly.
        """

    def publish(self) -> None:
        """Let other runs find what was put in until now.

        Raises:
            DiskError: As in ``put``.
        """

    def close(self) -> None:
        """Publish, and let go of files and memory.

        Raises:
            DiskError: As in ``put``.
        """


class DiskStore:
    """Pictures in packs below a folder, one folder per side, shared by all runs that want it.

    Args:
        folder: Of all sides, usually ``cache_folder("pixels")``.
        side: See ``PixelStore``.
        budget: Bytes that all packs below ``folder`` may take; the longest unused go first, and
            what this run uses never goes.
        required: A disk that cannot be written to is an error; otherwise it is noted, and the
            photographs are decoded each time they are wanted.
    """

    def __init__(self, folder: Path, side: int, budget: int, *, required: bool) -> None:
        self.folder = folder
        self.side = side
        self.budget = budget
        self.required = required
        self.note = ""
        self._packs = folder / str(side)
        self._where: dict[str, Pack] = {}
        self._used: set[Pack] = set()
        self._growing: GrowingPack | None = None
        self._lock = threading.RLock()
        remove_abandoned(self._packs)
        for pack in open_packs(self._packs):
            self._where.update(dict.fromkeys(pack.places, pack))

    def full_size(self, content: str) -> tuple[int, int] | None:
        """Width and height of the whole photograph, upright; None where it is not in the store."""
        pack = self._find(content)
        if pack is None:
            return None
        place = pack.places[content]
        return place.full_width, place.full_height

    def get(self, content: str) -> Pixels | None:
        """Its reduced pixels [H, W, 3]; None where they must be decoded."""
        pack = self._find(content)
        if pack is None:
            return None
        try:
            pixels = pack.read(content)
        except OSError:
            self._forget(pack)
            return None
        if pixels is None:
            self._forget(pack)
            pack.remove()
        return pixels

    def put(self, picture: Picture) -> None:
        """Keep a reduced picture, unless it is there or there is no room.

        Raises:
            DiskError: It could not be written, and the store was asked for explicitly.
        """
        with self._lock:
            if self.note or picture.content in self._where or not self._has_room(picture):
                return
            try:
                pack = self._open_growing()
                pack.add(picture)
            except OSError as error:
                self._stop(error)
                return
            self._where[picture.content] = pack
            if pack.size >= PACK_BYTES or len(pack.places) >= PACK_PICTURES:
                self.publish()

    def publish(self) -> None:
        """Let other runs find what was put in until now, and remove what exceeds the budget.

        Raises:
            DiskError: As in ``put``.
        """
        with self._lock:
            pack, self._growing = self._growing, None
            if pack is not None:
                self._publish(pack)
            evict(self.folder, self.budget, keep=self._own_files())

    def close(self) -> None:
        """Publish what was put in, and let go of all files.

        Raises:
            DiskError: As in ``put``.
        """
        with self._lock:
            self.publish()
            for pack in self._used:
                pack.close()

    def _find(self, content: str) -> Pack | None:
        """The pack that holds a picture; from now on it counts as this run's own."""
        pack = self._where.get(content)
        if pack is not None and pack not in self._used:
            with self._lock:
                self._used.add(pack)
            mark_used(pack.path)
        return pack

    def _forget(self, pack: Pack) -> None:
        """A pack that vanished or does not hold what it should is as good as absent."""
        with self._lock:
            self._where = {name: place for name, place in self._where.items() if place is not pack}
            self._used.discard(pack)
            if pack is self._growing:
                self._growing = None
                pack.remove()

    def _own_files(self) -> set[Path]:
        return {pack.path for pack in self._used}

    def _has_room(self, picture: Picture) -> bool:
        """Whether the budget has room for one more; notes it where not."""
        if self._own_bytes() + picture.pixels.nbytes > self.budget:
            self.note = (
                f"store full: its budget of {self.budget / GIB:.3g} GiB holds "
                f"{len(self._where):,} photographs; the others are decoded each time"
            )
        return not self.note

    def _own_bytes(self) -> int:
        return sum(pack.size for pack in self._used)

    def _open_growing(self) -> GrowingPack:
        if self._growing is None:
            self._make_space()
            self._growing = GrowingPack(self._packs)
            self._used.add(self._growing)
        return self._growing

    def _make_space(self) -> None:
        """Remove packs of other runs where the disk is nearly full; OSError where it stays so."""
        lack = RESERVE + PACK_BYTES - free_bytes(self.folder)
        if lack > 0:
            evict(self.folder, max(0, used_bytes(self.folder) - lack), keep=self._own_files())
        if free_bytes(self.folder) < RESERVE:
            raise OSError(errno.ENOSPC, f"less than {RESERVE / GIB:.0f} GiB would stay free")

    def _publish(self, pack: GrowingPack) -> None:
        try:
            pack.publish()
        except FileNotFoundError:
            # Somebody removed the store. What is open can still be read, by this run alone.
            pass
        except OSError as error:
            pack.remove()
            self._stop(error)

    def _stop(self, error: OSError) -> None:
        """Take no more in: an error where the store was asked for, else a note."""
        self.note = (
            f"store stopped at {len(self._where):,} photographs: {error.strerror or error} "
            f"({self._packs}); the others are decoded each time"
        )
        if self.required:
            raise disk_error(self._packs, error) from error


class MemoryStore:
    """Pictures in the memory of this process.

    Args:
        side: See ``PixelStore``.
        budget: Bytes of pixels that may be kept.
    """

    def __init__(self, side: int, budget: int) -> None:
        self.side = side
        self.budget = budget
        self.note = ""
        self._pictures: dict[str, Picture] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def full_size(self, content: str) -> tuple[int, int] | None:
        """Width and height of the whole photograph, upright; None where it is not in the store."""
        picture = self._pictures.get(content)
        return None if picture is None else (picture.width, picture.height)

    def get(self, content: str) -> Pixels | None:
        """Its reduced pixels [H, W, 3]; None where they must be decoded."""
        picture = self._pictures.get(content)
        return None if picture is None else picture.pixels

    def put(self, picture: Picture) -> None:
        """Keep a reduced picture, unless it is there or there is no room."""
        with self._lock:
            if self.note or picture.content in self._pictures:
                return
            if self._bytes + picture.pixels.nbytes > self.budget:
                self.note = (
                    f"store full: its budget of {self.budget / GIB:.3g} GiB holds "
                    f"{len(self._pictures):,} photographs; the others are decoded each time"
                )
                return
            # A slice would keep the whole picture alive that it was cut from.
            pixels = np.ascontiguousarray(picture.pixels)
            pixels.setflags(write=False)
            self._pictures[picture.content] = picture._replace(pixels=pixels)
            self._bytes += pixels.nbytes

    def publish(self) -> None:
        """Nothing: other processes cannot read this one's memory."""

    def close(self) -> None:
        """Let go of all pictures."""
        self._pictures.clear()
        self._bytes = 0


def store_side(at_least: int) -> int:
    """The side of a store for transforms whose largest ``at_least`` is given, in pixels."""
    return math.ceil(at_least * SPARE_SIDE)


def read_reduced(path: str, side: int) -> Picture:
    """A photograph decoded and reduced: exactly what a store of that side holds of it.

    Raises:
        UnreadableImageError: It is missing, damaged, too large or no picture.
    """
    picture = read_picture(path, at_least=side)
    return picture._replace(pixels=reduced(picture.pixels, side))


def look_at(path: str, store: PixelStore) -> tuple[Inspection, Picture | None]:
    """Hash a file, and decode it only where the store does not have it yet.

    Returns:
        As ``inspect_image``; and the picture to put into the store, or None.
    """
    if is_address(path):
        return inspect_image(path), None
    content = content_hash(b"")
    try:
        data = read_bytes(path)
        content = content_hash(data)
        if size := store.full_size(content):
            return Inspection(content, *size), None
        picture = decode_picture(data, content, at_least=store.side)
    except UnreadableImageError as error:
        return Inspection(content, 0, 0, error.message), None
    picture = picture._replace(pixels=reduced(picture.pixels, store.side))
    return Inspection(content, picture.width, picture.height), picture

"""Photographs in folders: one folder per class, alone or inside train, val and test."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from espalier.data.images import IMAGE_SUFFIXES
from espalier.data.split import SPLIT_WORDS
from espalier.errors import DataError
from espalier.records import Sample, Split

_NOT_CLASSES = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})


def read_folder(root: Path) -> tuple[list[Sample], list[str]]:
    """Every image file of a data folder with its label and given split, not yet opened; and notes.

    Raises:
        DataError: The folder is missing, not readable, empty, or its layout is not understood.
    """
    if not root.is_dir():
        raise _no_folder(root)
    folders, _ = entries(root)
    parts = {name: SPLIT_WORDS[name.lower()] for name in folders if name.lower() in SPLIT_WORDS}
    if _is_split(folders, parts):
        return _read_parts(root, folders, parts)
    if parts and len(parts) == len(folders):
        raise DataError(
            f"{root} holds {_listed(folders)} but no train folder",
            hint="add train/ with one folder per class, or name a folder of class folders",
        )
    samples, notes = _read_classes(root, None)
    if not samples:
        raise _no_images(root)
    return samples, notes


def entries(folder: Path | str) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, sorted; hidden ones are left out.

    Links count as what they point at; a broken link counts as a file, so that it is reported.

    Raises:
        DataError: The folder cannot be listed.
    """
    folders, files = [], []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if entry.name.startswith(".") or entry.name in _NOT_CLASSES:
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.is_file() or entry.is_symlink():
                    files.append(entry.name)
    except OSError as error:
        raise DataError(
            f"cannot list the folder {folder}: {error.strerror or error}",
            hint="check its permissions",
        ) from error
    return sorted(folders), sorted(files)


def image_files(folder: Path | str) -> list[str]:
    """Paths of all image files below a folder, by suffix; each real folder is entered once."""
    found: list[str] = []
    # A link back to a folder above would bring in the images of all other classes.
    seen = {str(above) for above in Path(os.path.realpath(folder)).parents}
    waiting = [str(folder)]
    while waiting:
        here = waiting.pop()
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        folders, files = entries(here)
        found += [os.path.join(here, name) for name in files if is_image_name(name)]
        waiting += [os.path.join(here, name) for name in reversed(folders)]
    return sorted(found)


def is_image_name(name: str) -> bool:
    """Whether a file's suffix, in either case, is one of an image format."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _is_split(folders: Sequence[str], parts: Mapping[str, Split]) -> bool:
    # A class may be called "train" (bus, car, train): only with a second part beside it, or with
    # nothing beside it, does the word mean the split.
    found = set(parts.values())
    return "train" in found and (len(found) > 1 or len(parts) == len(folders))


def _read_parts(
    root: Path, folders: Sequence[str], parts: Mapping[str, Split]
) -> tuple[list[Sample], list[str]]:
    _check_one_folder_each(root, parts)
    samples: list[Sample] = []
    notes: list[str] = []
    for name, split in parts.items():
        found, more = _read_classes(root / name, split)
        samples += found
        notes += more
    others = [name for name in folders if name not in parts]
    if others:
        notes.append(f"not used, because beside train, val and test: {_listed(others)}")
    if not any(sample.split == "train" for sample in samples):
        train = next(name for name, split in parts.items() if split == "train")
        raise _no_images(root / train)
    return samples, [*notes, *_stray(root)]


def _check_one_folder_each(root: Path, parts: Mapping[str, Split]) -> None:
    for split in set(parts.values()):
        names = [name for name, part in parts.items() if part == split]
        if len(names) > 1:
            raise DataError(
                f"{root} holds {len(names)} folders for {split}: {_listed(names)}",
                hint="keep one of them beside the others, or move their images together",
            )


def _read_classes(root: Path, split: Split | None) -> tuple[list[Sample], list[str]]:
    samples: list[Sample] = []
    empty: list[str] = []
    folders, _ = entries(root)
    for name in folders:
        files = image_files(root / name)
        # macOS and Linux spell the same accented name differently; it is one class.
        label = unicodedata.normalize("NFC", name)
        samples += [Sample("", file, label, split=split) for file in files]
        if not files:
            empty.append(name)
    notes = _stray(root)
    if empty and samples:
        notes.append(f"no image files in {_listed(empty)} of {root}: not a class there")
    return samples, notes


def _stray(root: Path) -> list[str]:
    stray = [name for name in entries(root)[1] if is_image_name(name)]
    if not stray:
        return []
    return [
        f"{len(stray)} image files in {root} are in no class folder, not used: {_listed(stray)}"
    ]


def _no_folder(root: Path) -> DataError:
    what = "is a file, not a folder" if root.exists() else "does not exist"
    return DataError(
        f"{root} {what}",
        hint="name a folder of class folders, a .csv or .parquet manifest, or torchvision:NAME",
    )


def _no_images(root: Path) -> DataError:
    folders, files = entries(root)
    loose = [name for name in files if is_image_name(name)]
    layout = f"{root}/CLASS/photo.jpg, one folder per class"
    if loose and not folders:
        return DataError(
            f"{root} holds {len(loose)} images but no class folders",
            hint=f"{layout}; or a manifest with the columns path,label",
        )
    return DataError(
        f"no image files in the class folders of {root}"
        if folders
        else f"{root} is empty: no class folders",
        hint=f"{layout}; files with these suffixes count: {' '.join(sorted(IMAGE_SUFFIXES))}",
    )


def _listed(names: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more

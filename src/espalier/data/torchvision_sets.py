"""Image classification sets that torchvision knows by name, addressed image by image.

An address is ``torchvision:NAME/part/index``. It does not hold the folder of the files: that is
remembered per name by ``open_set`` and ``use_root``, so that addresses stay the same everywhere.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import io
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from espalier.errors import DataError, UnreadableImageError
from espalier.records import Split

PREFIX = "torchvision:"

_BY_TRAIN: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_TRAIN_TEST: dict[str, dict[str, Any]] = {"train": {"split": "train"}, "test": {"split": "test"}}
_TRAIN_VAL: dict[str, dict[str, Any]] = {"train": {"split": "train"}, "val": {"split": "val"}}
_THREE: dict[str, dict[str, Any]] = {**_TRAIN_VAL, "test": {"split": "test"}}
_TRAINVAL_TEST: dict[str, dict[str, Any]] = {
    "train": {"split": "trainval"},
    "test": {"split": "test"},
}
_UNSPLIT: dict[str, dict[str, Any]] = {"all": {}}

SETS: dict[str, dict[str, dict[str, Any]]] = {
    **dict.fromkeys(("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "KMNIST", "USPS"), _BY_TRAIN),
    **dict.fromkeys(("SVHN", "STL10", "GTSRB", "Food101"), _TRAIN_TEST),
    **dict.fromkeys(("Flowers102", "DTD", "PCAM", "RenderedSST2", "FGVCAircraft"), _THREE),
    **dict.fromkeys(("ImageNet", "Imagenette"), _TRAIN_VAL),
    "Country211": {**_THREE, "val": {"split": "valid"}},
    "OxfordIIITPet": _TRAINVAL_TEST,
    **dict.fromkeys(("EuroSAT", "Caltech101", "Caltech256", "SUN397", "SEMEION"), _UNSPLIT),
}
"""Name -> part -> the arguments that make torchvision open it."""

_roots: dict[str, Path] = {}
_loading = threading.Lock()


@dataclass(frozen=True)
class Member:
    """One image of such a set; ``split`` is None where the set comes without parts."""

    address: str
    label: str
    split: Split | None


def is_address(path: str) -> bool:
    """Whether a path names a torchvision set or an image in it."""
    return path.startswith(PREFIX)


def default_root() -> Path:
    """Where files go when no folder is named: beside the weights that torch downloads."""
    home = os.environ.get("TORCH_HOME") or "~/.cache/torch"
    return Path(home).expanduser() / "datasets"


def use_root(name: str, root: str | Path | None) -> Path:
    """Remember the folder of a set's files, as an absolute path."""
    folder = Path(root).expanduser().absolute() if root else default_root()
    _roots[name] = folder
    return folder


def root_of(name: str) -> Path:
    """The folder that was remembered for a set, or the default one."""
    return _roots.get(name, default_root())


def open_set(source: str, root: str | Path | None) -> list[Member]:
    """All images of a set with their labels; files are downloaded only where there are none.

    Raises:
        DataError: Unknown name, failed download, or files that torchvision does not accept.
    """
    name = source.removeprefix(PREFIX)
    if name not in SETS:
        raise _unknown(name)
    folder = use_root(name, root)
    members: list[Member] = []
    for part in SETS[name]:
        members += _members(name, part, _load(name, part, folder))
    return members


def open_image(address: str) -> Image.Image:
    """The picture at an address, as torchvision gives it.

    Raises:
        UnreadableImageError: Its set or its index does not exist.
    """
    name, _, rest = address.removeprefix(PREFIX).partition("/")
    part, _, index = rest.partition("/")
    if part not in SETS.get(name, {}) or not index.isdecimal():
        raise UnreadableImageError(f"`{address}` is not torchvision:NAME/part/index")
    try:
        image = _load(name, part, root_of(name))[int(index)][0]
    except DataError as error:
        raise UnreadableImageError(error.message) from error
    except IndexError as error:
        raise UnreadableImageError(f"{PREFIX}{name}/{part} has no image {index}") from error
    if not isinstance(image, Image.Image):
        raise UnreadableImageError(f"{PREFIX}{name} does not hold pictures")
    return image


def _members(name: str, part: str, dataset: Any) -> Iterator[Member]:
    names = _class_names(dataset)
    split = _split(part)
    for index, target in enumerate(_targets(dataset)):
        label = names.get(int(target), str(int(target)))
        yield Member(f"{PREFIX}{name}/{part}/{index}", label, split)


def _split(part: str) -> Split | None:
    splits: dict[str, Split] = {"train": "train", "val": "val", "test": "test"}
    return splits.get(part)


def _class_names(dataset: Any) -> Mapping[int, str]:
    names = getattr(dataset, "classes", None) or getattr(dataset, "categories", None) or ()
    # ImageNet's names are tuples of synonyms.
    texts = [str(name if isinstance(name, str) else name[0]) for name in names]
    return dict(enumerate(text.strip() for text in texts))


def _targets(dataset: Any) -> list[Any]:
    """Class indices; read from the images only where the set keeps no list of them."""
    for attribute in ("targets", "labels", "_labels", "y"):
        found = getattr(dataset, attribute, None)
        if found is not None and len(found) == len(dataset):
            return list(found)
    return [dataset[index][1] for index in range(len(dataset))]


def _load(name: str, part: str, root: Path) -> Any:
    # One thread loads, the others wait: the cache alone would let each of them load.
    with _loading:
        return _load_once(name, part, root)


@functools.lru_cache(maxsize=8)
def _load_once(name: str, part: str, root: Path) -> Any:
    import torchvision.datasets

    kind = getattr(torchvision.datasets, name)
    arguments = {"root": str(root), **SETS[name][part]}
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return _construct(kind, arguments, download=False)
        except (RuntimeError, OSError, EOFError) as error:
            if name == "ImageNet" or _has_files(kind, root):
                raise _rejected(name, root, error) from error
        return _fetch(kind, arguments, name, root)


def _construct(kind: Any, arguments: dict[str, Any], *, download: bool) -> Any:
    # ImageNet alone has no such argument: it cannot be downloaded.
    extra = {} if kind.__name__ == "ImageNet" else {"download": download}
    return kind(**arguments, **extra)


def _fetch(kind: Any, arguments: dict[str, Any], name: str, root: Path) -> Any:
    try:
        root.mkdir(parents=True, exist_ok=True)
        return _construct(kind, arguments, download=True)
    except Exception as error:
        # urllib, ssl, tarfile and zipfile each bring their own kinds of failure.
        raise DataError(
            f"{PREFIX}{name} is not in {root} and could not be downloaded: {error}",
            hint=f"put its files in a folder, then: --set data.root=FOLDER (now {root})",
        ) from error


def _has_files(kind: Any, root: Path) -> bool:
    folder = root / str(getattr(kind, "base_folder", kind.__name__))
    return folder.is_dir() and any(folder.iterdir())


def _rejected(name: str, root: Path, error: Exception) -> DataError:
    return DataError(
        f"the files of {PREFIX}{name} in {root} are not those that torchvision expects: {error}",
        hint="complete them, or remove them to have them downloaded anew",
    )


def _unknown(name: str) -> DataError:
    near = difflib.get_close_matches(name.lower(), [known.lower() for known in SETS], n=3)
    names = [known for known in SETS if known.lower() in near] or sorted(SETS)
    return DataError(
        f"`{PREFIX}{name}` is not a classification set that can be read",
        hint="one of " + ", ".join(f"{PREFIX}{known}" for known in names),
    )

"""All photographs of a data set as one table: taken in, checked, split, written and read."""

from __future__ import annotations

import csv
import difflib
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from espalier.data import torchvision_sets
from espalier.data.correcting import with_corrections
from espalier.data.corrections import read_corrections
from espalier.data.moves import in_parts, split_around
from espalier.data.origins import place_synthetic, read_synthetic
from espalier.data.sources import Progress, Source, inspected, read_source
from espalier.data.split import assign_splits, follow_split
from espalier.data.store import PixelStore
from espalier.errors import DataError
from espalier.files import write_whole
from espalier.records import SPLITS, Catalog, Sample, Split

_FIELDS = tuple(field.name for field in fields(Sample))
# The label mapping and the notes belong to the whole table: as JSON in the first row, so that the
# file stays one plain CSV that any tool reads.
_ABOUT = "about"


def build_catalog(
    source: str,
    *,
    root: str | None,
    classes: Sequence[str] | None,
    val_share: float,
    test_share: float,
    group_by: str | None,
    split_from: Path | None,
    seed: int,
    progress: Progress | None,
    store: PixelStore | None = None,
    corrections: Path | None = None,
    synthetic: Path | None = None,
    complete: bool = True,
) -> Catalog:
    """Every image of a source, looked at once, with label mapping and split; nothing is written.

    Args:
        source: A folder, a manifest, or ``torchvision:NAME``.
        root: Where torchvision keeps or puts its files.
        classes: The label mapping to hold the data to; None: the sorted class names found.
        val_share: Of the images, for validation, where the source brings none.
        test_share: Of the images, for the test, where the source brings none.
        group_by: Regular expression searched in the path relative to the source; its first group,
            or else the whole match, is the image's group.
        split_from: An earlier ``catalog.csv``, or the run folder that holds it.
        seed: Of the split.
        progress: Called with (images done, images in all).
        store: Keeps what is decoded, so that it is decoded once.
        corrections: A table of corrections; those that are accepted are applied.
        synthetic: A table of painted pictures; they train, where their photograph does.
        complete: Whether it must be possible to train on the data. An audit says False, and
            reports itself what is missing and what is there twice; notes then do not.

    Raises:
        DataError: The data cannot be trained on as it is, or not even audited, or the corrections
            cannot hold; with all problems at once.
        DiskError: The store was asked for explicitly and cannot be written.
    """
    # Before the photographs: a table with a slip in it is refused at once.
    table = None if corrections is None else read_corrections(corrections)
    painted = [] if synthetic is None else inspected(read_synthetic(synthetic), progress, store)
    found = read_source(source, root=root, progress=progress, store=store)
    given, grouped = _with_groups(found, group_by)
    samples, moves, corrected = with_corrections(given, table, found.folder, classes)
    mapping = _label_mapping(source, [*samples, *painted], classes, complete=complete)
    if split_from is None:
        samples, notes = split_around(
            in_parts(samples, {s.sample_id: s.split for s in given if s.sample_id in moves}),
            moves,
            partial(assign_splits, val_share=val_share, test_share=test_share, seed=seed),
        )
    else:
        samples, notes = _follow(samples, moves, read_catalog(_table(split_from)), seed)
    if painted:
        samples, told = place_synthetic(samples, painted)
        notes = (*notes, *told)
    brought = {sample.split for sample in given if sample.status == "ok"}
    parts = tuple(part for part in SPLITS if part in brought)
    catalog = Catalog(samples, mapping, source, given=parts)
    if complete:
        _check_parts(catalog)
    content = _about_content(catalog) if complete else _about_one_class(catalog)
    every = (*corrected, *found.notes, *content, *grouped, *notes)
    return replace(catalog, notes=every)


def build_labelled(
    source: str, *, root: str | None, classes: Sequence[str], progress: Progress | None
) -> Catalog:
    """Images to judge a trained model on: given test images, or else all images, as the test part.

    Classes of the mapping may be absent; names that are not in it may not be there.

    Raises:
        DataError: No readable image, or class names that the mapping does not have.
    """
    found = read_source(source, root=root, progress=progress)
    _check_readable(source, found.samples)
    samples = found.samples
    if not any(sample.split == "test" for sample in samples):
        samples = tuple(replace(sample, split="test") for sample in samples)
    unknown = sorted({s.label or "" for s in samples if s.split == "test"} - set(classes))
    if unknown:
        raise DataError(
            f"{source} has classes that the model does not know: {', '.join(unknown)}",
            hint=f"rename the folders; the model knows {', '.join(classes)}",
        )
    return Catalog(samples, tuple(classes), source, found.notes)


def write_catalog(catalog: Catalog, path: Path) -> None:
    """Write a catalog as CSV that reads back exactly.

    Raises:
        DiskError: The file could not be written; what was there before is untouched.
    """

    def write(partial: Path) -> None:
        # Names of files need not be valid UTF-8; surrogates carry their bytes through.
        with partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            table = csv.writer(file)
            table.writerow((*_FIELDS, _ABOUT))
            about = json.dumps(_about(catalog), ensure_ascii=False)
            for sample in catalog.samples or (Sample("", "", None),):
                table.writerow((*(_cell(sample, name) for name in _FIELDS), about))
                about = ""

    write_whole(path, write)


def read_catalog(path: Path) -> Catalog:
    """A catalog as it was written.

    Raises:
        DataError: The file is missing or is not a catalog.
    """
    csv.field_size_limit(2**31 - 1)
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = list(csv.DictReader(file))
        about = json.loads(rows[0][_ABOUT])
        samples = tuple(_sample(row) for row in rows if row["path"])
        given = tuple(about.get("given", ()))
        catalog = Catalog(
            samples, tuple(about["classes"]), about["source"], tuple(about["notes"]), given
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, csv.Error) as error:
        raise DataError(
            f"{path} is not a catalog: {error!r}",
            hint="name the catalog.csv of a run folder, or the run folder",
        ) from error
    if about.get("root"):
        torchvision_sets.use_root(_set_name(catalog.source), about["root"])
    return catalog


def _table(path: Path) -> Path:
    return path / "catalog.csv" if path.is_dir() else path


def _about(catalog: Catalog) -> dict[str, Any]:
    about: dict[str, Any] = {
        "classes": catalog.classes,
        "source": catalog.source,
        "notes": catalog.notes,
        "given": catalog.given,
    }
    if torchvision_sets.is_address(catalog.source):
        about["root"] = str(torchvision_sets.root_of(_set_name(catalog.source)))
    return about


def _set_name(source: str) -> str:
    return source.removeprefix(torchvision_sets.PREFIX)


def _cell(sample: Sample, name: str) -> str:
    value = getattr(sample, name)
    return "" if value is None else str(value)


def _sample(row: Mapping[str, str]) -> Sample:
    # Catalogs of before know no painted pictures.
    values: dict[str, Any] = {
        name: row.get(name, "") if name == "origin" else row[name] for name in _FIELDS
    }
    for name in ("label", "group", "split"):
        values[name] = values[name] or None
    values["width"], values["height"] = int(values["width"]), int(values["height"])
    return Sample(**values)


def _with_groups(found: Source, pattern: str | None) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """Samples with the group that the pattern finds in their relative paths; and a note."""
    if pattern is None:
        return found.samples, ()
    if any(sample.group for sample in found.samples):
        raise DataError(
            f"groups come from the manifest and from group_by `{pattern}` at once",
            hint="leave out one of the two",
        )
    search = _compiled(pattern)
    paths = [_relative(sample.path, found.folder) for sample in found.samples]
    groups = [_group(search, path) for path in paths]
    named = [group for group in groups if group is not None]
    if not named:
        raise DataError(
            f"group_by `{pattern}` matches none of the {len(paths):,} paths",
            hint=f"it is searched in paths such as {paths[0]}",
        )
    note = f"{len(set(named)):,} groups by `{pattern}`"
    if len(named) < len(paths):
        note += f"; {len(paths) - len(named):,} images match nothing and stand alone"
    samples = zip(found.samples, groups, strict=True)
    return tuple(replace(sample, group=group) for sample, group in samples), (note,)


def _follow(
    samples: tuple[Sample, ...], moves: Mapping[str, Split], earlier: Catalog, seed: int
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """The split of an earlier catalog, but for what was moved since; and notes."""
    moved = {sample.content: sample.split for sample in samples if sample.sample_id in moves}
    known = [replace(s, split=moved.get(s.content, s.split)) for s in earlier.samples]
    followed, notes = follow_split(samples, known, seed=seed)
    left_out = {sample.content for sample in earlier.dropped}
    if back := sum(s.status == "ok" and s.content in left_out for s in followed):
        images = "1 image" if back == 1 else f"{back:,} images"
        notes = (
            *notes,
            f"{images} that the earlier run dropped are in use again: name its corrections, too",
        )
    return followed, notes


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise DataError(
            f"group_by `{pattern}` is not a regular expression: {error}",
            hint=r"for example --group-by '(plant\d+)_' for plant07_leaf3.jpg",
        ) from error


def _group(search: re.Pattern[str], path: str) -> str | None:
    match = search.search(path)
    if match is None:
        return None
    return (match.group(1) if search.groups else match.group()) or None


def _relative(path: str, folder: str | None) -> str:
    return path if folder is None else Path(os.path.relpath(path, folder)).as_posix()


def _check_readable(source: str, samples: Sequence[Sample]) -> None:
    if any(sample.status == "ok" for sample in samples):
        return
    shown = [f"{sample.path}: {sample.reason}" for sample in samples[:10]]
    more = [f"and {len(samples) - 10:,} more"] if len(samples) > 10 else []
    raise DataError(
        f"none of the {len(samples):,} image files of {source} can be read",
        problems=[*shown, *more],
        hint="replace them, or convert them to JPEG or PNG",
    )


def _label_mapping(
    source: str, samples: Sequence[Sample], classes: Sequence[str] | None, *, complete: bool
) -> tuple[str, ...]:
    """The class names in index order, checked against what was found."""
    _check_readable(source, samples)
    found = {sample.label or "" for sample in samples if sample.status == "ok"}
    mapping = tuple(sorted(found) if classes is None else classes)
    problems = [] if classes is None else _mapping_problems(found, classes)
    if problems:
        raise DataError(
            f"the classes found in {source} are not those of the recipe's data.classes",
            problems=problems,
            hint="rename the folders, or leave out data.classes to start a new mapping",
        )
    if complete and len(mapping) < 2:
        raise DataError(
            f"{source} holds one class only, `{mapping[0]}`; at least two are needed",
            hint=_one_class_hint(source, samples),
        )
    return mapping


def _mapping_problems(found: set[str], classes: Sequence[str]) -> list[str]:
    problems = []
    if absent := sorted(set(classes) - found):
        problems.append(f"in the recipe, but without readable images: {', '.join(absent)}")
    if unknown := sorted(found - set(classes)):
        problems.append(f"found, but not in the recipe: {', '.join(unknown)}")
    if twice := sorted(name for name, n in Counter(classes).items() if n > 1):
        problems.append(f"twice in the recipe: {', '.join(twice)}")
    return problems


def _one_class_hint(source: str, samples: Sequence[Sample]) -> str:
    """Point one folder further down where the classes seem to lie there."""
    place = Path(source).expanduser()
    if not place.is_dir():
        return "add images of at least one further class"
    if (inner := _folder_of_classes(place, samples)) is not None:
        return f"its folders look like classes: name {inner} instead"
    return "add a folder of images for each further class"


def _folder_of_classes(place: Path, samples: Sequence[Sample]) -> Path | None:
    """The folder of the one class, where it holds nothing but folders of images."""
    within = {Path(_relative(s.path, os.path.abspath(place))).parts[:-1] for s in samples}
    inner = place / (samples[0].label or "")
    if len(within) > 1 and all(len(parts) >= 2 for parts in within) and inner.is_dir():
        return inner
    return None


def _about_one_class(catalog: Catalog) -> list[str]:
    """A note where the classes seem to lie one folder further down."""
    place = Path(catalog.source).expanduser()
    if len(catalog.classes) != 1 or not place.is_dir():
        return []
    inner = _folder_of_classes(place, catalog.samples)
    if inner is None:
        return []
    return [f"one class, `{catalog.classes[0]}`, which holds folders: did you mean {inner}?"]


def _check_parts(catalog: Catalog) -> None:
    """Every class that is judged must be trained on."""
    trained = catalog.counts("train")
    known = [name for name, count in trained.items() if count]
    if not known:
        raise DataError(
            f"no image of {catalog.source} is in the train part",
            hint="mark some images with the split `train`, or leave the split out",
        )
    problems = [_untrained(name, catalog, known) for name, count in trained.items() if not count]
    if problems:
        raise DataError(
            f"{len(problems)} classes of {catalog.source} have no readable training image",
            problems=problems,
            hint="add images of them to train, or take them out of val and test",
        )


def _untrained(name: str, catalog: Catalog, known: Sequence[str]) -> str:
    held_out = catalog.counts("val")[name], catalog.counts("test")[name]
    near = difflib.get_close_matches(name.lower(), [other.lower() for other in known], n=1)
    guess = next((other for other in known if [other.lower()] == near), None)
    text = f"`{name}`: 0 in train, {held_out[0]} in val, {held_out[1]} in test"
    return f"{text}; did you mean `{guess}`?" if guess else text


def _about_content(catalog: Catalog) -> list[str]:
    """Notes on lost classes, exact copies and copies with several labels."""
    usable = [sample for sample in catalog.samples if sample.status == "ok"]
    notes = []
    lost = sorted({s.label or "" for s in catalog.unreadable} - set(catalog.classes))
    if lost:
        notes.append(f"no readable image, so not a class: {', '.join(lost)}")
    if copies := len(usable) - len({sample.content for sample in usable}):
        what = "image is an exact copy of another" if copies == 1 else "images are exact copies"
        notes.append(f"{copies:,} {what}; copies are kept, and always lie in the same part")
    return notes + _contradictions(usable)


def _contradictions(usable: Sequence[Sample]) -> list[str]:
    labels: dict[str, set[str]] = defaultdict(set)
    for sample in usable:
        labels[sample.content].add(sample.label or "")
    torn = [sorted(names) for names in labels.values() if len(names) > 1]
    if not torn:
        return []
    return [
        f"{len(torn):,} images appear under more than one class, for example as "
        + " and ".join(torn[0])
    ]

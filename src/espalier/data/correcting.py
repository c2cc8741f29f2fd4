"""What accepted corrections make of a data set: in memory, no file of a person's is touched."""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from espalier.data import torchvision_sets
from espalier.data.corrections import Corrections, Proposal, first_few
from espalier.errors import DataError
from espalier.findings import CorrectionAction, listed
from espalier.records import Sample, Split

Samples = tuple[Sample, ...]
Notes = tuple[str, ...]
# Position of a sample -> the accepted rows about it, each different one once.
_Rows = Mapping[int, Sequence[Proposal]]

_DONE: dict[CorrectionAction, str] = {
    "drop": "dropped",
    "relabel": "relabelled",
    "move": "moved",
    "group": "grouped",
}


def with_corrections(
    samples: tuple[Sample, ...],
    table: Corrections | None,
    folder: str | None,
    classes: Sequence[str] | None,
) -> tuple[tuple[Sample, ...], Mapping[str, Split], tuple[str, ...]]:
    """Corrected samples; ``sample_id`` -> part of those that were moved; and notes.

    Without a table they stay as they are.
    """
    if table is None:
        return samples, {}, ()
    moves = accepted_moves(samples, table, folder=folder)
    corrected, notes = apply_corrections(samples, table, folder=folder, classes=classes)
    return corrected, moves, notes


def apply_corrections(
    samples: Sequence[Sample],
    corrections: Corrections,
    *,
    folder: str | None = None,
    classes: Sequence[str] | None = None,
) -> tuple[Samples, Notes]:
    """The samples as accepted corrections want them, in the same order; and notes for a person.

    A dropped sample stays, with the status ``dropped`` and the reason; any other that is changed
    says in its reason what was changed. A group that an image is put into takes in the group that
    it was in, so that what belonged together still does.

    Args:
        samples: As they were read.
        corrections: As ``read_corrections`` gives them.
        folder: What paths in the table are relative to.
        classes: Where a person has named the classes: those that may not lose all their images.

    Raises:
        DataError: No row is about any of the samples, accepted rows contradict each other, or a
            class would lose its last image.
    """
    found = _Found(samples, corrections, folder)
    _check_any(found)
    _check_agreement(found)
    known = {sample.label for sample in samples if sample.status == "ok"}
    changed = [_corrected(s, found.rows.get(i, ()), known) for i, s in enumerate(samples)]
    grouped, company = _with_groups(changed, found.rows)
    _check_emptied(samples, grouped, found, classes)
    notes = [*_count_notes(found), *_missing_notes(found), *_label_notes(samples, grouped)]
    if company:
        notes.append(f"{company:,} images come along: the group they were in joined another")
    return grouped, tuple(notes)


def accepted_moves(
    samples: Sequence[Sample], corrections: Corrections, *, folder: str | None = None
) -> dict[str, Split]:
    """``sample_id`` -> the part it was moved to, of images that were not dropped as well."""
    rows = _Found(samples, corrections, folder).rows
    return {
        samples[i].sample_id: cast(Split, row.value)
        for i, about in rows.items()
        for row in about
        if row.action == "move" and not _is_dropped(about)
    }


@dataclass(frozen=True)
class _Place:
    """Where the images of a data set are found."""

    by_id: Mapping[str, int]
    by_path: Mapping[str, int]
    copies: Mapping[str, Sequence[int]]
    folder: str

    def at(self, path: str) -> int | None:
        """Position of the image with this path, absolute or relative to the data folder."""
        for text in (path, unicodedata.normalize("NFC", path.strip())):
            place = text if torchvision_sets.is_address(text) else self._absolute(text)
            if text and place in self.by_path:
                return self.by_path[place]
        return None

    def of(self, row: Proposal) -> int | None:
        """Position of the image that a row is about."""
        named = self.at(row.path)
        if not row.sample:
            return named
        copies = self.copies.get(row.content, ())
        if named in copies:
            return named
        if not row.path.strip():
            return self.by_id.get(row.sample)
        # Its file has another name now, or is gone and this is a copy that was meant to be kept.
        return copies[0] if len(copies) == 1 and row.action != "drop" else None

    def _absolute(self, text: str) -> str:
        return os.path.abspath(os.path.join(self.folder, os.path.expanduser(text)))


def _place(samples: Sequence[Sample], folder: str | None) -> _Place:
    copies: dict[str, list[int]] = defaultdict(list)
    for i, sample in enumerate(samples):
        copies[sample.content].append(i)
    exact = {sample.path: i for i, sample in enumerate(samples)}
    # A spreadsheet may save an accented name in its other spelling.
    composed = {unicodedata.normalize("NFC", path): i for path, i in exact.items()}
    by_id = {sample.sample_id: i for i, sample in enumerate(samples)}
    return _Place(by_id, {**composed, **exact}, copies, folder or "")


class _Found:
    """What the rows of a table are about."""

    def __init__(
        self, samples: Sequence[Sample], corrections: Corrections, folder: str | None
    ) -> None:
        place = _place(samples, folder)
        self.samples = samples
        self.file = corrections.file
        self.proposed = len(corrections.proposals)
        self.accepted = 0
        self.matches = 0
        self.missing: list[str] = []
        rows: dict[int, dict[tuple[str, str], Proposal]] = defaultdict(dict)
        for row in corrections.proposals:
            at = place.of(row)
            self.matches += at is not None
            self.accepted += row.accepted
            if row.accepted and at is None:
                self.missing.append(_missing(row, place))
            elif row.accepted and at is not None:
                rows[at].setdefault((row.action, row.value), row)
        self.rows: _Rows = {at: tuple(about.values()) for at, about in rows.items()}


def _missing(row: Proposal, place: _Place) -> str:
    changed = ", changed since" if row.sample and place.at(row.path) is not None else ""
    return f"row {row.row}: {row.path or row.sample}{changed}"


def _is_dropped(about: Iterable[Proposal]) -> bool:
    return any(row.action == "drop" for row in about)


def _check_any(found: _Found) -> None:
    if found.proposed and not found.matches:
        raise DataError(
            f"none of the {found.proposed:,} corrections of {found.file} is about these images",
            problems=first_few(found.missing),
            hint="name the corrections of this data set; espalier audit PHOTOS writes them",
        )


def _check_agreement(found: _Found) -> None:
    problems = [
        problem
        for at in sorted(found.rows)
        for actions in (("drop", "relabel"), ("move",))
        for problem in _clash(found.samples[at], [r for r in found.rows[at] if r.action in actions])
    ]
    if problems:
        raise DataError(
            f"corrections of {found.file} contradict each other",
            problems=first_few(problems),
            hint="write no into the column accepted of all but one of these rows",
        )


def _clash(sample: Sample, about: Sequence[Proposal]) -> list[str]:
    if len(about) < 2:
        return []
    wanted = " and ".join(f"{_DONE[row.action]} {_target(row)}".strip() for row in about)
    rows = " and ".join(str(row.row) for row in about)
    return [f"rows {rows}: {sample.path} is to be {wanted}"]


def _target(row: Proposal) -> str:
    joint = {"drop": "", "relabel": "as ", "move": "to ", "group": "with "}
    return f"{joint[row.action]}{row.value}"


def _corrected(sample: Sample, about: Sequence[Proposal], known: set[str | None]) -> Sample:
    """One sample as the rows about it want it; groups come later, because they may join."""
    if not about:
        return sample
    dropping = next((row for row in about if row.action == "drop"), None)
    if dropping is not None:
        reason = dropping.reason or sample.reason or "a person left it out"
        return replace(sample, status="dropped", reason=reason)
    said = [] if sample.status == "ok" else [sample.reason]
    for row in about:
        said.append(_said(sample, row))
        if row.action == "relabel":
            label = row.value if row.value in known else row.value.strip()
            sample = replace(sample, label=label)
        elif row.action == "move":
            sample = replace(sample, split=cast(Split, row.value))
    return replace(sample, reason="; ".join(said))


def _said(sample: Sample, row: Proposal) -> str:
    before = {"relabel": sample.label, "move": sample.split}.get(row.action)
    text = _DONE[row.action] + (f" from {before}" if before else "")
    return f"{text}: {row.reason}" if row.reason else text


def _with_groups(samples: Sequence[Sample], rows: _Rows) -> tuple[Samples, int]:
    """The samples in their groups, and how many others came along with one of them."""
    joined: dict[str, str] = {}

    def root(group: str) -> str:
        while (above := joined.get(group)) is not None:
            joined[group] = joined.get(above, above)
            group = above
        return group

    put = {i: [row.value.strip() for row in rows[i] if row.action == "group"] for i in rows}
    put = {i: names for i, names in put.items() if names and samples[i].status != "dropped"}
    for i, names in put.items():
        was = samples[i].group
        for other in [*names[1:], *([was] if was else [])]:
            if root(other) != root(names[0]):
                joined[root(other)] = root(names[0])
    groups = {i: root(names[0]) for i, names in put.items()}
    found = tuple(
        replace(s, group=groups.get(i) or (root(s.group) if s.group else None))
        for i, s in enumerate(samples)
    )
    return found, sum(s.group != f.group for s, f in zip(samples, found, strict=True)) - sum(
        samples[i].group != group for i, group in groups.items()
    )


def _check_emptied(
    before: Sequence[Sample],
    after: Sequence[Sample],
    found: _Found,
    classes: Sequence[str] | None,
) -> None:
    """A class whose images were all dropped is most likely a mistake; one relabelled is merged."""
    left = {sample.label for sample in after if sample.status == "ok"}
    gone: dict[str, list[int]] = defaultdict(list)
    for i, sample in enumerate(before):
        if sample.status == "ok" and sample.label and sample.label not in left:
            gone[sample.label].append(i)
    problems = [
        f"`{label}`: all {len(at):,} images are dropped, by rows {_row_numbers(found, at)}"
        for label, at in sorted(gone.items())
        if all(after[i].status == "dropped" for i in at) and (classes is None or label in classes)
    ]
    if problems:
        kept = ", ".join(sorted(label for label in left if label))
        raise DataError(
            f"the corrections {found.file} leave no image of {len(problems)} of the classes",
            problems=problems,
            hint="write no into the column accepted of some of these rows, or relabel the images; "
            f"to do without such a class: --set 'data.classes=[{kept}]'",
        )


def _row_numbers(found: _Found, at: Sequence[int]) -> str:
    numbers = sorted(row.row for i in at for row in found.rows[i] if row.action == "drop")
    return listed([str(number) for number in numbers])


def _count_notes(found: _Found) -> list[str]:
    """``12 of 14 corrections applied: 9 dropped, 3 relabelled``, and what was not accepted."""
    if not found.accepted:
        return [_nothing_accepted(found)]
    done = Counter(
        row.action
        for about in found.rows.values()
        for row in about
        if row.action == "drop" or not _is_dropped(about)
    )
    moot = sum(map(len, found.rows.values())) - done.total()
    total = done.total() + moot + len(found.missing)
    figures = ", ".join(f"{done[a]:,} {_DONE[a]}" for a in _DONE if done[a])
    text = f"{done.total():,} of {total:,} corrections applied" + (figures and f": {figures}")
    refused = found.proposed - found.accepted
    notes = [f"{text}; {refused:,} more are not accepted" if refused else text]
    if moot:
        notes.append(f"{moot:,} corrections have no effect: their images are dropped as well")
    return notes


def _nothing_accepted(found: _Found) -> str:
    if not found.proposed:
        return f"{found.file} holds no corrections"
    return (
        f"none of the {found.proposed:,} corrections of {found.file} is accepted, so nothing is "
        "changed: write yes into the column accepted of the rows that are right"
    )


def _missing_notes(found: _Found) -> list[str]:
    if not found.missing:
        return []
    what = "correction names an image" if len(found.missing) == 1 else "corrections name images"
    return [f"{len(found.missing):,} {what} that the data no longer hold: {listed(found.missing)}"]


def _label_notes(before: Sequence[Sample], after: Sequence[Sample]) -> list[str]:
    """Notes on classes that corrections make, and on classes that they merge into others."""
    old = {sample.label for sample in before if sample.label}
    usable = Counter(sample.label for sample in after if sample.status == "ok" and sample.label)
    notes = []
    for label in sorted(set(usable) - old):
        images = "1 image makes" if usable[label] == 1 else f"{usable[label]:,} images make"
        near = difflib.get_close_matches(label.lower(), [name.lower() for name in old], n=1)
        guess = next((name for name in sorted(old) if [name.lower()] == near), None)
        notes.append(
            f"{images} a new class `{label}`" + (f"; did you mean `{guess}`?" if guess else "")
        )
    had = {sample.label for sample in before if sample.status == "ok" and sample.label}
    if gone := sorted(had - set(usable)):
        notes.append(f"no longer a class, because its images are corrected: {listed(gone)}")
    return notes

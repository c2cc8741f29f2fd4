"""An audit, in order: photographs -> looks -> features -> copies -> findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import espalier.audit.rules
from espalier import cache
from espalier.audit.copies import find_pairs
from espalier.audit.looks import look_at_all
from espalier.audited import Audited
from espalier.auditing.features import embed, with_probabilities
from espalier.data.images import Pixels, read_image
from espalier.errors import EspalierError
from espalier.findings import Report
from espalier.preparation import (
    Prepared,
    Progress,
    catalog_of,
    open_pictures,
    settle,
    with_full_paths,
)
from espalier.recipe.schema import Recipe
from espalier.records import Sample
from espalier.rules import rules_in, run_rules
from espalier.train.devices import detect_machine
from espalier.train.loaders import judged_imgsz

Note = Callable[[str], None]
THUMBNAIL_SIDE = 160


@dataclass(frozen=True)
class Audit:
    """What an audit gathered and what its rules said of it.

    Attributes:
        recipe: As far as it was decided.
        audited: The data set.
        report: The findings, what was in order, and what could not be judged.
    """

    recipe: Recipe
    audited: Audited
    report: Report


def audit_photos(
    recipe: Recipe,
    *,
    features: bool = True,
    note: Note = lambda text: None,
    progress: Mapping[str, Progress] | None = None,
) -> Audit:
    """Look at every photograph that a recipe names, and say what is wrong with them.

    Args:
        recipe: Names photographs, backbone, weights and resolution; nothing is trained.
        features: Whether a frozen backbone looks at them, too; without weights it cannot.
        note: Told how the data was read and corrected, and what else a person should read.
        progress: Told ``(done, total)`` under ``read``, ``look`` and ``compare``.

    Raises:
        DataError: There is no image.
    """
    tell = progress or {}
    machine = detect_machine()
    store, _ = open_pictures(recipe, machine)
    catalog = catalog_of(recipe, tell.get("read"), store, complete=False)
    for text in catalog.notes:
        note(text)
    recipe = with_full_paths(settle(recipe, catalog, machine))
    prepared = Prepared(recipe, catalog, machine, store)
    # A painted picture is a near copy of its photograph on purpose.
    readable = [s for s in catalog.samples if s.status == "ok" and not s.origin]
    looks, hashes = look_at_all(
        readable, folder=cache.cache_folder("looks"), progress=tell.get("look")
    )
    embedded, unknown = embed(prepared, note) if features else (None, "they were not asked for")
    pairs = find_pairs(
        readable,
        hashes,
        None if embedded is None else embedded.features,
        () if embedded is None else embedded.sample_ids,
        progress=tell.get("compare"),
    )
    audited = Audited(
        catalog=catalog,
        given_split=catalog.given_split,
        looks=looks,
        pairs=pairs,
        embedded=None if embedded is None else with_probabilities(embedded, catalog, pairs),
        unknown={"embedded": f"no features of the images: {unknown}"} if unknown else {},
        imgsz=judged_imgsz(recipe, recipe.stages[-1]),
    )
    return Audit(recipe, audited, judge(audited))


def judge(audited: Audited) -> Report:
    """What all audit rules say of a data set."""
    return run_rules(rules_in(espalier.audit.rules), audited)


def thumbnail_of(sample: Sample) -> Pixels | None:
    """A small picture of a sample; None where it cannot be read any more."""
    try:
        return read_image(sample.path, at_least=THUMBNAIL_SIDE)
    except EspalierError:
        return None

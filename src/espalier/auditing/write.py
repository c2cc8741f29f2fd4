"""What an audit leaves behind: findings, corrections to accept, pictures, and one page of all."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from espalier import files, runs
from espalier.audit.balance import advice
from espalier.audit.groups import in_turn
from espalier.auditing.gather import Audit, thumbnail_of
from espalier.data.catalog import write_catalog
from espalier.data.corrections import write_corrections
from espalier.data.images import read_image
from espalier.data.torchvision_sets import is_address
from espalier.data.transforms import EvalTransform, TrainTransform, at_least_for
from espalier.errors import EspalierError
from espalier.recipe.policies import POLICIES, resolve_steps
from espalier.recipe.schema import Recipe
from espalier.records import SPLITS, Sample
from espalier.report.audit_difficulty import class_difficulty, draw_difficulty
from espalier.report.audit_galleries import draw_augmented, draw_gallery
from espalier.report.audit_map import draw_map_of
from espalier.report.audit_page import write_page
from espalier.report.audit_pictures import draw_classes, draw_weights

PHOTOGRAPHS_SHOWN = 6
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class AuditFiles:
    """What an audit wrote.

    Attributes:
        folder: Where.
        page: ``audit.html``; None where no pictures were wanted.
        corrections: ``corrections.csv``; None where nothing is to be corrected.
        source: The photographs.
    """

    folder: Path
    page: Path | None
    corrections: Path | None
    source: str

    def lines(self) -> list[str]:
        """Where things are, and the next command."""
        lines = [f"findings     {self.folder / 'findings.json'}"]
        if self.page is not None:
            lines.append(f"pictures     {self.page}")
        if self.corrections is not None:
            photos, table = shlex.quote(self.source), shlex.quote(str(self.corrections))
            lines += [
                f"corrections  {self.corrections}",
                "             write yes behind those that you accept, then:",
                f"             espalier train {photos} --corrections {table}",
            ]
        return lines


def default_name(recipe: Recipe) -> str:
    """The name of an audit's folder: that of the photographs."""
    source = str(recipe.data.source)
    name = source.partition(":")[2] if is_address(source) else Path(source).resolve().stem
    return name or "audit"


def open_folder(out: Path, name: str) -> Path:
    """Make ``out/name``, or ``name-2``, ``name-3`` ... where it is taken.

    Raises:
        RunError: The folder cannot be written to, or the name is no plain folder name.
    """
    return runs.make_folder(out, name)


def write_audit(
    audit: Audit, folder: Path, *, visualize: bool = True, augmented: bool = False
) -> AuditFiles:
    """Write what was found into a folder of its own.

    Args:
        audit: What was found.
        folder: A new one, as ``open_folder`` makes it.
        visualize: Draw pictures and write ``audit.html``.
        augmented: Draw what each augmentation policy makes of some photographs, too.

    Raises:
        DiskError: A file could not be written.
    """
    catalog = audit.audited.catalog
    write_catalog(catalog, folder / "catalog.csv")
    files.write_text(folder / "findings.json", json.dumps(report_json(audit), indent=2) + "\n")
    corrections = folder / "corrections.csv"
    suggested = any(case.corrections for f in audit.report.findings for case in f.cases)
    if suggested:
        write_corrections(audit.report, catalog, corrections)
    pictures = draw_all(audit, folder, augmented=augmented) if visualize else {}
    if augmented and not visualize:
        draw_policies(audit, folder / "augmented.jpg")
    page = folder / "audit.html"
    if visualize:
        write_page(audit.audited, audit.report, pictures, thumbnail_of, page)
    return AuditFiles(
        folder,
        page if visualize else None,
        corrections if suggested else None,
        str(catalog.source),
    )


def report_json(audit: Audit) -> dict[str, Any]:
    """The object of ``findings.json`` and ``--json``; cases name the files that they are about."""
    record = audit.report.to_json()
    catalog = audit.audited.catalog
    record["notes"] += catalog.notes
    paths = {sample.sample_id: sample.path for sample in catalog.samples}
    for finding in record["findings"]:
        for case in finding["cases"]:
            case["paths"] = [paths[sample] for sample in case["samples"] if sample in paths]
    return {"source": str(catalog.source), **record}


def draw_all(audit: Audit, folder: Path, *, augmented: bool) -> Mapping[str, Path]:
    """Draw every picture that the data allow; name -> file."""
    catalog = audit.audited.catalog
    counts: dict[str, dict[str, int]] = {
        split: catalog.counts(split) for split in SPLITS if catalog.in_split(split)
    }
    made: dict[str, Path] = {}
    if catalog.classes:
        made["classes"] = draw_classes(counts, folder / "classes.png")
        made |= draw_weighting(audit, folder)
    if augmented and draw_policies(audit, folder / "augmented.jpg"):
        made["augmented"] = folder / "augmented.jpg"
    made |= draw_embedded(audit, folder)
    for finding in audit.report.findings:
        place = folder / "galleries" / f"{finding.rule}.jpg"
        if any(case.samples for case in finding.cases):
            place.parent.mkdir(exist_ok=True)
            draw_gallery(
                finding, audit.audited.samples, thumbnail_of, place, source=str(catalog.source)
            )
    return made


def draw_weighting(audit: Audit, folder: Path) -> Mapping[str, Path]:
    """Draw the class weights of each strategy; nothing where there is nothing to train on."""
    counts = {name: n for name, n in audit.audited.catalog.counts("train").items() if n}
    if not counts:
        return {}
    strategies = [(s.name, [s.weights[name] for name in counts]) for s in advice(counts)]
    numbers = list(counts.values())
    return {
        "weights": draw_weights(list(counts), numbers, strategies, folder / "weights.png"),
    }


def draw_embedded(audit: Audit, folder: Path) -> Mapping[str, Path]:
    """Draw the map of the images and how hard each class is; nothing without features."""
    made: dict[str, Path] = {}
    if (drawn := draw_map_of(audit.audited, folder / "map.png")) is not None:
        made["map"] = drawn
    embedded = audit.audited.embedded
    if embedded is not None and (hard := class_difficulty(embedded, audit.audited.catalog.classes)):
        made["difficulty"] = draw_difficulty(hard, folder / "difficulty.png")
    return made


def draw_policies(audit: Audit, path: Path) -> bool:
    """Draw some training photographs as each policy makes them, that of the recipe first.

    Returns:
        Whether there was a photograph to draw.
    """
    recipe, catalog = audit.recipe, audit.audited.catalog
    by_turns = in_turn(catalog.in_split("train"), lambda sample: sample.label)
    chosen = by_turns[:PHOTOGRAPHS_SHOWN]
    imgsz = audit.audited.imgsz
    own = recipe.augment.policy
    policies = [own, *(name for name in POLICIES if name not in (own, "none"))]
    recipes = {name: with_policy(recipe, name, own) for name in policies}
    least = max(at_least_for(recipe, [imgsz]) for recipe in recipes.values())
    pictures = [pixels for sample in chosen if (pixels := _read(sample, least)) is not None]
    if not pictures:
        return False
    plain = EvalTransform(imgsz, recipe.data.fit, recipe.data.crop_share)
    examples = {}
    for name, changed in recipes.items():
        steps = resolve_steps(changed.augment.policy, changed.augment.steps)
        transform = TrainTransform(imgsz, recipe.data.fit, steps)
        examples[name] = np.stack(
            [
                transform(p, np.random.default_rng((recipe.training.seed, i)))
                for i, p in enumerate(pictures)
            ]
        )
    draw_augmented(examples, np.stack([plain(p) for p in pictures]), path)
    return True


def with_policy(recipe: Recipe, name: str, own: str) -> Recipe:
    """The recipe with another augmentation policy; changed steps belong to its own."""
    steps = recipe.augment.steps if name == own else None
    augment = recipe.augment.model_copy(update={"policy": name, "steps": steps})
    return recipe.model_copy(update={"augment": augment})


def _read(sample: Sample, at_least: int) -> Pixels | None:
    try:
        return read_image(sample.path, at_least=at_least)
    except EspalierError:
        return None

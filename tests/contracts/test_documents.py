"""What the documents say of files, columns, fields and presets is what there is."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from espalier.models.checkpoints import Checkpoint
from espalier.recipe.load import presets
from espalier.records import EpochRow, Sample
from espalier.train.keep import train_line, val_line
from espalier.train.vitals import step_row

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "guide"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@cache
def tree() -> ModuleType:
    """``docs/tree.py``, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("tree", ROOT / "docs" / "tree.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def unnamed(names: set[str], page: str) -> list[str]:
    """Names that a page does not show as code, alone or in a list of names."""
    shown = " ".join(re.findall(r"`([^`\n]+)`", page) + re.findall(r"```\w*\n(.*?)```", page, re.S))
    return sorted(name for name in names if not re.search(rf"\b{re.escape(name)}\b", shown))


def test_layers_and_tree_are_up_to_date() -> None:
    page = read("ARCHITECTURE.md")
    assert "<!-- tree -->" in page
    assert "<!-- layers -->" in page
    assert page == tree().filled(page), "ARCHITECTURE.md is not what the source says: `make docs`"


def test_every_file_of_the_tree_says_what_it_is_for() -> None:
    assert not [line for line in tree().tree()[1:] if len(line.split()) < 2]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    links = LINK.findall(page.read_text(encoding="utf-8"))
    inside = [link for link in links if "://" not in link]
    assert not [link for link in inside if not (page.parent / link).exists()]


def test_paths_in_code_exist() -> None:
    """Paths of the repository that a page names as code."""
    gone = set()
    for page in PAGES:
        for path in re.findall(r"`((?:src|docs|tests|recipes)/[\w./-]+)`", page.read_text("utf-8")):
            if not (ROOT / path).exists():
                gone.add(f"{page.name}: {path}")
    assert not gone


def test_the_run_folder_page_names_every_column_and_field() -> None:
    row = EpochRow(**{f.name: 0 for f in dataclasses.fields(EpochRow)})  # type: ignore[arg-type]
    steps = step_row(step=1, stage="", epoch=1, loss=0, rate=0, norm=0, clip=None)
    names = {
        *dataclasses.asdict(row),
        *(field.name for field in dataclasses.fields(Sample)),
        *train_line(row),
        *val_line(row),
        *steps,
        *(Checkpoint.__required_keys__ | Checkpoint.__optional_keys__) - {"notes"},
    }
    assert not unnamed(names, (GUIDE / "run-folder.md").read_text(encoding="utf-8"))


def test_the_training_page_and_the_changelog_name_every_preset() -> None:
    known = set(presets())
    assert not unnamed(known, (GUIDE / "training.md").read_text(encoding="utf-8"))
    assert not unnamed(known, read("CHANGELOG.md"))


def test_decisions_are_numbered_without_gaps() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [int(path.name[:4]) for path in records]
    assert numbers == list(range(1, len(numbers) + 1))
    titles = [path.read_text(encoding="utf-8")[:7] for path in records]
    assert titles == [f"# {number:04d}:" for number in numbers]

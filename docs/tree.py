"""Writes the layers and the tree of ARCHITECTURE.md from the source: ``python docs/tree.py``.

Every page at the root that holds ``<!-- tree -->`` or ``<!-- layers -->``, each with its closing
mark, gets what stands between the marks anew.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "espalier"
COLUMN = 26
# What has no docstring to read.
PLAIN = {
    "py.typed": "Tells type checkers that the annotations can be trusted",
    "presets": "Recipes by name; the first line of each says what it is for",
}


def layers() -> list[str]:
    """The rows of the import layers in pyproject.toml, from the top down."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    rows = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [row.replace("espalier.", "") for row in rows]


def tree() -> list[str]:
    """One line per file and folder of the package; what lies highest in the layers comes first."""
    ranked = [name.strip() for row in layers() for name in row.split("|")]
    return ["src/espalier/", *_entries(PACKAGE, 1, ["__init__", *ranked])]


def _entries(folder: Path, depth: int, ranked: list[str]) -> Iterator[str]:
    def place(path: Path) -> tuple[int, bool, str]:
        rank = ranked.index(path.stem) if path.stem in ranked else len(ranked)
        return rank, path.is_dir(), path.name

    for path in sorted(filter(_is_source, folder.iterdir()), key=place):
        if path.name == "__init__.py" and depth > 1:
            continue
        name = "  " * depth + path.name + ("/" if path.is_dir() else "")
        yield f"{name:<{COLUMN}}{_purpose(path)}".rstrip()
        if path.is_dir():
            yield from _entries(path, depth + 1, [])


def _is_source(path: Path) -> bool:
    if path.is_dir():
        return any(map(_is_source, path.iterdir()))
    return path.suffix in (".py", ".yaml") or path.name in PLAIN


def _purpose(path: Path) -> str:
    """The first sentence of a docstring, or the first line of a preset behind its name."""
    if path.name in PLAIN:
        return PLAIN[path.name]
    if path.suffix == ".yaml":
        return path.read_text(encoding="utf-8").partition("\n")[0].partition(": ")[2]
    module = path / "__init__.py" if path.is_dir() else path
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    first = " ".join(text.partition("\n\n")[0].split()).partition(". ")[0]
    return first.replace("``", "").rstrip(".")


def filled(page: str) -> str:
    """The text of a page with what lies between its marks made anew."""
    for mark, lines in (("layers", layers()), ("tree", tree())):
        block = "\n".join([f"<!-- {mark} -->", "```text", *lines, "```", f"<!-- /{mark} -->"])
        pattern = re.compile(f"<!-- {mark} -->.*?<!-- /{mark} -->", re.DOTALL)
        page = pattern.sub(block.replace("\\", "\\\\"), page)
    return page


def main() -> None:
    """Writes every page at the root that has marks."""
    for path in sorted(ROOT.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if filled(text) != text:
            path.write_text(filled(text), encoding="utf-8")


if __name__ == "__main__":
    main()

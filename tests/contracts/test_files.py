"""What may be in the repository, file by file."""

from __future__ import annotations

import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 1_000_000
NAMES_WITHOUT_A_MEANING = re.compile(r"^(utils?|helpers?|common|misc|\w*manager|\w*factory)\.py$")
TEXT = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".ipynb", ".cfg", ".sh", ""}
UNFINISHED = re.compile(r"\b(NotImplementedError|TODO|FIXME|XXX)\b")
# A path of one machine, or the host of a package index, works for nobody else.
ONE_MACHINE = re.compile(r"(?<![\w.~}$*])/(work|tmp|root|home)/\w")
INDEX_HOST = re.compile(r"--(extra-)?index-url|https?://[^\s/]+/simple\b")


@cache
def repository_files() -> tuple[Path, ...]:
    """Every file that is in the repository or would enter it with the next commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode != 0:
        pytest.skip("needs git and a clone")
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return tuple(path for path in paths if path.is_file())


def lines_that_match(pattern: re.Pattern[str], folder: str = "") -> list[str]:
    found = []
    for path in repository_files():
        name = path.relative_to(ROOT).as_posix()
        if path.suffix not in TEXT or path == Path(__file__) or not name.startswith(folder):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if pattern.search(line):
                found.append(f"{name}:{number}: {line.strip()[:80]}")
    return found


def test_no_file_is_large() -> None:
    large = [path.name for path in repository_files() if path.stat().st_size > LARGEST]
    assert not large


def test_every_module_is_named_after_what_it_holds() -> None:
    nameless = [p.name for p in repository_files() if NAMES_WITHOUT_A_MEANING.match(p.name)]
    assert not nameless


def test_nothing_is_unfinished() -> None:
    assert not lines_that_match(UNFINISHED, "src/")


def test_no_path_of_one_machine() -> None:
    assert not lines_that_match(ONE_MACHINE)


def test_no_host_of_a_package_index() -> None:
    assert not lines_that_match(INDEX_HOST)


def test_source_files_are_short() -> None:
    long = [
        f"{path.name}: {length} lines"
        for path in repository_files()
        if path.suffix == ".py"
        and path.is_relative_to(ROOT / "src")
        and (length := len(path.read_text(encoding="utf-8").splitlines())) > 400
    ]
    assert not long


def test_test_files_have_different_names() -> None:
    """Without packages, two test modules of one name cannot be collected together."""
    names = [path.name for path in repository_files() if path.match("tests/**/test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_constraints_pin_every_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(line for extra in extras for line in extra)]
    names = {re.split(r"[^\w.-]", line)[0].lower() for line in wanted} - {"espalier"}
    pinned = re.findall(
        r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {name.lower() for name in pinned} == names

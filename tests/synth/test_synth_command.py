"""The command: results on standard output, notes beside it, errors with code 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from drawn_objects import photographs


def run(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from espalier.cli import main; main(['synth', *sys.argv[1:]])"
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ)


def test_pictures_top_up_and_reached(tmp_path: Path) -> None:
    photographs(tmp_path / "photos" / "clean", 2)
    first = run("dirty", "photos/clean", "--json", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    found = json.loads(first.stdout)
    assert (found["made"], found["photographs"], found["is_enough"]) == (4, 2, True)
    assert (tmp_path / "synthetic-dirty" / "synthetic.csv").is_file()
    again = run("dirty", "photos/clean", "--ratio", "2", folder=tmp_path)
    assert again.returncode == 0
    assert "already reached: 4 dirty (0 real, 4 painted) to 2 photographs" in again.stdout


def test_a_wrong_order_is_a_message(tmp_path: Path) -> None:
    photographs(tmp_path / "clean", 1)
    wrong = run("dirty", "clean", "-o", "clean/new", "--json", folder=tmp_path)
    assert wrong.returncode == 2
    assert "lie in one another" in json.loads(wrong.stdout)["error"]["error"]
    both = run("dirty", "clean", "--ratio", "2", "--variations", "3", folder=tmp_path)
    assert both.returncode == 2
    assert "either" in both.stderr

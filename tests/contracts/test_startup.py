"""``espalier --help`` answers at once, because nothing heavy is imported for it."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "timm", "lightning_fabric", "sklearn", "matplotlib", "pandas")
RUN_HELP = """
import sys
from espalier.cli import main
sys.argv = ["espalier", *{arguments!r}]
try:
    code = main()
except SystemExit as end:
    code = end.code
heavy = [name for name in {heavy!r} if name in sys.modules]
print("IMPORTED", *heavy)
sys.exit(code or 0)
"""
SECONDS = 1.0  # 0.4 is the aim; the rest is room for a busy machine


def ask(*arguments: str) -> tuple[float, str]:
    """CPU-seconds used and the output."""
    code = RUN_HELP.format(arguments=list(arguments), heavy=HEAVY)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout + done.stderr
    return after.ru_utime - before.ru_utime, done.stdout


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    answers = [ask("--help") for _ in range(3)]
    assert min(seconds for seconds, _ in answers) < SECONDS
    assert "train" in answers[0][1]
    assert answers[0][1].splitlines()[-1].split() == ["IMPORTED"]


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "plot", "compare", "models"])
def test_help_of_a_command_imports_no_torch(command: str) -> None:
    _, output = ask(command, "--help")
    assert "torch" not in output.splitlines()[-1].split()

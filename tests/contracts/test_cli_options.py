"""The command line is a promise: options do not come, go or change their names unnoticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from espalier.cli.reference import commands, markdown, option_lines

ROOT = Path(__file__).resolve().parents[2]
FROZEN = Path(__file__).with_name("cli_options.txt")


def test_options_are_the_frozen_ones() -> None:
    frozen = FROZEN.read_text(encoding="utf-8").splitlines()
    now = option_lines()
    gone, new = sorted(set(frozen) - set(now)), sorted(set(now) - set(frozen))
    assert now == frozen, (
        f"gone: {gone}; new: {new}. If that is meant, say so in CHANGELOG.md and run `make docs`"
    )


def test_reference_page_is_up_to_date() -> None:
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == markdown(), "docs/cli.md is not what the commands say; run `make docs`"


def test_every_command_and_option_says_what_it_is_for() -> None:
    silent = []
    for name, command, context in commands():
        if not command.help:
            silent.append(name)
        for parameter in command.get_params(context):
            if parameter.param_type_name == "option" and not parameter.help:
                silent.append(f"{name} {parameter.opts[0]}")
    assert not silent


@pytest.mark.parametrize(
    "words", [["train", "photos", "--no-such-option"], ["trian", "photos"], ["predict"]]
)
def test_a_wrong_command_line_is_a_message_and_exit_code_2(words: list[str]) -> None:
    code = "import sys; from espalier.cli import main; main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_no_words_at_all_show_the_commands() -> None:
    code = "from espalier.cli import main; main([])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "train" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr

"""The examples run as they stand, and say something sensible."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def python_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    return runpy.run_path(str(EXAMPLES / "python_api.py"))


def test_python_api_runs_without_arguments_and_leaves_nothing_behind(
    python_api: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python_api["main"]([])
    said = capsys.readouterr().out
    assert "trained, all stages are done" in said
    assert [f"epoch {number} " in said for number in (1, 2, 3, 4)] == [True] * 4
    assert "one epoch more" in said
    assert "test: macro-F1" in said
    assert "72 images classified, 0 could not be read" in said
    assert not list(tmp_path.iterdir())


def test_python_api_ends_with_a_message_on_bad_input(python_api: dict[str, Any]) -> None:
    with pytest.raises(SystemExit, match=r"(?s)does not exist.*try:"):
        python_api["main"](["gone"])


def test_every_example_is_tested() -> None:
    # own_loop.py, lightning_callback.py and huggingface_callback.py: tests/test_own_loop.py
    source = Path(__file__).read_text(encoding="utf-8")
    assert not [path.name for path in EXAMPLES.glob("*.py") if path.name not in source]

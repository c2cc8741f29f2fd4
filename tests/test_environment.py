import json
import subprocess

import pytest

from espalier import environment
from espalier.runs import RunDir


@pytest.fixture
def repository(tmp_path):
    def git(*words):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / "kept.py").write_text("1")
    git("add", "kept.py")
    git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "first")
    return tmp_path


def test_the_commit_is_that_of_the_source_with_a_mark_when_it_is_changed(repository, monkeypatch):
    monkeypatch.setattr(environment, "__file__", str(repository / "kept.py"))
    clean = environment.commit()
    assert clean is not None
    assert len(clean) >= 7
    (repository / "kept.py").write_text("2")
    assert environment.commit() == f"{clean}-dirty"


def test_a_package_inside_somebody_elses_repository_has_no_commit(repository, monkeypatch):
    inside = repository / ".venv" / "espalier"
    inside.mkdir(parents=True)
    (inside / "environment.py").write_text("1")
    monkeypatch.setattr(environment, "__file__", str(inside / "environment.py"))
    assert environment.commit() is None


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "environment.py"))
    assert environment.commit() is None
    monkeypatch.setenv("PATH", "")
    assert environment.commit() is None


def test_a_resumed_run_keeps_the_commands_before(tmp_path, monkeypatch):
    run = RunDir(tmp_path)
    run.environment_file.write_text(
        json.dumps({"commands": ["espalier train photos"], "format": 1})
    )
    monkeypatch.setattr("sys.argv", ["espalier", "train", "--resume", "my run"])
    environment.add_command(run)
    record = run.environment()
    assert record["commands"] == ["espalier train photos", "espalier train --resume 'my run'"]
    assert record["format"] == 1
    assert record["resumed"]

"""Where vital signs lie: ``run.json`` written whole, and lines that are only ever appended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espalier import files
from espalier.run_record import DataFacts, Ended, Preflight, RunFacts, to_plain

FORMAT = 1
RUN_FILE = "run.json"
CONFUSION_FILE = "val_confusion.json"
LOSSES_FILE = "sample_losses.jsonl"
# More classes than this make rows that nobody reads and that cost more than they say.
MOST_CLASSES = 200


@dataclass(frozen=True)
class About:
    """What ``run.json`` holds.

    Attributes:
        tool: ``espalier`` or ``own loop``.
        checks: What training verified of itself, by name.
        start: Vital signs before the first step, by name.
    """

    tool: str
    facts: RunFacts = field(default_factory=RunFacts)
    data: DataFacts = field(default_factory=DataFacts)
    preflight: Preflight = field(default_factory=Preflight)
    ended: Ended = "running"
    why_ended: str = ""
    checks: Mapping[str, Any] = field(default_factory=dict)
    start: Mapping[str, Any] = field(default_factory=dict)


class SignsFolder:
    """The folder of one run's vital signs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, about: About) -> None:
        """Write ``run.json`` whole.

        Raises:
            DiskError: It could not be written.
        """
        plain = {"format": FORMAT, **to_plain(about)}
        files.write_text(self.path / RUN_FILE, json.dumps(plain, indent=1) + "\n")

    def read(self) -> dict[str, Any]:
        """What ``run.json`` says, as plain values; empty where there is none to be read."""
        try:
            plain = json.loads((self.path / RUN_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return plain if isinstance(plain, dict) else {}

    def update(self, **changes: Any) -> None:
        """Change some fields of ``run.json``, where there is one.

        Raises:
            DiskError: It could not be written.
        """
        plain = self.read()
        if plain:
            text = json.dumps({**plain, **to_plain(changes)}, indent=1)
            files.write_text(self.path / RUN_FILE, text + "\n")

    def write_confusion(
        self, epoch: int, classes: Sequence[str], counts: Sequence[Sequence[int]]
    ) -> None:
        """Write the confusion matrix of the last validation: rows are true classes."""
        if len(counts) <= MOST_CLASSES:
            plain = {"epoch": epoch, "classes": list(classes), "counts": [list(r) for r in counts]}
            files.write_text(self.path / CONFUSION_FILE, json.dumps(plain) + "\n")

    def append_losses(self, epoch: int, ids: Sequence[str], losses: Sequence[float]) -> None:
        """Append the clean losses of the probe's images, to four digits."""
        path = self.path / LOSSES_FILE
        if not path.exists():
            files.append_row(path, {"ids": list(ids)})
        rounded = [float(f"{loss:.4g}") for loss in losses]
        files.append_row(path, {"epoch": epoch, "losses": rounded})

    def rewind(self, epoch: int) -> None:
        """Drop what was written after an epoch: a resumed run writes it again."""
        path = self.path / LOSSES_FILE
        if path.exists():
            files.keep_rows_until(path, epoch, clock="epoch")

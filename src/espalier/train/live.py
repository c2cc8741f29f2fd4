"""A run looked at while it trains: findings are told once they are certain, and may end it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from espalier.findings import Finding
from espalier.records import EpochRow, History
from espalier.train.watch import Several, Unwatched, Watch

# A finding is certain when its rule is nearly always right, or when it holds two looks in a row.
CERTAIN = 0.95
LOOKS = 2
# Of the time that passes, for looking: training must not notice.
LOOKING_SHARE = 0.01


@runtime_checkable
class MayEnd(Protocol):
    """A watch that may want training to end after the epoch that it was just told of."""

    def reason_to_end(self) -> str:
        """Why training should end in good order; empty while it should go on."""


def reason_to_end(watch: Watch) -> str:
    """Why one of those who watch wants training to end; empty where nobody does."""
    if isinstance(watch, Several):
        return next(filter(None, map(reason_to_end, watch.watches)), "")
    return watch.reason_to_end() if isinstance(watch, MayEnd) else ""


class LiveFindings(Unwatched):
    """Looks at a run after its epochs, tells each certain finding once, and may end the run.

    Between two looks so much time passes that looking takes ``LOOKING_SHARE`` of it; the first
    epochs, when most faults show, are looked at as long as looking takes less than a second.

    Args:
        look: Gives what is wrong with the run so far; what only a finished run can tell is not
            among it. It gets the history of the epoch.
        tell: Told each finding once, when it is certain.
        stop: Whether a certain finding that harms the result ends the run.
    """

    def __init__(
        self,
        look: Callable[[History], Sequence[Finding]],
        tell: Callable[[Finding], None],
        *,
        stop: bool = False,
    ) -> None:
        self.look, self.tell, self.stop = look, tell, stop
        self.told: dict[str, Finding] = {}
        self._held: dict[str, int] = {}
        self._due = 0.0
        self._reason = ""
        self._broken = False

    def on_epoch(self, row: EpochRow, history: History) -> None:
        """Look, if it is time."""
        started = time.monotonic()
        if self._broken or started < self._due:
            return
        try:
            found = self.look(history)
        except Exception:
            # A doctor that stumbles must not take the patient down: it looks no more.
            self._broken = True
            return
        taken = time.monotonic() - started
        early = len(history.rows) <= LOOKS + 1 and taken < 1.0
        self._due = 0.0 if early else started + taken / LOOKING_SHARE
        self._weigh(found, row.epoch)

    def reason_to_end(self) -> str:
        """The finding for which training should end; empty while there is none."""
        return self._reason

    def _weigh(self, found: Sequence[Finding], epoch: int) -> None:
        self._held = {f.rule: self._held.get(f.rule, 0) + 1 for f in found}
        for finding in found:
            sure = finding.confidence >= CERTAIN or self._held[finding.rule] >= LOOKS
            if not sure or finding.rule in self.told:
                continue
            self.told[finding.rule] = finding
            self.tell(finding)
            if self.stop and not self._reason and harms(finding):
                what = finding.rule.replace("_", " ")
                self._reason = f"sick after epoch {epoch}: {what} [{finding.code}]"


def harms(finding: Finding) -> bool:
    """Whether going on is a waste: an error, or a warning that a safe change would mend."""
    if finding.severity == "error":
        return True
    return finding.severity == "warning" and any(edit.safe for edit in finding.prescription)

"""What rules have earned: how often each spoke in ill and in healthy runs, and how loud it may be.

The figures are those of the fault benchmark on its development seeds, kept in ``earned.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from espalier.findings import Severity

# Of the healthy runs; a rule that alarms in more of them may only remark.
MOST_FALSE = 0.05
FEWEST_ILL = 1


@dataclass(frozen=True)
class Earned:
    """Of one rule, counted before anybody told it how loud it may be.

    Attributes:
        ill: Runs with a fault in them in which it alarmed.
        right: Of these, those whose fault it names, or follows from.
        healthy: Healthy runs in which it alarmed.
        healthy_runs: Healthy runs there were.
    """

    ill: int = 0
    right: int = 0
    healthy: int = 0
    healthy_runs: int = 0

    @property
    def most(self) -> Severity:
        """The most severe word that it may say: ``error`` is no limit, ``info`` only a remark.

        It may alarm if it did so in an ill run, was right in half of them, and wrong in
        no more than a twentieth of the healthy ones.
        """
        heard = self.ill >= FEWEST_ILL and 2 * self.right >= self.ill
        return "error" if heard and self.healthy <= MOST_FALSE * self.healthy_runs else "info"

    @property
    def words(self) -> str:
        """The same as a sentence."""
        spoke = (
            f"It alarmed in {self.ill} ill runs, in {self.right} of them rightly, and in "
            f"{self.healthy} of {self.healthy_runs} healthy ones"
            if self.ill or self.healthy
            else f"It was not heard in any ill run, nor in {self.healthy_runs} healthy ones"
        )
        return f"{spoke}. {'It may alarm' if self.most == 'error' else 'So it may only remark'}."


def read_earned() -> Mapping[str, Earned]:
    """Rule -> what it has earned; empty where ``earned.json`` is missing."""
    file = resources.files("espalier.diagnose") / "earned.json"
    if not file.is_file():
        return {}
    plain = json.loads(file.read_text(encoding="utf-8"))
    whole = int(plain["healthy_runs"])
    return {
        name: Earned(int(one["ill"]), int(one["right"]), int(one["healthy"]), whole)
        for name, one in plain["rules"].items()
    }

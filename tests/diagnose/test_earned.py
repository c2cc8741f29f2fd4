"""What rules have earned, and what that lets them say."""

from __future__ import annotations

import pytest

from espalier.diagnose.doctor import known_rules
from espalier.diagnose.earned import Earned, read_earned


@pytest.mark.parametrize(
    ("earned", "most"),
    [
        (Earned(ill=6, right=6, healthy=0, healthy_runs=50), "error"),
        (Earned(ill=6, right=3, healthy=2, healthy_runs=50), "error"),
        (Earned(ill=6, right=2, healthy=0, healthy_runs=50), "info"),
        (Earned(ill=6, right=6, healthy=3, healthy_runs=50), "info"),
        (Earned(ill=0, right=0, healthy=0, healthy_runs=50), "info"),
    ],
    ids=["right", "half right", "mostly wrong", "alarms the healthy", "not heard"],
)
def test_who_may_alarm(earned: Earned, most: str) -> None:
    assert earned.most == most


def test_every_rule_has_its_figures_and_they_fit_together() -> None:
    found = read_earned()
    assert set(found) == {rule.name for rule in known_rules()}
    assert all(one.right <= one.ill and one.healthy <= one.healthy_runs for one in found.values())
    assert len({one.healthy_runs for one in found.values()}) == 1


def test_the_words_hold_the_figures() -> None:
    words = Earned(ill=6, right=5, healthy=1, healthy_runs=50).words
    assert "6 ill runs" in words
    assert "5 of them rightly" in words
    assert "1 of 50 healthy" in words
    assert "may only remark" in Earned(healthy_runs=50).words

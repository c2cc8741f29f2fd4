"""Checks before training (``espalier check``): seconds now instead of hours later."""

from espalier.checking.checklist import check, judge
from espalier.checking.report import CheckReport, CheckRow
from espalier.checking.trial import Trial, open_trial

__all__ = ["CheckReport", "CheckRow", "Trial", "check", "judge", "open_trial"]

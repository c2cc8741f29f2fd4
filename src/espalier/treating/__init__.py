"""Treatment of a sick run: change its recipe as diagnosed, train again, keep the better."""

from __future__ import annotations

from espalier.treating.course import Consent, Course, treat
from espalier.treating.proposal import Proposal, propose, require_own
from espalier.treating.trial import Trial

__all__ = ["Consent", "Course", "Proposal", "Trial", "propose", "require_own", "treat"]

"""Audit rules, one per file; the subject is ``espalier.audited.Audited``. None imports torch."""

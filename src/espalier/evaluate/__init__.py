"""Judging a trained classifier: predictions, scores, and how sure they are."""

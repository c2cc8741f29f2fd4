"""Making the photographs that are missing: believable variants of those that are there."""

"""Active tests (``espalier diagnose --probe``): what a log cannot decide is tried, in seconds."""

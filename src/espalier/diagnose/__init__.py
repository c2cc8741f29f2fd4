"""The doctor: what is wrong with a run, why one thinks so, and what to do about it."""

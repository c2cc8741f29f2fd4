"""Rules of other tools on the same records, written anew from their published thresholds."""

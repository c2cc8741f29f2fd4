"""Rules on runs, one per file; the subject is ``espalier.run_record.RunRecord``. No torch."""

"""How often the doctor is right: faults put in on purpose, and healthy runs that look ill."""

"""What the audit finds of problems that were planted among real photographs.

``python -m benchmarks.audit`` plants, audits and counts; ``plant`` makes the problems, ``score``
counts what was found of them, ``sets`` names the photographs, ``scale`` measures large sets.
"""

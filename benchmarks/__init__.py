"""What training costs, measured: ``python -m benchmarks.training`` (``make bench``).

Results lie in ``results/``, the page made from them is ``README.md``.
"""

import os

# As the command line sets it, and as early: torch reads it when it is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

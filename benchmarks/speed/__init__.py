"""Espalier and its peers, side by side: ``python -m benchmarks.speed`` (``make bench-speed``).

Each training is one fresh process with one thread; the clock starts with the process and every
cache is cold. Results lie in ``results/speed.json``, the page made from them is
``results/speed.md``.
"""

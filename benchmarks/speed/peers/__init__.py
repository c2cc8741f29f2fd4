"""How the peers are run: one script each, started with the peer's own interpreter.

The scripts import neither Espalier nor the rest of this package.
"""

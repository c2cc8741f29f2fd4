"""Photographs in: sources, catalog, split, balance, transforms and the loader."""

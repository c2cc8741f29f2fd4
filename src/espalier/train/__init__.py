"""The staged loop: what trains, how fast, and what is kept of it."""

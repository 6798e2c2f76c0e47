"""What the libraries cost when nothing is built on them: one module for each floor, run as a process of its own."""

TOPICS = {"intake": "floor-intake", "empty": "floor-empty", "table": "floor-table"}
"""The topics that floors write or read, without the installation's prefix."""

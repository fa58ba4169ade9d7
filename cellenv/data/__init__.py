"""Cells to learn from: one protocol, two worlds, on disk and procedural."""

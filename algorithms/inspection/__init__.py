"""Check a folder of cells before anything is trained on it."""

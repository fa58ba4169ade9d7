"""Fit the reference statistics of real cells: `cellfluxrl fit reference`.

python examples/fit_reference.py
"""

from algorithms.cli import run

if __name__ == "__main__":
    run("fit", "reference")

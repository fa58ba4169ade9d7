"""Fit the MoA classifier or its judge: `cellfluxrl fit classifier`.

python examples/train_classifier.py
"""

from algorithms.cli import run

if __name__ == "__main__":
    run("fit", "classifier")

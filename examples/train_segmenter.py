"""Fit the segmenter or its judge: `cellfluxrl fit segmenter`.

python examples/train_segmenter.py
"""

from algorithms.cli import run

if __name__ == "__main__":
    run("fit", "segmenter")

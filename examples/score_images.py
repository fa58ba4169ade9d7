"""Segment, measure and score a folder of cells: `cellfluxrl score`.

python examples/score_images.py DATA --output-dir OUT
"""

from algorithms.cli import run

if __name__ == "__main__":
    run("score")

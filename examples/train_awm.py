"""Post-train the generator with advantage-weighted matching: `cellfluxrl train awm`, under `accelerate launch`.

accelerate launch examples/train_awm.py
"""

from algorithms.cli import run

if __name__ == "__main__":
    run("train", "awm")

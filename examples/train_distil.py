"""Distil the guidance of a post-trained generator: `cellfluxrl train distil`, under `accelerate launch`.

accelerate launch examples/train_distil.py
"""

from algorithms.cli import run

if __name__ == "__main__":
    run("train", "distil")

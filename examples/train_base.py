"""Train the base generator by flow matching: `cellfluxrl train base`, under `accelerate launch`.

accelerate launch examples/train_base.py
"""

from algorithms.cli import run

if __name__ == "__main__":
    run("train", "base")

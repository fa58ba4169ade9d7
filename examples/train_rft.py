"""Post-train the generator with rejection fine-tuning: `cellfluxrl train rft`, under `accelerate launch`.

accelerate launch examples/train_rft.py
"""

from algorithms.cli import run

if __name__ == "__main__":
    run("train", "rft")

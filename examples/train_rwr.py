"""Post-train the generator with reward-weighted regression: `cellfluxrl train rwr`, under `accelerate launch`.

accelerate launch examples/train_rwr.py
"""

from algorithms.cli import run

if __name__ == "__main__":
    run("train", "rwr")

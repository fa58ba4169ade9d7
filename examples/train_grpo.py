"""Post-train the generator with Flow-GRPO: `cellfluxrl train grpo`, under `accelerate launch`.

accelerate launch examples/train_grpo.py
"""

from algorithms.cli import run

if __name__ == "__main__":
    run("train", "grpo")

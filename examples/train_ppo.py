"""Post-train the generator with PPO: `cellfluxrl train ppo`, under `accelerate launch`.

accelerate launch examples/train_ppo.py
"""

from algorithms.cli import run

if __name__ == "__main__":
    run("train", "ppo")

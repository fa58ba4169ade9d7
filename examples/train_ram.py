"""Post-train the generator with Reinforce Adjoint Matching: `cellfluxrl train ram`, under `accelerate launch`.

accelerate launch examples/train_ram.py
"""

from algorithms.cli import run

if __name__ == "__main__":
    run("train", "ram")

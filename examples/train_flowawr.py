"""Post-train the generator with FlowAWR: `cellfluxrl train flowawr`, under `accelerate launch`.

accelerate launch examples/train_flowawr.py
"""

from algorithms.cli import run

if __name__ == "__main__":
    run("train", "flowawr")

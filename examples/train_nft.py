"""Post-train the generator with DiffusionNFT: `cellfluxrl train nft`, under `accelerate launch`.

accelerate launch examples/train_nft.py
"""

from algorithms.cli import run

if __name__ == "__main__":
    run("train", "nft")

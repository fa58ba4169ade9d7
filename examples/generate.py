"""Sample a generator on held-out contexts into a folder: `cellfluxrl generate`.

python examples/generate.py --generator runs/nft/model
"""

from algorithms.cli import run

if __name__ == "__main__":
    run("generate")

"""Best-of-N selection at test time: `cellfluxrl best-of-n`.

python examples/best_of_n.py --model rl=runs/nft/model
"""

from algorithms.cli import run

if __name__ == "__main__":
    run("best-of-n")

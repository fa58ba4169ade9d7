"""Compare generators with their base and with real cells: `cellfluxrl evaluate`.

python examples/evaluate.py --model rl=runs/nft/model
"""

from algorithms.cli import run

if __name__ == "__main__":
    run("evaluate")

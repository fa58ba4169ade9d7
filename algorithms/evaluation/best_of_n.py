"""Best of N at test time: how far selection among N samples gets base and trained models, and what the judges say.

    cellfluxrl best-of-n --model rl=runs/nft/model --output-dir runs/nft
    cellfluxrl best-of-n --model rl=runs/nft/model --preset smoke

The reward that selects rises with N by construction; the evidence is the held-out judges, which select nothing. Prints
a table for N = 1, 4, 16 and writes best_of_n.json and best_of_n.png. In the JSON, `curve` holds every N, with intervals
of each row and of its difference to the base at the same N, and `best_of` a whole evaluation for each N of the tables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from algorithms.config import EvalConfig
from algorithms.evaluation.compared import ComparedConfig, load_compared, load_generators

if TYPE_CHECKING:
    from algorithms.estimate import Estimate


@dataclass(frozen=True, kw_only=True)
class BestOfNConfig(ComparedConfig):
    """Which generators are compared, and among how many samples is selected."""

    output_dir: Path = Path("runs/best-of-n")
    scorer: str = "total"  # the reward that selects: total, or the name of one
    most: int = 16  # samples of each context
    tables: tuple[int, ...] = (1, 4, 16)  # N that get a whole evaluation
    eval: EvalConfig = EvalConfig(contexts=256)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tables or not 1 <= min(self.tables) <= max(self.tables) <= self.most:
            raise ValueError(f"need tables between 1 and most = {self.most}; got {self.tables}")


SMOKE = BestOfNConfig(output_dir=Path("runs/best-of-n-smoke"), most=4, tables=(1, 4), eval=EvalConfig(contexts=12))
PRESETS = {"default": BestOfNConfig(), "smoke": SMOKE}


def main(config: BestOfNConfig) -> None:
    """Draw, select, measure, and write the table and the chart."""
    from algorithms.evaluation.selection import compare_models, publish

    compared = load_compared(config)
    config = replace(config, eval=replace(config.eval, contexts=compared.contexts))
    publish(compare_models(compared.models, compared.data, compared.evaluator, config), config)


def estimate(config: BestOfNConfig) -> Estimate:
    """Estimate the cost of drawing and scoring all samples of all models."""
    from algorithms.estimate import estimate_evaluation

    generators = load_generators(config.base, config.model)
    return estimate_evaluation(config, list(generators.values()), config.eval.contexts * config.most)


if __name__ == "__main__":
    from algorithms.cli import run

    run("best-of-n")

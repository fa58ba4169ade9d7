"""Config of a comparison at equal cost, and the candidates that take part. Light to import."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from algorithms.train_config import Precision

# keys of `algorithms.recipes.ALGORITHMS`
AlgorithmName = Literal["nft", "grpo", "ppo", "flowawr", "ram", "awm", "rwr", "rft"]
ALGORITHM_NAMES: tuple[AlgorithmName, ...] = get_args(AlgorithmName)
BUDGET = 90_000  # 34 iterations of DiffusionNFT


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig:
    """What all runs of a comparison share."""

    output_dir: Path  # of tables and pictures
    runs_dir: Path | None = None  # of the runs, which several tables may share; None: output_dir
    budget: int = BUDGET  # network evaluations (NFE) of a run, in images; a backward pass counts as two
    points: int = 3  # evaluations of a run, evenly spaced in NFE
    contexts: int = 256  # held-out contexts of an evaluation
    samples: int = 2  # images of each, whose diversity needs two
    generator: str = "embedded"  # base of all runs: a name, or a folder that save_pretrained wrote
    images: int = 144  # an iteration
    group_size: int = 12  # images of each context
    mixed_precision: Precision = "auto"  # auto: the launcher's; if unset, bf16 where the hardware has it
    threads: int | None = None  # on a CPU; None takes all cores


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An algorithm with its settings."""

    name: str  # in tables
    algorithm: AlgorithmName = "nft"
    options: Mapping[str, object] = field(default_factory=dict)  # fields of its config, as "loss.beta": 0.1

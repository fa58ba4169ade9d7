"""What a comparison can be told, and who takes part in it. Light to import."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Name = Literal["nft", "grpo", "ppo", "awm", "rwr", "rft"]  # as in train_NAME.py
BUDGET = 90_000  # 44 iterations of DiffusionNFT, about four minutes of two cores, with the evaluations
NAMES: tuple[Name, ...] = ("nft", "grpo", "ppo", "awm", "rwr", "rft")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all runs of a comparison have in common."""

    output_dir: Path  # of tables and pictures
    runs_dir: Path | None = None  # of the runs, which several tables may share; None: output_dir
    budget: int = BUDGET  # of a run: images through the network, backward counts 2
    points: int = 3  # evaluations of a run, at even distances of passes
    contexts: int = 512  # held-out, of an evaluation
    generator: str = "embedded"  # what all start from: a name, or a folder that save_pretrained wrote
    images: int = 144  # an iteration
    group_size: int = 12  # images of one context
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"  # auto: as told, else bf16 if the hardware has it
    threads: int | None = None  # on a CPU; None takes all cores


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A method with its settings, options of train_ALGORITHM.py."""

    name: str  # in tables
    algorithm: Name = "nft"
    options: Mapping[str, object] = field(default_factory=dict)
    weights: Mapping[str, float] | None = None  # of the rewards that it learns from; None: those of the suite

"""Config of the Gymnasium benchmark. Light to import."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TaskName = Literal["Select", "Steer"]


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    tasks: tuple[TaskName, ...] = ("Select", "Steer")
    generator: str = "embedded"  # a name, or a folder that save_pretrained wrote
    output_dir: Path = Path("runs/gym")
    steps: int = 20_000  # of each learning agent
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    train_contexts: int = 2000  # shared by all agents
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of training images; auto: bf16 where the hardware has it
    contexts: int = 500  # on which agents are scored
    points: int = 10  # of a learning curve
    curve_contexts: int = 200  # of a point; the last one has all
    constants: int = 64  # actions among which the best constant is sought
    constant_contexts: int = 64  # training contexts on which each is tried


PRESETS = {
    "default": BenchmarkConfig(),
    "smoke": BenchmarkConfig(
        output_dir=Path("runs/gym-smoke"),
        steps=64,
        seeds=(0, 1),
        train_contexts=16,
        contexts=12,
        points=2,
        curve_contexts=6,
        constants=3,
        constant_contexts=4,
    ),
}

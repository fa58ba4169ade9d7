"""A TrainConfig from flat settings."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from algorithms.train_config import OptimConfig, TrainConfig

OPTIM = {field.name for field in fields(OptimConfig)}


def train_config(output_dir: Path, **settings: Any) -> TrainConfig:
    """Settings of the optimizer go to `optim`, the others to the loop."""
    optim = OptimConfig(**{name: value for name, value in settings.items() if name in OPTIM})
    loop = {name: value for name, value in settings.items() if name not in OPTIM}
    return TrainConfig(output_dir=output_dir, optim=optim, **loop)

"""Settings of processes, the training loop and its optimizer. Light to import."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

OptimizerName = Literal["muon", "adamw"]
Precision = Literal["auto", "no", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class DistributedConfig:
    """Several processes, as torchrun and `accelerate launch` start them."""

    timeout: float = 1800.0  # seconds that a process waits for the others before it stops

    def __post_init__(self) -> None:
        if not 0 < self.timeout < math.inf:
            raise ValueError(f"distributed.timeout must be a number of seconds above 0, got {self.timeout}")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How the weights move in an iteration: one rollout, and `epochs` times `optimizer_steps` steps on it."""

    optimizer: OptimizerName = "adamw"  # muon uses AdamW for biases and norms
    learning_rate: float = 3e-4  # between warm-up and cooldown
    warmup_iterations: int = 0  # the learning rate rises linearly over them: AdamW's first steps are large
    cooldown: float = 0.0  # fraction of the iterations, at the end, over which it falls linearly to 0
    weight_decay: float = 0.0  # towards zero, not towards the base
    max_grad_norm: float = 1.0
    epochs: int = 1  # passes over the batch in an iteration, each in minibatches of its own
    optimizer_steps: int = 1  # an epoch, each on its own minibatch; its rows are drawn at random from every group
    micro_batch_size: int = 32  # rows at once on a process
    ema_decay: float = 0.999  # of the averaged weights, which are evaluated and saved


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long the loop runs, and what it leaves behind."""

    output_dir: Path
    iterations: int
    resume: bool = False  # continue in output_dir; with other iterations, from before the learning rate fell
    save_every: int = 10  # iterations between checkpoints
    save_minutes: float = 15.0  # a checkpoint, too, where so much time has passed since the last one
    show_every: int = 10  # iterations between sample pictures
    seed: int = 0
    optim: OptimConfig = OptimConfig()

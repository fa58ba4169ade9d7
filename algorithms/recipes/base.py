"""Train the base generator by flow matching: a control of the same plate becomes a treated image.

    cellfluxrl train base --output-dir runs/base
    cellfluxrl train base --preset cellflux --data DATA --judge WEIGHTS    # as published, on a GPU
    accelerate launch examples/train_base.py                               # the same, on any number of processes

Each validation writes a picture of samples and the curves of the loss and of the distances to real cells. By default
the learning rate is constant until the last fifth of the steps, and a checkpoint is kept at that point: `--resume` with
more `--steps` continues from there, bit for bit as if started with that many steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from algorithms.config import DataConfig
from algorithms.config_checks import check_above, check_at_least, check_descent
from algorithms.train_config import DistributedConfig, OptimizerName, Precision

if TYPE_CHECKING:
    from algorithms.estimate import Estimate


@dataclass(frozen=True, kw_only=True)
class BaseOptimConfig:
    """Optimizer, learning rate schedule and EMA."""

    optimizer: OptimizerName = "muon"  # muon uses AdamW for biases and norms
    learning_rate: float = 2e-3  # after the warm-up
    warmup_steps: int = 500  # steps over which the learning rate rises
    cooldown: float = 0.2  # fraction of the steps, at the end, over which it falls to 0
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999  # of the averaged weights, which are validated and published


@dataclass(frozen=True, kw_only=True)
class PairConfig:
    """Pairs of a control and a treated image, and the path between them."""

    times: Literal["uniform", "skewed"] = "uniform"  # skewed: CellFlux's, denser near the sample
    noise_level: float = 1.0  # std of the noise added to the source
    noise_share: float = 1.0  # fraction of pairs with noise; CellFlux: 0.5. Sampling always adds it
    condition_dropout: float = 0.1  # fraction of pairs without a condition; CellFlux: 0.2
    guidance: float = 0.0  # classifier-free guidance distilled into the network, so that sampling needs one evaluation
    soft_end: float = 0.1  # after t = 1 - soft_end, errors count ((1 - t) / soft_end)^2; 0 counts all alike (CellFlux)
    flip: float = 0.3  # probability of each mirroring, for each image independently
    dequantise: bool = False  # add uniform noise of one grey level, as CellFlux does


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """Validation during training."""

    pairs: int = 256  # for the validation loss; also the number of images that are compared with real ones
    draw_every: int = 1_000  # steps between validations
    judge: Path | None = None  # held-out classifier for feature distances; None: the embedded world's, none for --data
    inception: Path | None = None  # torch-fidelity's Inception weights; adds FID and KID, 0.3 s an image on a CPU


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """Training of the base generator."""

    output_dir: Path = Path("runs/base")
    network: Literal["embedded", "cellflux-bbbc021", "cellflux-rxrx1", "cellflux-jump"] = "embedded"
    sampling: Literal["default", "cellflux"] = "default"  # of the saved generator; cellflux: 200 evaluations an image
    steps: int = 9_000  # optimizer steps
    batch_size: int = 32  # pairs a step, over all processes
    resume: bool = False  # continue from the newest checkpoint in output_dir
    mixed_precision: Precision = "auto"  # auto: the launcher's; if unset, bf16 where the hardware has it
    threads: int | None = None  # of a process on a CPU; None: OMP_NUM_THREADS, or the cores are shared
    trackers: tuple[str, ...] = ()  # as Accelerate names them, for example tensorboard
    save_every: int = 1_000  # steps between checkpoints
    save_minutes: float = 15.0  # a checkpoint, too, where so much time has passed since the last one
    seed: int = 0

    data: DataConfig = DataConfig()
    pairs: PairConfig = PairConfig()
    optim: BaseOptimConfig = BaseOptimConfig()
    validation: ValidationConfig = ValidationConfig()
    distributed: DistributedConfig = DistributedConfig()

    def __post_init__(self) -> None:
        optim, validation = self.optim, self.validation
        check_at_least(0, seed=self.seed, warmup_steps=optim.warmup_steps)
        check_at_least(1, steps=self.steps, batch_size=self.batch_size, save_every=self.save_every)
        check_at_least(1, draw_every=validation.draw_every)
        check_above(0, save_minutes=self.save_minutes)
        check_descent(optim)


DEFAULT = BaseConfig()
SMOKE = replace(
    DEFAULT,
    output_dir=Path("runs/base-smoke"),
    steps=4,
    batch_size=4,
    save_every=2,
    optim=replace(DEFAULT.optim, warmup_steps=2),
    validation=replace(DEFAULT.validation, pairs=4, draw_every=2),
)
CELLFLUX = BaseConfig(  # arXiv:2502.09775; image and condition sizes come from the data: RxRx1 and JUMP work too
    output_dir=Path("runs/base-cellflux"),
    network="cellflux-bbbc021",
    sampling="cellflux",
    steps=100_000,  # 130 epochs of 98,000 images; published: 100 to 200
    batch_size=128,
    save_every=5_000,
    pairs=PairConfig(
        times="skewed",
        noise_share=0.5,  # drawn per pair, like condition_dropout; published: per batch
        condition_dropout=0.2,
        soft_end=0.0,
        dequantise=True,
    ),
    optim=BaseOptimConfig(optimizer="adamw", learning_rate=1e-4, warmup_steps=0, cooldown=0.0),
    validation=ValidationConfig(draw_every=5_000),
)
PRESETS = {"default": DEFAULT, "smoke": SMOKE, "cellflux": CELLFLUX}


def main(config: BaseConfig) -> None:
    """Train, validate, save and publish the base."""
    from algorithms.recipes.base_training import train_base

    train_base(config)


def estimate(config: BaseConfig) -> Estimate:
    """Estimate the cost of training from one optimizer step; validations are left out."""
    from algorithms.recipes.base_training import estimate_base

    return estimate_base(config)


if __name__ == "__main__":
    from algorithms.cli import run

    run("train", "base")

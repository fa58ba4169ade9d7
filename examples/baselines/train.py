"""Train another generator at the cost of the base: PhenDiff (diffusion) or IMPA (adversarial).

    python -m examples.baselines.train --model phendiff --output-dir runs/phendiff     # if stopped: again with --resume
    python -m examples.baselines.generate --generator runs/phendiff/model --output-dir runs/phendiff/images
    cellfluxrl evaluate --images phendiff=runs/phendiff/images

Cost is counted in floating-point operations of matrix products and convolutions, of a whole step with its optimizer;
the base's is that of the default `cellfluxrl train base`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from algorithms.config import DataConfig
from algorithms.config_checks import check_above, check_at_least
from examples.studies.command_line import parse_script


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    model: Literal["phendiff", "impa"] = "phendiff"
    output_dir: Path = Path("runs/baseline")
    steps: int | None = None  # optimizer steps; None: as many as cost what the base cost
    batch_size: int | None = None  # pairs a step; None: 48 (PhenDiff), 16 (IMPA)
    learning_rate: float | None = None  # after the warm-up; None: 2e-3 of Muon (PhenDiff), 2e-4 of Adam (IMPA)
    warmup_steps: int = 500  # steps in which the learning rate rises
    cooldown: float = 0.2  # share of the steps, at the end, in which it falls to 0
    ema_decay: float = 0.999  # of the averaged weights, which are saved
    flip: float = 0.3  # probability of each mirroring, for either image alone
    mixed_precision: Literal["auto", "no", "bf16"] = "auto"  # auto: the launcher's; if unset, bf16 where supported
    threads: int | None = None  # on a machine without a GPU; None: OMP_NUM_THREADS, or all cores
    save_every: int = 1_000  # steps between checkpoints, with a picture each
    save_minutes: float = 15.0  # a checkpoint, too, where so much time has passed since the last one
    resume: bool = False  # continue from the newest checkpoint in output_dir
    seed: int = 0
    data: DataConfig = DataConfig()

    def __post_init__(self) -> None:
        check_at_least(0, seed=self.seed, warmup_steps=self.warmup_steps)
        check_at_least(1, save_every=self.save_every, steps=1 if self.steps is None else self.steps)
        check_at_least(1, batch_size=1 if self.batch_size is None else self.batch_size)
        check_above(0, save_minutes=self.save_minutes)
        check_above(0, learning_rate=1 if self.learning_rate is None else self.learning_rate)


DEFAULT = BaselineConfig()
SMOKE = replace(DEFAULT, output_dir=Path("runs/baseline-smoke"), steps=4, batch_size=4, warmup_steps=2, save_every=2)
PRESETS = {"default": DEFAULT, "smoke": SMOKE}

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

# ruff: noqa: E402
import math
import shlex
import sys
from dataclasses import asdict
from time import perf_counter
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from algorithms.autosave import Autosave
from algorithms.ema import EMA
from algorithms.files import save_png
from algorithms.launch import start_accelerator
from algorithms.logs import flatten_config
from algorithms.muon import Muon
from algorithms.recipes.base import BaseConfig
from algorithms.recipes.base_training import build_data
from algorithms.recipes.flow_matching_data import Pairs, flow_matching_loss
from algorithms.resume_settings import resume_settings
from algorithms.run_folder import run_folder
from algorithms.schedule import learning_rate_factor
from algorithms.training_state import TrainingState
from cellenv.data.augment import mirror
from cellenv.data.cells import CellData
from cellenv.networks import PRESETS as NETWORKS
from cellenv.networks import UNet
from cellenv.pictures import composite, grid
from cellenv.streams import rng_at, seed_at
from examples.baselines.flops import count_flops
from examples.baselines.learners import LEARNERS, ImagePairs, Learner

TRAINING, VALIDATION, WEIGHTS = range(3)  # streams of one seed
RESUMABLE_FIELDS = (  # may change when a run is resumed
    *("output_dir", "resume", "save_every", "save_minutes", "threads", "data.cache"),
)


class Stopwatch:
    """Seconds that a run has taken, over all times that it was resumed: a part of its checkpoints."""

    def __init__(self) -> None:
        self.start = perf_counter()

    def seconds(self) -> float:
        return perf_counter() - self.start

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.start = perf_counter() - state_dict["seconds"]


def draw_pairs(data: CellData, n: int, rng: torch.Generator, flip: float) -> ImagePairs:
    """n random pairs of control and treated image of one plate, each image mirrored independently."""
    treated = data.draw_treated(n, rng)
    controls = data.draw_controls(data.plate[treated], rng)
    mirrored = torch.rand(2, 2, n, generator=rng) < flip  # image, axis
    compound = data.perturbation[treated]
    x0 = mirror(data.images(controls), mirrored[0])
    x1 = mirror(data.images(treated), mirrored[1])
    return ImagePairs(x0, x1, data.conditions[compound], compound)


def base_flops(base: BaseConfig, data: CellData, device: torch.device) -> int:
    """Operations of a `train base` run: those of one step, on constant images, times the steps."""
    sizes = replace(NETWORKS[base.network], size=data.size, condition_dim=data.conditions.shape[1])
    network = UNet(sizes).to(device)
    optimizer = Muon(network.parameters())
    n = base.batch_size
    images = torch.zeros(n, *data.size, device=device)
    pairs = Pairs(
        x0=images,
        x1=images,
        t=torch.full((n,), 0.5, device=device),
        condition=torch.zeros(n, sizes.condition_dim, device=device),
        keep=torch.ones(n, dtype=torch.bool, device=device),
    )

    def step() -> None:
        flow_matching_loss(network, pairs, base.pairs).mean().backward()
        optimizer.step()

    return base.steps * count_flops(step)


def step_flops(config: BaselineConfig, data: CellData, accelerator: Accelerator) -> int:
    """Operations of one step of a new learner, on constant images."""
    learner = LEARNERS[config.model](data, accelerator, config.learning_rate)
    n = config.batch_size
    images = torch.zeros(n, *data.size)
    pairs = ImagePairs(images, images, torch.zeros(n, data.conditions.shape[1]), torch.zeros(n, dtype=torch.int64))
    pairs = pairs.to(accelerator.device)
    return count_flops(lambda: learner.step(pairs, torch.Generator(), 1.0, 0.0))


def save_samples(model: nn.Module, data: CellData, config: BaselineConfig, device: torch.device, step: int) -> None:
    """Write a picture of twelve controls, generated images, and real images of the same compounds."""
    rng = rng_at(config.seed, VALIDATION)
    treated = data.draw_treated(12, rng)
    contexts = data.contexts(treated, rng).to(device)
    x1, _ = model.eval().sample(contexts["x0"], contexts["condition"], contexts["seed"])
    rows = [composite(x.cpu(), data.channels) for x in (contexts["x0"], x1, data.images(treated))]
    save_png(grid(rows, ["control", "generated", "real"]), config.output_dir / f"samples-{step:06d}.png")
    model.train()


def with_model_defaults(config: BaselineConfig) -> BaselineConfig:
    """The config with batch size and learning rate of its model where they are None."""
    learner = LEARNERS[config.model]
    return replace(
        config,
        batch_size=learner.default_batch_size if config.batch_size is None else config.batch_size,
        learning_rate=learner.default_learning_rate if config.learning_rate is None else config.learning_rate,
    )


def train(
    learner: Learner, ema: EMA, config: BaselineConfig, cells: tuple[CellData, CellData], state: TrainingState
) -> None:
    """Train on the first cells to `config.steps`, with checkpoints, and pictures of the second.

    Raises:
        FloatingPointError: a loss is not finite.
        SystemExit: SIGTERM or SIGINT came; the step was finished, and a checkpoint written.
    """
    data, validation = cells
    device = state.accelerator.device
    start = state.load() if config.resume else 0
    with (
        Autosave(state, every=config.save_every, minutes=config.save_minutes) as autosave,
        tqdm(total=config.steps, initial=start, desc=config.model, unit="step", smoothing=0.02) as bar,
    ):
        for step in range(start, config.steps):
            rng = rng_at(config.seed, TRAINING, step)
            pairs = draw_pairs(data, config.batch_size, rng, config.flip).to(device)
            factor = learning_rate_factor(step, config.steps, config.warmup_steps, config.cooldown)
            losses = learner.step(pairs, rng, factor, step / config.steps)
            ema.update(learner.model)
            if not all(map(math.isfinite, losses.values())):
                raise FloatingPointError(f"step {step}: the losses are {losses}; try a smaller --learning-rate")
            done = step + 1
            if done % config.save_every == 0 or done == config.steps:
                with ema.swapped(learner.model):
                    save_samples(learner.model, validation, config, device, done)
            bar.update()
            bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()})
            autosave(done)


def main(config: BaselineConfig) -> None:
    config = with_model_defaults(config)
    accelerator = start_accelerator(mixed_precision=config.mixed_precision, threads=config.threads)
    if accelerator.num_processes > 1:
        raise ValueError(f"one process trains a baseline; {accelerator.num_processes} were started")
    data, validation = build_data(config.data)
    flops_per_step = step_flops(config, data, accelerator)
    budget = base_flops(BaseConfig(), data, accelerator.device)
    if config.steps is None:
        config = replace(config, steps=math.ceil(budget / flops_per_step))
    torch.manual_seed(seed_at(config.seed, WEIGHTS))
    learner = LEARNERS[config.model](data, accelerator, config.learning_rate)
    ema, stopwatch = EMA(learner.model, config.ema_decay), Stopwatch()
    state = TrainingState(
        accelerator=accelerator,
        output_dir=config.output_dir,
        parts=learner.parts | {"ema": ema, "stopwatch": stopwatch},
        settings=resume_settings(config, RESUMABLE_FIELDS, data, accelerator.mixed_precision),
        steps=config.steps,
    )
    with run_folder(config.output_dir, resume=config.resume):
        train(learner, ema, config, (data, validation), state)
        metadata = {
            "command": shlex.join(["python", *sys.argv]),
            "config": flatten_config(asdict(config)),
            "steps": config.steps,
            "flops": config.steps * flops_per_step,
            "flops_of_the_base": budget,
            "seconds": round(stopwatch.seconds(), 1),
        }
        with ema.swapped(learner.model):
            learner.model.save_pretrained(config.output_dir / "model", metadata)


if __name__ == "__main__":
    main(CONFIG)

"""Train another generator, at the cost of the base: PhenDiff (diffusion) or IMPA (adversarial).

    python examples/train_baseline.py --model phendiff --output-dir runs/phendiff     # stopped: again with --resume
    python examples/generate.py --generator runs/phendiff/model --output-dir runs/phendiff/images
    python examples/evaluate.py --images phendiff=runs/phendiff/images

Cost is counted in floating-point operations of matrix products and convolutions, of a whole step with its optimizer;
the base's is that of train_base.py's default run.
"""

import math
import shlex
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from command_line import parse
from options import Cells


@dataclass(frozen=True, kw_only=True)
class Config(Cells):
    model: Literal["phendiff", "impa"] = "phendiff"
    output_dir: Path = Path("runs/baseline")
    steps: int | None = None  # of the optimizer; None: as many as cost what the base cost
    batch_size: int | None = None  # contexts a step; None: 48 (PhenDiff), 16 (IMPA)
    lr: float | None = None  # after the warm-up; None: 2e-3 of Muon (PhenDiff), 2e-4 of Adam (IMPA)
    warmup: int = 500  # steps in which the learning rate rises
    cooldown: float = 0.2  # share of the steps, at the end, in which it falls to 0
    decay: float = 0.999  # of the average of the weights
    flip: float = 0.3  # probability of each mirroring, for either image alone
    mixed_precision: Literal["auto", "no", "bf16"] = "auto"  # auto: bf16 if the hardware has it
    threads: int | None = None  # on a machine without a GPU; None takes all cores
    save_every: int = 1_000  # steps between checkpoints, with a picture each
    resume: bool = False  # go on from the newest checkpoint in output_dir
    seed: int = 0


DEFAULT = Config()
SMOKE = replace(DEFAULT, output_dir=Path("runs/baseline-smoke"), steps=4, batch_size=4, warmup=2, save_every=2)
PRESETS = {"default": DEFAULT, "smoke": SMOKE}

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
from time import perf_counter

import base_config
import torch
from accelerate import Accelerator
from base_run import lr_factor
from baselines.cost import flops
from baselines.learners import LEARNERS, Batch, Stateful
from pairs import Pairs, flow_matching_loss
from results import changed, told
from torch import nn
from tqdm import tqdm
from train_base import load_data

from algorithms import checkpoint
from algorithms.ema import EMA
from algorithms.files import save_png
from algorithms.launch import start_accelerator
from algorithms.muon import Muon
from cellenv.data.augment import mirror
from cellenv.data.cells import CellData
from cellenv.networks import PRESETS as NETWORKS
from cellenv.networks import UNet
from cellenv.pictures import composite, grid
from cellenv.streams import rng_at, seed_at

TRAINING, VALIDATION, WEIGHTS = range(3)  # streams of one seed
FREE = ("output_dir", "cache", "threads", "save_every", "resume")  # options that may change when a run goes on


def draw_batch(data: CellData, n: int, rng: torch.Generator, flip: float) -> Batch:
    """n random pairs, each image mirrored by itself."""
    treated = data.draw_treated(n, rng)
    controls = data.draw_controls(data.batch[treated], rng)
    mirrored = torch.rand(2, 2, n, generator=rng) < flip  # image, axis
    compound = data.perturbation[treated]
    x0, x1 = (mirror(data.images(rows), m) for rows, m in zip((controls, treated), mirrored, strict=True))
    return Batch(x0, x1, data.conditions[compound], compound)


def base_flops(base: base_config.Config, data: CellData, device: torch.device) -> int:
    """Of a run of train_base.py: those of one of its steps, on noise, times their number."""
    sizes = replace(NETWORKS[base.network], size=data.size, condition_dim=data.conditions.shape[1])
    network = UNet(sizes).to(device)
    optimizer, n = Muon(network.parameters()), base.batch_size
    images, condition = torch.zeros(n, *data.size, device=device), torch.zeros(n, sizes.condition_dim, device=device)
    t, keep = torch.full((n,), 0.5, device=device), torch.ones(n, dtype=torch.bool, device=device)
    pairs = Pairs(images, images, t, condition, keep)

    def step() -> None:
        flow_matching_loss(network, pairs, base.guidance).mean().backward()
        optimizer.step()

    return base.steps * flops(step)


def step_flops(config: Config, data: CellData, accelerator: Accelerator) -> int:
    """Of a step of a learner that is thrown away, on black images."""
    learner, n = LEARNERS[config.model](data, accelerator, config.lr), config.batch_size
    images, compound = torch.zeros(n, *data.size), torch.zeros(n, dtype=torch.int64)
    batch = Batch(images, images, torch.zeros(n, data.conditions.shape[1]), compound).to(accelerator.device)
    return flops(lambda: learner.step(batch, torch.Generator(), 1.0, 0.0))


def draw(model: nn.Module, data: CellData, config: Config, device: torch.device, step: int) -> None:
    """Twelve controls, what the model makes of them, and real images of the same compounds."""
    rng = rng_at(config.seed, VALIDATION)
    treated = data.draw_treated(12, rng)
    contexts = data.contexts(treated, rng).to(device)
    x1, _ = model.eval().sample(contexts["x0"], contexts["condition"], contexts["seed"])
    rows = [composite(x.cpu(), data.channels) for x in (contexts["x0"], x1, data.images(treated))]
    save_png(grid(rows, ["control", "generated", "real"]), config.output_dir / f"samples-{step:06d}.png")
    model.train()


def save(parts: dict[str, Stateful], config: Config, step: int) -> None:
    """A checkpoint; no random state, since every stream is named by the step."""
    states = {name: part.state_dict() for name, part in parts.items()}
    checkpoint.save(config.output_dir / "checkpoints", step, {"settings": told(config, FREE), "parts": states})


def load(parts: dict[str, Stateful], config: Config) -> int:
    """Go on from the newest checkpoint; the steps that were taken."""
    folder = config.output_dir
    if (saved := checkpoint.load_latest(folder / "checkpoints")) is None:
        raise FileNotFoundError(f"no checkpoint to resume in {folder}; leave out --resume to start")
    if was := changed(saved["settings"], told(config, FREE)):
        raise ValueError(f"{folder} was trained with {was}; resume with equal settings, or give another --output-dir")
    for name, part in parts.items():
        part.load_state_dict(saved["parts"][name])
    return saved["iteration"]


def filled(config: Config) -> Config:
    """The config with the batch size and learning rate of its model where it has none."""
    usual = LEARNERS[config.model]
    return replace(config, batch_size=config.batch_size or usual.batch_size, lr=config.lr or usual.lr)


def main(config: Config) -> None:
    config = filled(config)
    accelerator = start_accelerator(mixed_precision=config.mixed_precision, threads=config.threads)
    if accelerator.num_processes > 1:
        raise ValueError(f"one process trains a baseline; {accelerator.num_processes} were started")
    (data, validation), device = load_data(config), accelerator.device
    cost, budget = step_flops(config, data, accelerator), base_flops(base_config.DEFAULT, data, device)
    steps = config.steps or math.ceil(budget / cost)
    config = replace(config, steps=steps)
    torch.manual_seed(seed_at(config.seed, WEIGHTS))
    learner, start = LEARNERS[config.model](data, accelerator, config.lr), perf_counter()
    ema = EMA(learner.model, config.decay)
    parts = learner.parts | {"average": ema}
    first = load(parts, config) if config.resume else 0
    with tqdm(total=steps, initial=first, desc=config.model, unit="step", smoothing=0.02) as bar:
        for step in range(first, steps):
            rng = rng_at(config.seed, TRAINING, step)
            batch = draw_batch(data, config.batch_size, rng, config.flip).to(device)
            losses = learner.step(batch, rng, lr_factor(step, steps, config.warmup, config.cooldown), step / steps)
            ema.update(learner.model)
            if not all(map(math.isfinite, losses.values())):
                raise FloatingPointError(f"step {step}: the losses are {losses}; try a smaller --lr")
            if (step + 1) % config.save_every == 0 or step + 1 == steps:
                save(parts, config, step + 1)
                with ema.swapped(learner.model):
                    draw(learner.model, validation, config, device, step + 1)
            bar.update()
            bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()})
    metadata = {
        "command": shlex.join(["python", *sys.argv]),
        "config": {name: str(v) if isinstance(v, Path) else v for name, v in asdict(config).items()},
        "steps": steps,
        "flops": steps * cost,
        "flops_of_the_base": budget,
        "seconds": round(perf_counter() - start, 1),
    }
    with ema.swapped(learner.model):
        learner.model.save_pretrained(config.output_dir / "model", metadata)


if __name__ == "__main__":
    main(CONFIG)

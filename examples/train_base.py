"""Train the base generator by flow matching: a control of the same experimental batch becomes a treated image.

    accelerate launch examples/train_base.py --output-dir runs/base

The learning rate is constant until the last fifth of the steps, and the state at that point is kept: `--resume` with
more `--steps` goes on from there, and equals a run of as many steps from the start bit for bit.
"""

import math
import shlex
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from command_line import parse
from options import Cells


@dataclass(frozen=True, kw_only=True)
class Config(Cells):
    output_dir: Path = Path("runs/base")
    network: Literal["embedded", "cellflux-bbbc021", "cellflux-rxrx1", "cellflux-jump"] = "embedded"
    steps: int = 6_000  # optimizer steps
    batch_size: int = 48  # pairs a step, over all processes
    lr: float = 2e-3  # of Muon and AdamW, after the warm-up
    warmup: int = 500  # steps in which the learning rate rises
    cooldown: float = 0.2  # share of the steps, at the end, in which it falls to 0
    weight_decay: float = 0.01
    clip: float = 1.0  # largest norm of the gradient
    decay: float = 0.999  # of the average of the weights
    times: Literal["uniform", "skewed"] = "uniform"  # skewed: CellFlux's, more of them near the sample
    noise_level: float = 1.0  # std of the noise on the source
    noise_share: float = 1.0  # share of the samples that have it; CellFlux: 0.5. Sampling always has it
    condition_dropout: float = 0.2  # share of the samples whose condition is left out
    guidance: float = 0.7  # that is trained into the network: one pass then draws what two draw with this guidance
    flip: float = 0.3  # probability of each mirroring, for either image alone
    dequantise: bool = False  # add to each pixel what rounding to a byte may have taken; CellFlux does
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"  # auto: as told, else bf16 if the hardware has it
    threads: int | None = None  # of each process on a machine without a GPU; None shares the cores
    trackers: tuple[str, ...] = ()  # for example tensorboard
    seed: int = 0
    save_every: int = 1_000  # steps between checkpoints
    draw_every: int = 1_000  # steps between validation with pictures
    validation: int = 256  # pairs
    resume: bool = False  # go on from the newest checkpoint in output_dir


DEFAULT = Config()
SMOKE = replace(
    DEFAULT,
    output_dir=Path("runs/base-smoke"),
    steps=4,
    batch_size=4,
    warmup=2,
    save_every=2,
    draw_every=2,
    validation=4,
)
PRESETS = {"default": DEFAULT, "smoke": SMOKE}

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
import torch
from accelerate import Accelerator
from loading import load_cells
from torch import Tensor
from tqdm import tqdm

from algorithms import checkpoint
from algorithms.ema import EMA
from algorithms.files import save_png
from algorithms.launch import start_accelerator
from algorithms.losses.matching import flow_matching
from algorithms.muon import Muon
from cellenv.data.augment import dequantise, mirror
from cellenv.data.cells import CellData
from cellenv.generator import CellFlux, Sampling
from cellenv.networks import PRESETS as NETWORKS
from cellenv.networks import UNet
from cellenv.path import interpolate, lift, velocity
from cellenv.pictures import composite, grid
from cellenv.streams import rng_at, seed_at

TRAINING, VALIDATION, WEIGHTS, DROPOUT = range(4)  # streams of one seed


class Pairs(NamedTuple):
    """n pairs on their way: x0 with noise and x1 (n, C, H, W), t (n,), condition (n, D), keep (n,) bool."""

    x0: Tensor
    x1: Tensor
    t: Tensor
    condition: Tensor
    keep: Tensor

    def to(self, device: torch.device) -> "Pairs":
        return Pairs(*(value.to(device) for value in self))


def main(config: Config) -> None:
    accelerator = start_accelerator(
        mixed_precision=config.mixed_precision,
        trackers=config.trackers,
        output_dir=config.output_dir,
        threads=config.threads,
    )
    if config.batch_size % accelerator.num_processes:
        raise ValueError(f"{accelerator.num_processes} processes cannot share {config.batch_size} pairs evenly")
    accelerator.init_trackers("base")
    run = Run(config, accelerator, *load_data(config))
    start = run.load() if config.resume else 0
    share = slice(accelerator.process_index, None, accelerator.num_processes)
    bar = tqdm(total=config.steps, initial=start, disable=not accelerator.is_main_process, smoothing=0.02)
    for step in range(start, config.steps):
        if step == cooldown_start(config.steps, config.cooldown):
            run.save("stable", step)
        torch.manual_seed(seed_at(config.seed, DROPOUT, step, accelerator.process_index))
        loss = run.step(step, share)
        done = step + 1
        if done % config.draw_every == 0 or done == config.steps:
            run.validate(done)
        if done % config.save_every == 0 or done == config.steps:
            run.save("checkpoints", done)
        bar.update()
        if done % 20 == 0:
            bar.set_postfix(loss=f"{loss.item():.4f}", validation=run.history[-1][1] if run.history else "-")
            accelerator.log({"loss": loss.item(), "lr": run.optimizer.param_groups[0]["lr"]}, step=done)
    bar.close()
    run.publish()
    accelerator.end_training()


class Run:
    """What a run owns, and what a checkpoint holds of it."""

    def __init__(self, config: Config, accelerator: Accelerator, train: CellData, validation: CellData):
        self.config, self.accelerator, self.train, self.validation = config, accelerator, train, validation
        sizes = replace(NETWORKS[config.network], size=train.size, condition_dim=train.conditions.shape[1])
        torch.manual_seed(seed_at(config.seed, WEIGHTS))
        self.generator = CellFlux(UNet(sizes), sizes, Sampling(noise_level=config.noise_level))
        self.generator.to(accelerator.device)
        optimizer = Muon(self.generator.parameters(), config.lr, weight_decay=config.weight_decay)
        self.ema = EMA(self.generator, config.decay)
        self.network, self.optimizer = accelerator.prepare(self.generator.network, optimizer)
        self.history: list[tuple[int, float]] = []  # (step, validation loss)

    def step(self, step: int, share: slice) -> Tensor:
        """One step of the optimizer on this process's share of the pairs; returns the loss."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * lr_factor(step, config.steps, config.warmup, config.cooldown)
        pairs = draw_pairs(self.train, config.batch_size, rng_at(config.seed, TRAINING, step), config, share)
        self.network.train()
        loss = flow_matching_loss(self.network, pairs.to(self.accelerator.device), config.guidance).mean()
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.network.parameters(), config.clip)
        self.optimizer.step()
        self.ema.update(self.generator)
        return loss.detach()

    @torch.no_grad()
    def validate(self, step: int) -> None:
        """Validation loss of the averaged weights, and a picture of what they draw; the same pairs every time."""
        if not self.accelerator.is_main_process:
            return
        config, device = self.config, self.accelerator.device
        plain = replace(config, condition_dropout=0.0, flip=0.0, dequantise=False)
        pairs = draw_pairs(self.validation, config.validation, rng_at(config.seed, VALIDATION), plain, slice(None))
        chunks = zip(*(value.split(config.batch_size) for value in pairs), strict=True)
        with self.ema.swapped(self.generator):
            self.generator.eval()
            network, w = self.generator.network, config.guidance
            losses = [flow_matching_loss(network, Pairs(*chunk).to(device), w) for chunk in chunks]
            self.history.append((step, round(torch.cat(losses).mean().item(), 6)))
            self.draw(config.output_dir / f"samples-{step:06d}.png")
        self.accelerator.log({"validation_loss": self.history[-1][1]}, step=step)

    def draw(self, file: Path) -> None:
        """Controls, what the generator makes of them, real images of the same compounds; twice twelve of each."""
        data, rng = self.validation, rng_at(self.config.seed, VALIDATION, 1)
        treated = data.draw_treated(24, rng)
        contexts = data.contexts(treated, rng).to(self.accelerator.device)
        x1, _ = self.generator.sample(contexts["x0"], contexts["condition"], contexts["seed"])
        bands = [composite(x.cpu(), data.channels) for x in (contexts["x0"], x1, data.images(treated))]
        rows = [band[half] for half in (slice(12), slice(12, 24)) for band in bands]
        save_png(grid(rows, ["control", "generated", "real"] * 2), file)

    def save(self, folder: str, step: int) -> None:
        """A checkpoint; no random state, since every stream is named by the step."""
        if self.accelerator.is_main_process:
            checkpoint.save(self.config.output_dir / folder, step, self.state() | {"steps": self.config.steps})

    def state(self) -> dict[str, Any]:
        scaler = self.accelerator.scaler
        return {
            "network": self.generator.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "history": self.history,
        }

    def load(self) -> int:
        """Go on from the newest checkpoint, or from the last of the constant learning rate if `steps` has changed."""
        folder = self.config.output_dir
        state = checkpoint.load_latest(folder / "checkpoints")
        if state is None or self._cooled_for_other_steps(state):
            state = checkpoint.load_latest(folder / "stable")
        if state is None:
            raise FileNotFoundError(f"no checkpoint to resume in {folder}; leave out --resume to start")
        self.generator.network.load_state_dict(state["network"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.history = [tuple(point) for point in state["history"]]
        return state["iteration"]

    def _cooled_for_other_steps(self, state: dict[str, Any]) -> bool:
        steps, cooldown = self.config.steps, self.config.cooldown
        return state["steps"] != steps and state["iteration"] > cooldown_start(min(state["steps"], steps), cooldown)

    def publish(self) -> None:
        """The generator with averaged weights, and how it came to be."""
        if not self.accelerator.is_main_process:
            return
        config = {name: str(v) if isinstance(v, Path) else v for name, v in asdict(self.config).items()}
        metadata = {
            "command": shlex.join(["python", *sys.argv]),
            "config": config,
            "processes": self.accelerator.num_processes,
            "precision": self.accelerator.mixed_precision,
            "validation_loss": self.history,
        }
        with self.ema.swapped(self.generator):
            self.generator.save_pretrained(self.config.output_dir / f"generator-{self.config.steps:06d}", metadata)


def flow_matching_loss(network: torch.nn.Module, pairs: Pairs, guidance: float = 0.0) -> Tensor:
    """mean over C, H, W of (v_theta(x_t, t, c) - v)^2, with x_t = (1 - t) x0 + t x1 and v = x1 - x0; (n,).

    With guidance w, v is x1 - x0 + w / (1 + w) (v_theta(x_t, t, c) - v_theta(x_t, t, none)), as a constant. It is met
    where v_theta = (1 + w) E[x1 - x0 | x_t, c] - w v_theta(x_t, t, none): a network that draws, in one pass, what two
    passes of classifier-free guidance draw. Source: Tang et al., arXiv:2502.12154, whose w is our w / (1 + w).
    """
    x_t, v = interpolate(pairs.x0, pairs.x1, pairs.t), velocity(pairs.x0, pairs.x1)
    v_theta = network(x_t, pairs.t, pairs.condition, pairs.keep).float()
    if guidance:
        with torch.no_grad():
            away = v_theta - network(x_t, pairs.t).float()
            v = v + guidance / (1 + guidance) * lift(pairs.keep, v) * away
    return flow_matching(v_theta, v)


def draw_pairs(data: CellData, n: int, rng: torch.Generator, config: Config, share: slice) -> Pairs:
    """A share of n pairs; the draws are those of all n, so that one process or several see the same pairs."""
    treated = data.draw_treated(n, rng)
    controls = data.draw_controls(data.batch[treated], rng)
    t = draw_times(n, rng, config.times)
    keep = torch.rand(n, generator=rng) >= config.condition_dropout
    noisy = torch.rand(n, generator=rng) < config.noise_share
    mirrored = torch.rand(2, 2, n, generator=rng) < config.flip  # image, axis
    noise = torch.randn(n, *data.size, generator=rng)
    x0 = mirror(data.images(controls[share]), mirrored[0][:, share])
    x1 = mirror(data.images(treated[share]), mirrored[1][:, share])
    if config.dequantise:
        x0, x1 = (dequantise(x, torch.rand(n, *data.size, generator=rng)[share]) for x in (x0, x1))
    x0 = x0 + config.noise_level * lift(noisy[share], x0) * noise[share]
    condition = data.conditions[data.perturbation[treated[share]]]
    return Pairs(x0, x1, t[share], condition, keep[share])


def draw_times(n: int, rng: torch.Generator, times: Literal["uniform", "skewed"]) -> Tensor:
    """n times in [0, 1): uniform, or 1 / (1 + sigma) with log sigma normal, mean -1.2, std 1.2 (arXiv:2206.00364)."""
    if times == "uniform":
        return torch.rand(n, generator=rng)
    return 1 / (1 + (1.2 * torch.randn(n, generator=rng) - 1.2).exp())


def cooldown_start(steps: int, cooldown: float) -> int:
    """The first step whose learning rate falls."""
    return steps - math.floor(cooldown * steps)


def lr_factor(step: int, steps: int, warmup: int, cooldown: float) -> float:
    """Rises over `warmup` steps, is 1, and falls to 0 over the last share `cooldown`."""
    left = (steps - step) / max(1, steps - cooldown_start(steps, cooldown))
    return min(1.0, (step + 1) / max(1, warmup), left)


def load_data(options: Cells) -> tuple[CellData, CellData]:
    """(train, validation); a folder has no validation split: its test split."""
    return load_cells(options, "train"), load_cells(options, "validation" if options.data is None else "test")


if __name__ == "__main__":
    main(CONFIG)

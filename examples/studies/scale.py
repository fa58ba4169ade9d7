"""Time of an iteration of DiffusionNFT from its parts: checked on a CPU, and computed for GPUs.

    OMP_NUM_THREADS=1 python -m examples.studies.scale

The parts are measured with one number of groups; their sums are compared with iterations of two numbers of groups and
two networks. All times are processor times of one core, the least of a few repeats, so that other work on the machine
disturbs them little. The table of GPUs is arithmetic: operations of a network over an assumed speed, and the measured
parts that stay on the CPU. Memory is counted, in float32, without computing. Prints Markdown and writes it to a file.
"""

from dataclasses import dataclass
from pathlib import Path

from examples.studies.command_line import parse_script


@dataclass(frozen=True, kw_only=True)
class ScaleConfig:
    widths: tuple[int, ...] = (16, 8)  # of the embedded network; 16 is as shipped
    groups: tuple[int, ...] = (2, 4)  # the parts are measured with the first
    group_size: int = 6
    repeats: int = 3
    network: str = "cellflux-bbbc021"  # on GPUs, in iterations as in DiffusionNFT's code
    gpus: tuple[int, ...] = (1, 8, 48, 64)
    gpu_groups: int = 48
    gpu_group_size: int = 24
    nfe: int = 10  # evaluations an image in a rollout
    rows: int = 2  # training rows an image
    teraflops: float = 989.0  # peak of a GPU, in bf16: H100
    utilisation: float = 0.3  # of the peak; assumed
    cores: int = 8  # for each GPU, that score
    micro_batch: int = 8  # rows at once, for the memory
    bandwidth: float = 50.0  # GB/s in which gradients are summed: InfiniBand at 400 Gb/s
    output: Path = Path("runs/scale.md")


PRESETS = {
    "default": ScaleConfig(),
    "smoke": ScaleConfig(
        widths=(8,), groups=(1,), group_size=2, repeats=1, network="embedded", output=Path("runs/smoke/scale.md")
    ),
}

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

# ruff: noqa: E402
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from tempfile import TemporaryDirectory
from time import process_time
from typing import NamedTuple

import torch
from accelerate import Accelerator
from tensordict import TensorDict, TensorDictBase
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from algorithms.clock import Clock
from algorithms.descent import descend
from algorithms.ema import EMA
from algorithms.files import write_whole
from algorithms.launch import start_accelerator
from algorithms.losses.nft import NFTLoss
from algorithms.memory import TrainingMemory, saved_activations, training_memory
from algorithms.old_policy import ema_update
from algorithms.recipes import nft
from algorithms.recipes.post_training import Components, build_components
from algorithms.rollouts import draw_groups
from algorithms.trainer import make_optimizer, train
from cellenv.generator import SAMPLINGS, CellFlux
from cellenv.networks import PRESETS as NETWORKS
from cellenv.networks import UNet
from cellenv.streams import normal_like


class Size(NamedTuple):
    """What an iteration does on a process."""

    groups: int
    images: int
    nfe: int  # of an image in the rollout
    rows: int
    old_and_ref: float  # evaluations of frozen networks a row


class Parts(NamedTuple):
    """Seconds of each."""

    forward: float  # an evaluation of the network
    backward: float  # an evaluation with its gradient
    reward: float  # of an image
    context: float  # of a group: its control image
    noise: float  # of an image
    row: float  # a training row: its control image, noise and time
    update: float  # clipping, optimizer, average and old weights, once


def iteration(parts: Parts, size: Size) -> dict[str, float]:
    """Seconds of an iteration by phase."""
    return {
        "rollout": size.images * size.nfe * parts.forward,
        "rewards": size.images * parts.reward,
        "train": size.rows * (parts.backward + size.old_and_ref * parts.forward),
        "noise and data": size.groups * parts.context + size.images * parts.noise + size.rows * parts.row,
        "update": parts.update,
    }


def least(work: Callable[[], object], repeats: int) -> float:
    """Processor seconds of a call, the least of several after a first."""
    work()
    seconds = []
    for _ in range(repeats):
        start = process_time()
        work()
        seconds.append(process_time() - start)
    return min(seconds)


def recipe(config: ScaleConfig, groups: int, generator: str) -> nft.NFTConfig:
    """DiffusionNFT with so many groups, all images in one batch."""
    preset = nft.PRESETS["default"]
    images = groups * config.group_size
    rollout = replace(preset.rollout, groups=groups, group_size=config.group_size, batch_size=images)
    optim = replace(preset.optim, micro_batch_size=config.groups[0] * config.group_size)
    return replace(preset, generator=generator, rollout=rollout, optim=optim, iterations=config.repeats + 1)


def size_of(recipe: nft.NFTConfig, nfe: int) -> Size:
    """What an iteration of a recipe does."""
    images = recipe.rollout.groups * recipe.rollout.group_size
    rows = images * recipe.renoise.times_per_sample
    return Size(recipe.rollout.groups, images, nfe, rows, 1 + recipe.loss.kl_share)


def measure_parts(components: Components[nft.NFTConfig], repeats: int) -> Parts:
    """Each part on its own, in batches as in the iteration."""
    config, accelerator, theta = components.config, components.accelerator, components.theta
    algorithm = nft.build(components)
    rollout = algorithm.collect(0, Clock())
    batch = algorithm.build_batch(rollout, 0)
    rows = batch[: config.optim.micro_batch_size]
    optimizer = accelerator.prepare_optimizer(make_optimizer(algorithm.parameters(), config.optim))
    ema = EMA(theta)
    network = theta.network
    inputs = (rows["x1"], rows["t"], rows["condition"])
    parameters = [*theta.parameters()]

    @torch.no_grad()
    def draw() -> None:
        network(*inputs)

    def update() -> None:
        descend(accelerator, optimizer, parameters, 1.0)
        ema.update(theta)
        ema_update(components.old, theta, 0.5)

    def contexts() -> TensorDictBase:
        return draw_groups(components.data, range(config.rollout.groups), 2, seed=1, iteration=0)

    seeds = torch.arange(len(rollout))
    return Parts(
        forward=least(draw, repeats) / len(rows),
        backward=least(lambda: network(*inputs).square().mean().backward(), repeats) / len(rows),
        reward=least(lambda: components.scorer.submit(rollout, 0).result(), repeats) / len(rollout),
        context=least(contexts, repeats) / config.rollout.groups,
        noise=least(lambda: normal_like(rollout["x0"], seeds), repeats) / len(rollout),
        row=least(lambda: algorithm.build_batch(rollout, 0), repeats) / len(batch),
        update=least(update, repeats),
    )


def measure_iteration(components: Components[nft.NFTConfig], folder: Path) -> float:
    """Processor seconds of a whole iteration of the trainer, the least of several."""
    algorithm = nft.build(components)
    starts: list[float] = []

    def collect(iteration: int, clock: Clock) -> TensorDictBase:
        starts.append(process_time())
        return algorithm.collect(iteration, clock)

    train(components.accelerator, replace(components.config, output_dir=folder), replace(algorithm, collect=collect))
    return min(after - before for before, after in itertools.pairwise(starts))


def save_untrained(width: int, folder: Path) -> str:
    """Folder of the embedded network in another width, with random weights."""
    sizes = replace(NETWORKS["embedded"], width=width)
    CellFlux(UNet(sizes), sizes, SAMPLINGS["default"]).save_pretrained(folder / "base")
    return str(folder / "base")


def check(config: ScaleConfig, accelerator: Accelerator) -> tuple[list[str], Parts]:
    """(table of computed and measured iterations, parts of the first network)."""
    lines = ["| width | groups | images | computed, s | measured, s | ratio |", "|---|---|---|---|---|---|"]
    all_parts = []
    for width in config.widths:
        with TemporaryDirectory() as folder:
            generator = "embedded" if width == NETWORKS["embedded"].width else save_untrained(width, Path(folder))
            for groups in config.groups:
                components = build_components(recipe(config, groups, generator), accelerator)
                if groups == config.groups[0]:
                    all_parts.append(measure_parts(components, config.repeats))
                size = size_of(components.config, components.ref.sampling.nfe)
                seconds = sum(iteration(all_parts[-1], size).values())
                measured = measure_iteration(components, Path(folder) / str(groups))
                lines.append(
                    f"| {width} | {groups} | {size.images} | {seconds:.2f} | {measured:.2f} |"
                    f" {seconds / measured:.2f} |"
                )
    return lines, all_parts[0]


@cache
def operations(network: str) -> tuple[int, int, int]:
    """(operations of an evaluation, of one with its gradient, parameters); nothing is computed."""
    config = NETWORKS[network]
    with torch.device("meta"):
        unet = UNet(config).eval()
        inputs = torch.zeros(1, *config.size), torch.zeros(1), torch.zeros(1, config.condition_dim)
    return count(lambda: unet(*inputs)), count(lambda: unet(*inputs).sum().backward()), parameters_of(unet)


def memory_of(network: str, rows: int, device: str = "meta") -> TrainingMemory:
    """Memory of DiffusionNFT with so many rows in a micro-batch, in float32; on "meta", nothing is computed."""
    config = NETWORKS[network]
    with torch.device(device):
        theta, old, ref = (UNet(config).eval() for _ in range(3))
        x, t = torch.zeros(rows, *config.size), torch.zeros(rows)
        condition = torch.zeros(rows, config.condition_dim)
    loss = NFTLoss(theta, old, ref)
    numbers = torch.arange(rows)  # not on "meta": which rows are in the pull is computed
    data = {"x0": x, "x1": x, "t": t, "r": t, "condition": condition, "row": numbers}
    with saved_activations(loss) as saved:
        out = loss(TensorDict(data, batch_size=[rows]))
        (out["loss_nft"] + out["loss_kl"]).backward()
    optimizer = torch.optim.AdamW(theta.parameters())
    optimizer.step()
    state = optimizer.state_dict()
    return training_memory(theta, old, [ref], ema=EMA(theta), optimizer=state, activations=saved.most)


def count(work: Callable[[], object]) -> int:
    """Floating-point operations of a call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def parameters_of(network: nn.Module) -> int:
    """Numbers that are trained."""
    return sum(parameter.numel() for parameter in network.parameters())


def on_gpus(config: ScaleConfig, measured: Parts, gpus: int) -> dict[str, float]:
    """Seconds of an iteration by phase on so many GPUs."""
    forward, backward, parameters = operations(config.network)
    speed = config.teraflops * 1e12 * config.utilisation
    parts = measured._replace(
        forward=forward / speed, backward=backward / speed, reward=measured.reward / config.cores, update=0.0
    )
    groups = -(-config.gpu_groups // gpus)
    images = groups * config.gpu_group_size
    phases = iteration(parts, Size(groups, images, config.nfe, images * config.rows, 2.0))
    del phases["update"]
    phases["sum of gradients"] = 2 * 4 * parameters * (gpus - 1) / gpus / (config.bandwidth * 1e9)
    return phases


def gpu_table(config: ScaleConfig, measured: Parts) -> list[str]:
    """A row for each number of GPUs."""
    columns: Mapping[int, dict[str, float]] = {gpus: on_gpus(config, measured, gpus) for gpus in config.gpus}
    one = sum(on_gpus(config, measured, 1).values())
    names = [*columns[config.gpus[0]]]
    lines = [f"| GPUs | {', s | '.join(names)}, s | iteration, s | speed |", "|" + "---|" * (len(names) + 3)]
    for gpus, phases in columns.items():
        total = sum(phases.values())
        cells = " | ".join(f"{seconds:.2f}" for seconds in phases.values())
        lines.append(f"| {gpus} | {cells} | {total:.2f} | {one / total:.1f} |")
    return lines


def main(config: ScaleConfig) -> None:
    lines, parts = check(config, start_accelerator(threads=1))
    named = {name: f"{seconds * 1e3:.2f} ms" for name, seconds in parts._asdict().items()}
    memory = str(memory_of(config.network, config.micro_batch))
    text = "\n".join([json.dumps(named), "", *lines, "", *gpu_table(config, parts), "", memory, ""])
    write_whole(config.output, text.encode())
    print(text)


if __name__ == "__main__":
    main(CONFIG)

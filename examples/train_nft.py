"""Post-train the virtual cell with DiffusionNFT on the seven biological rewards, then compare it with its base.

    accelerate launch examples/train_nft.py                                      # about 15 minutes on two CPU cores
    accelerate launch examples/train_nft.py --preset smoke                       # two iterations and the evaluation
    accelerate launch examples/train_nft.py --resume                             # go on where it stopped
    accelerate launch examples/train_nft.py --control shuffled --output-dir runs/nft-shuffled

An iteration draws groups of images with the old weights, scores them, and moves the weights towards the better ones of
each group and away from the worse. DIR holds log.jsonl and TensorBoard's files, samples/, checkpoints/, the trained
model/, evaluation.json and evaluation.html.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from command_line import parse


@dataclass(frozen=True, kw_only=True)
class Config:
    output_dir: Path = Path("runs/nft")
    resume: bool = False  # go on from the newest checkpoint in output_dir
    generator: str = "embedded"  # what to start from: a name, or a folder that save_pretrained wrote
    control: Literal["none", "zero", "shuffled", "flipped"] = "none"  # learn from what must not help
    rewards: Literal["default", "paper"] = "default"  # how a z-score becomes a reward

    iterations: int = 125
    groups: int = 12  # contexts an iteration, over all processes
    group_size: int = 12  # images of each context
    times_per_sample: int = 2  # rows that each image is trained on
    coupling: Literal["independent", "group", "generating"] = "independent"  # which source re-noises an image
    times: Literal["uniform", "rollout"] = "uniform"  # at which times; rollout: those of the sampler
    loss: Literal["adaptive", "plain"] = "adaptive"
    beta: float = 1.0  # mixing width of the NFT loss
    kl_weight: float = 1e-4  # pull to the base
    decay_slope: float = 0.8  # the old weights keep min(slope i, most) of themselves after iteration i; slow ones
    decay_most: float = 0.8  # average over iterations, which these small ones need (published: 0.001, 0.5)

    lora_rank: int = 0  # of the adapters (alpha = 2 rank); 0 trains all weights
    learning_rate: float = 3e-4  # of AdamW
    warm_up: int = 5  # iterations
    weight_decay: float = 0.0  # towards zero, not towards the base
    max_grad_norm: float = 1.0
    optimizer_steps: int = 1  # an iteration
    ema_decay: float = 0.999  # of the average of the weights, which is what is evaluated

    chunk: int = 48  # images at once on a process, in rollouts
    micro_batch: int = 48  # rows at once on a process, in training
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None  # None: as `accelerate launch` was told
    threads: int | None = None  # of a process on a CPU; None shares the cores
    trackers: tuple[str, ...] = ("tensorboard",)  # as Accelerate names them
    save_every: int = 10  # iterations
    show_every: int = 10  # iterations between pictures
    contexts: int = 256  # of the evaluation
    seed: int = 0


DEFAULT = Config()
PRESETS = {
    "default": DEFAULT,
    "smoke": replace(
        DEFAULT,
        output_dir=Path("runs/nft-smoke"),
        iterations=2,
        groups=2,
        group_size=4,
        save_every=1,
        show_every=1,
        contexts=16,
    ),
    "long": replace(DEFAULT, output_dir=Path("runs/nft-long"), iterations=480),
}

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
import copy
from collections.abc import Callable
from functools import partial

import numpy as np
from accelerate import Accelerator
from evaluate import evaluate_run, make_rulers
from torch import Tensor
from torchrl.envs import TransformedEnv

from algorithms import controls, coupling
from algorithms.checkpoint import set_aside
from algorithms.launch import start_accelerator
from algorithms.logs import flat, mean_seconds
from algorithms.lora import add_lora, merge_lora
from algorithms.losses.nft import NFTLoss, old_decay
from algorithms.pictures import composite, grid
from algorithms.renoise import Renoise, total_reward
from algorithms.rollouts import Bandit, draw_groups, share
from algorithms.trainer import Algorithm, TrainConfig, train
from cellenv.data.cells import CellData
from cellenv.data.synthetic import SyntheticCells
from cellenv.env import VirtualCellEnv
from cellenv.generator import GRIDS, CellFlux, GeneratorPolicy
from cellenv.streams import rng_at
from rewards import cellflux_rewards

ROWS = {"none": "rl", "zero": "zero-reward", "shuffled": "shuffled-reward", "flipped": "flipped-reward"}
ADAPTERS, PICTURES = 2**31 - 2, 2**31 - 3  # streams of the seed
FREE = "output_dir resume iterations trackers save_every show_every contexts threads".split()  # may change on resume


def three_models(config: Config) -> tuple[CellFlux, CellFlux, CellFlux]:
    """theta, old and ref: equal, of their own memory."""
    ref = CellFlux.from_pretrained(config.generator)
    theta = copy.deepcopy(ref)
    if config.lora_rank:
        rng = rng_at(config.seed, ADAPTERS)
        add_lora(theta.network, rng, rank=config.lora_rank, alpha=2.0 * config.lora_rank)
    return theta, copy.deepcopy(theta), ref


def make_prepare(config: Config, data: CellData, old: CellFlux, gather: Callable[[Tensor], Tensor]) -> Renoise:
    """How a rollout becomes rows for the loss."""
    couplings = {
        "independent": partial(coupling.independent, data=data, noise_level=old.noise_level),
        "group": partial(coupling.group, noise_level=old.noise_level),
        "generating": coupling.generating,
    }
    times = {"uniform": coupling.uniform, "rollout": partial(coupling.on_grid, times=GRIDS[old.grid](old.steps))}
    signals = {
        "none": total_reward,
        "zero": controls.zero,
        "shuffled": partial(controls.shuffled, seed=config.seed),
        "flipped": controls.flipped,
    }
    return Renoise(
        coupling=couplings[config.coupling],
        times=times[config.times],
        times_per_sample=config.times_per_sample,
        signal=signals[config.control],
        seed=config.seed,
        gather=gather,
    )


def make_collect(config: Config, data: CellData, old: CellFlux, accelerator: Accelerator) -> Bandit:
    """Contexts, images by the old weights, rewards."""
    suite = cellflux_rewards(preset=config.rewards).to(accelerator.device)
    return Bandit(
        env=TransformedEnv(VirtualCellEnv(data), suite),
        policy=GeneratorPolicy(old),
        data=data,
        groups=share(config.groups, accelerator.process_index, accelerator.num_processes),
        group_size=config.group_size,
        seed=config.seed,
        chunk=config.chunk,
        device=accelerator.device,
        autocast=accelerator.autocast,
    )


def make_show(config: Config, data: CellData, ref: CellFlux, theta: CellFlux) -> Callable[[], np.ndarray]:
    """A picture of eight contexts: the control, the base's image and the present one, of the same noise."""
    contexts = draw_groups(data, range(8), 1, seed=config.seed, iteration=PICTURES)

    def draw(model: CellFlux) -> np.ndarray:
        device = next(model.parameters()).device
        td = contexts.to(device)
        return composite(model.sample(td["x0"], td["condition"], td["seed"])[0], data.channels)

    def show() -> np.ndarray:
        columns = [data.moas[m].split()[0] for m in contexts["moa"].tolist()]
        rows = [composite(contexts["x0"], data.channels), draw(ref), draw(theta)]
        return grid(rows, ["control", "before", "now"], columns)

    return show


def main(config: Config) -> None:
    accelerator = start_accelerator(
        mixed_precision=config.mixed_precision,
        trackers=config.trackers,
        output_dir=config.output_dir,
        threads=config.threads,
    )
    if not config.resume and accelerator.is_main_process and (moved := set_aside(config.output_dir)):
        print(f"{config.output_dir} held another run; it lies in {moved} now (--resume would go on with it)")
    accelerator.wait_for_everyone()
    accelerator.init_trackers("cellfluxrl", config=flat(asdict(config)))

    data = SyntheticCells("train")
    theta, old, ref = three_models(config)
    loss = NFTLoss(theta, old, ref, beta=config.beta, kl_weight=config.kl_weight, adaptive=config.loss == "adaptive")
    algorithm = Algorithm(
        loss=loss,
        collect=make_collect(config, data, old, accelerator),
        prepare=make_prepare(config, data, old, accelerator.gather),
        theta=theta,
        old=old,
        decay=partial(old_decay, slope=config.decay_slope, most=config.decay_most),
        constant=[ref],
    )
    ema = train(
        accelerator,
        TrainConfig(**{name: getattr(config, name) for name in TrainConfig.__dataclass_fields__}),
        algorithm,
        show=make_show(config, data, ref, theta),
        settings={name: str(value) for name, value in asdict(config).items() if name not in FREE},
    )
    if accelerator.is_main_process:
        with ema.swapped(theta):
            trained = copy.deepcopy(theta)
        if config.lora_rank:
            merge_lora(trained.network)
        trained.save_pretrained(config.output_dir / "model", {"nft": flat(asdict(config))})
        seconds = mean_seconds(config.output_dir / "log.jsonl")
        print("seconds an iteration: " + ", ".join(f"{name} {s:.2f}" for name, s in seconds.items()))
        test = SyntheticCells("test")
        evaluate_run(
            {"base": ref, ROWS[config.control]: trained},
            test,
            config.output_dir,
            rulers=make_rulers(test, preset=config.rewards, device=accelerator.device),
            contexts=config.contexts,
            config={"preset": config.rewards} | flat(asdict(config)),
        )
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    main(CONFIG)

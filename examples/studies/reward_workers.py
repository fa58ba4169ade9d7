"""Wall time of an iteration of DiffusionNFT with its rewards in this process, and in one or two workers beside it.

    OMP_NUM_THREADS=1 python -m examples.studies.reward_workers
    OMP_NUM_THREADS=1 python -m examples.studies.reward_workers --segmenter cellpose    # with random weights

An iteration is a rollout, its rewards and the gradient of one update. All numbers of workers take turns, so that other
work on the machine slows them alike; the first iteration, in which workers start, does not count. The rewards must be
equal bit for bit. By default a reward that sleeps stands for a segmenter on other hardware: it takes the time of
Cellpose and no core. Prints a table and writes it as Markdown.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from examples.studies.command_line import parse_script


@dataclass(frozen=True, kw_only=True)
class WorkersConfig:
    workers: tuple[int, ...] = (0, 1, 2)
    iterations: int = 5
    groups: int = 12  # of 12 images, in batches of `batch_size`
    batch_size: int = 24
    segmenter: Literal["sleeping", "cellpose"] = "sleeping"
    milliseconds: float = 53.0  # that the sleeping reward takes for an image
    output: Path = Path("runs/reward-workers.md")


PRESETS = {
    "default": WorkersConfig(),
    "smoke": WorkersConfig(
        workers=(0, 1), iterations=1, groups=1, batch_size=6, output=Path("runs/smoke/reward-workers.md")
    ),
}

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

# ruff: noqa: E402
from contextlib import ExitStack
from tempfile import TemporaryDirectory

import torch
from accelerate import Accelerator
from torch import Tensor

from algorithms.clock import Clock
from algorithms.config import TrainingRewardConfig
from algorithms.files import write_whole
from algorithms.launch import start_accelerator
from algorithms.recipes import nft
from algorithms.recipes.post_training import Components, build_components
from algorithms.trainer import Algorithm
from cellenv.data.cells import CellData
from examples.studies.gradient_noise import gradient
from examples.studies.time_segmenters import save_random_weights
from rewards import Reference

SLEEPING = """import time

def sleeping(images):
    time.sleep({seconds} * len(images))
    return images.new_zeros(len(images))
"""


def slow_rewards(config: WorkersConfig, folder: Path) -> TrainingRewardConfig:
    """The rewards of the config, with the files that they need in this folder."""
    if config.segmenter == "sleeping":
        (folder / "slow.py").write_text(SLEEPING.format(seconds=config.milliseconds / 1e3), encoding="utf-8")
        return TrainingRewardConfig(terms=(f"sleeping={folder / 'slow.py'}:sleeping",))
    nuclei, cells = save_random_weights(folder)
    replace(Reference.load(), about={}).save(folder / "reference.json")  # of any segmenter: only time matters here
    return TrainingRewardConfig(
        segmenter="cellpose",
        nucleus_weights=str(nuclei),
        cell_weights=str(cells),
        reference=folder / "reference.json",
    )


class Training:
    """Iterations with a number of workers, and the seconds of each phase of them."""

    def __init__(self, config: nft.NFTConfig, accelerator: Accelerator, data: CellData | None):
        self.components: Components[nft.NFTConfig] = build_components(config, accelerator, data)
        self.algorithm: Algorithm = nft.build(self.components)
        self.clock = Clock(accelerator.device)
        self.seconds: list[dict[str, float]] = []

    def iterate(self, iteration: int) -> Tensor:
        """Rewards of an iteration that is timed, (B, 1)."""
        self.clock.lap()
        rollout = self.algorithm.collect(iteration, self.clock)
        with self.clock("train"):
            gradient(self.components, self.algorithm, self.algorithm.build_batch(rollout, iteration))
        self.seconds.append(self.clock.lap())
        return rollout["next", "reward"]

    def median(self, phase: str) -> float:
        """Median seconds of a phase over all iterations but the first."""
        return torch.tensor([seconds[phase] for seconds in self.seconds[1:]]).median().item()


def measure(config: WorkersConfig) -> str:
    """Table with a row for each number of workers, as Markdown.

    Raises:
        RuntimeError: the rewards depend on the number of workers.
    """
    with TemporaryDirectory() as folder, ExitStack() as running:
        preset = nft.PRESETS["default"]
        rollout = replace(preset.rollout, groups=config.groups, batch_size=config.batch_size)
        rewards = slow_rewards(config, Path(folder))
        accelerator = start_accelerator(threads=1)
        trainings: dict[int, Training] = {}
        for n in config.workers:
            recipe = replace(preset, rollout=rollout, reward=replace(rewards, workers=n))
            data = next((training.components.data for training in trainings.values()), None)
            trainings[n] = Training(recipe, accelerator, data)
            running.enter_context(trainings[n].components.scorer)
        for i in range(config.iterations + 1):
            first, *others = (training.iterate(i) for training in trainings.values())
            if not all(torch.equal(first, other) for other in others):
                raise RuntimeError(f"the rewards of iteration {i} depend on the number of workers")
    lines = [
        "| workers | rollout, s | waiting for rewards, s | update, s | iteration, s | relative |",
        "|---|---|---|---|---|---|",
    ]
    base = trainings[config.workers[0]].median("total")
    for n, training in trainings.items():
        seconds = [training.median(phase) for phase in ("rollout", "rewards", "train", "total")]
        lines.append(f"| {n} | " + " | ".join(f"{s:.1f}" for s in seconds) + f" | {seconds[-1] / base:.2f} |")
    return "\n".join(lines) + "\n"


def main(config: WorkersConfig) -> None:
    table = measure(config)
    write_whole(config.output, table.encode())
    print(table)


if __name__ == "__main__":
    main(CONFIG)

"""Environment steps per second: n contexts in one batch against n separate environments, with the time of each part.

    python -m examples.studies.gym_throughput                  # 1, 16 and 256 contexts; a GPU where there is one
    python -m examples.studies.gym_throughput --task Steer --threads 2

Prints a table and writes it as Markdown. All environments share one world, so that 256 separate ones fit into memory.
`other` is all but network, rewards, features and drawing contexts: solver, observations, Gymnasium.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from examples.studies.command_line import parse_script


@dataclass(frozen=True, kw_only=True)
class GymThroughputConfig:
    task: Literal["Select", "Steer", "Paint"] = "Select"
    observation: Literal["images", "features"] = "images"
    contexts: tuple[int, ...] = (1, 16, 256)
    seconds: float = 20.0  # of each measurement; at least one step
    device: str | None = None  # None: a GPU where there is one
    threads: int | None = None  # of PyTorch
    output: Path = Path("runs/gym-throughput.md")


PRESETS = {
    "default": GymThroughputConfig(),
    "smoke": GymThroughputConfig(contexts=(1, 2), seconds=0.0, output=Path("runs/gym-smoke/throughput.md")),
}

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

# ruff: noqa: E402
from typing import Any

import torch
from gymnasium import make_vec
from gymnasium.vector import AutoresetMode, VectorEnv
from tensordict import TensorDict
from torch import Tensor, nn

from algorithms.clock import Clock
from algorithms.files import write_whole
from cellenv.gym import World


class TimedNetwork(nn.Module):
    """A network whose forward passes count in the clock's phase `network`."""

    def __init__(self, network: nn.Module, clock: Clock):
        super().__init__()
        self.network, self.clock = network, clock

    def forward(self, *args: Any) -> Tensor:
        with self.clock("network"):
            return self.network(*args)


class TimedWorld(World):
    """A world that times network, contexts, rewards and features."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.clock = Clock(self.device)
        self.generator.network = TimedNetwork(self.generator.network, self.clock)

    def draw(self, rngs: Any) -> TensorDict:
        with self.clock("contexts"):
            return super().draw(rngs)

    def rate(self, contexts: TensorDict, images: Tensor) -> TensorDict:
        with self.clock("rewards"):
            return super().rate(contexts, images)

    def features(self, images: Tensor) -> Tensor:
        with self.clock("features"):
            return super().features(images)


def steps_per_second(env: VectorEnv, clock: Clock, seconds: float) -> tuple[float, dict[str, float]]:
    """Environment steps per second, and the share of time of each part; the first step does not count."""
    env.reset(seed=0)
    env.action_space.seed(0)
    env.step(env.action_space.sample())
    clock.lap()
    steps = 0
    spent = {"total": 0.0}
    while steps == 0 or spent["total"] < seconds:
        env.step(env.action_space.sample())
        steps += 1
        spent = {part: spent.get(part, 0) + value for part, value in clock.lap().items()}
    total = spent.pop("total")
    return steps * env.num_envs / total, {part: value / total for part, value in spent.items()}


def measure(world: TimedWorld, config: GymThroughputConfig) -> str:
    """Table with a row for each number of contexts, as Markdown."""
    lines = [
        "| contexts | one batch, steps/s | separate, steps/s | ratio | time of a batch, by part |",
        "|---|---|---|---|---|",
    ]
    for n in config.contexts:
        options = {"num_envs": n, "world": world, "observation": config.observation}
        name = f"cellenv:cellenv/{config.task}-v0"
        batched, shares = steps_per_second(make_vec(name, **options), world.clock, config.seconds)
        same_step = {"autoreset_mode": AutoresetMode.SAME_STEP}
        sync_env = make_vec(name, vectorization_mode="sync", vector_kwargs=same_step, **options)
        separate, _ = steps_per_second(sync_env, world.clock, config.seconds)
        parts = ", ".join(f"{part} {share:.0%}" for part, share in sorted(shares.items(), key=lambda x: -x[1]))
        lines.append(f"| {n} | {batched:.2f} | {separate:.2f} | {batched / separate:.2f} | {parts} |")
    return "\n".join(lines) + "\n"


def main(config: GymThroughputConfig) -> None:
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    table = measure(TimedWorld(device=config.device), config)
    write_whole(config.output, table.encode())
    print(table)


if __name__ == "__main__":
    main(CONFIG)

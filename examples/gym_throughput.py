"""Environment steps a second: n contexts in one batch against n separate environments, and where the time goes.

    python examples/gym_throughput.py                  # 1, 16 and 256 contexts; a GPU where there is one
    python examples/gym_throughput.py --task Steer --threads 2

Prints a table and writes it as markdown. All environments share one world, so that 256 separate ones fit into memory.
`other` is what is neither network, rewards, features nor the drawing of contexts: solver, observations, Gymnasium.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from command_line import parse


@dataclass(frozen=True, kw_only=True)
class Config:
    task: Literal["Select", "Steer", "Paint"] = "Select"
    observation: Literal["images", "features"] = "images"
    contexts: tuple[int, ...] = (1, 16, 256)
    seconds: float = 20.0  # of each measurement; at least one step
    device: str | None = None  # None: a GPU where there is one
    threads: int | None = None  # of PyTorch
    output: Path = Path("runs/gym-throughput.md")


PRESETS = {"default": Config(), "smoke": Config(contexts=(1, 2), seconds=0.0, output=Path("runs/gym-smoke/speed.md"))}

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

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
    """The network, and how long it took."""

    def __init__(self, network: nn.Module, clock: Clock):
        super().__init__()
        self.network, self.clock = network, clock

    def forward(self, *args: Any) -> Tensor:
        with self.clock("network"):
            return self.network(*args)


class TimedWorld(World):
    """A world that knows how long each of its parts took."""

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


def speed(env: VectorEnv, clock: Clock, seconds: float) -> tuple[float, dict[str, float]]:
    """Environment steps a second, and the share of each part of a step; the first step does not count."""
    env.reset(seed=0)
    env.action_space.seed(0)
    env.step(env.action_space.sample())
    clock.lap()
    steps, spent = 0, {"total": 0.0}
    while steps == 0 or spent["total"] < seconds:
        env.step(env.action_space.sample())
        steps += 1
        spent = {part: spent.get(part, 0) + value for part, value in clock.lap().items()}
    total = spent.pop("total")
    return steps * env.num_envs / total, {part: value / total for part, value in spent.items()}


def measure(world: TimedWorld, config: Config) -> str:
    """The table: a row for each number of contexts."""
    lines = ["| contexts | one batch, steps/s | separate, steps/s | ratio | where a batch spends its time |"]
    lines += ["|---|---|---|---|---|"]
    for n in config.contexts:
        options = {"num_envs": n, "world": world, "observation": config.observation}
        name = f"cellenv:cellenv/{config.task}-v0"
        batch, shares = speed(make_vec(name, **options), world.clock, config.seconds)
        same_step = {"autoreset_mode": AutoresetMode.SAME_STEP}
        apart = make_vec(name, vectorization_mode="sync", vector_kwargs=same_step, **options)
        separate, _ = speed(apart, world.clock, config.seconds)
        where = ", ".join(f"{part} {share:.0%}" for part, share in sorted(shares.items(), key=lambda x: -x[1]))
        lines.append(f"| {n} | {batch:.2f} | {separate:.2f} | {batch / separate:.2f} | {where} |")
    return "\n".join(lines) + "\n"


def main(config: Config) -> None:
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    table = measure(TimedWorld(device=config.device), config)
    write_whole(config.output, table.encode())
    print(table)


if __name__ == "__main__":
    main(CONFIG)

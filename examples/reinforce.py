"""For users of TorchRL: the virtual cell with its Collector, its ReplayBuffer and REINFORCE written by hand.

    python examples/reinforce.py                   # about a minute: prints the mean reward of every iteration
    python examples/reinforce.py --preset smoke    # seconds
    python examples/reinforce.py --processes 2     # two processes draw, through TorchRL's MultiSyncCollector
    python examples/reinforce.py --processes 2 --ray   # the same as Ray actors, through its RayCollector

The policy generates no image, but edits one: for each compound it learns how far to zoom into the control and how
bright to make each stain, four parameters with normal noise. Groups share a context, so the mean reward of a group is
the baseline (as in GRPO), and an episode is one step, so the return is the reward.
"""

import sys
from dataclasses import dataclass

from algorithms.command_line import parse


@dataclass(frozen=True, kw_only=True)
class ReinforceConfig:
    iterations: int = 60
    groups: int = 24  # contexts an iteration
    group_size: int = 4  # edits of each context
    minibatch_size: int = 48  # edits per optimizer step; an iteration uses each once
    learning_rate: float = 0.004
    processes: int = 0  # that draw an equal part of the groups each; 0: this one draws
    ray: bool = False  # the processes are Ray actors, which may be on other machines
    seed: int = 0


PRESETS = {
    "default": ReinforceConfig(),
    "smoke": ReinforceConfig(iterations=2, groups=2, group_size=4, minibatch_size=4),
}

if __name__ == "__main__":
    CONFIG, DRY_RUN = parse(PRESETS, __doc__, sys.argv[1:])  # before the heavy imports: --help is quick

# ruff: noqa: E402
from collections.abc import Callable, Iterator
from functools import partial

import torch
from tensordict.nn import (
    ProbabilisticTensorDictModule,
    ProbabilisticTensorDictSequential,
    TensorDictModule,
    TensorDictSequential,
)
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample
from torchrl.collectors import BaseCollector, Collector, MultiSyncCollector
from torchrl.collectors.distributed import RayCollector
from torchrl.data import LazyTensorStorage, ReplayBuffer, SamplerWithoutReplacement
from torchrl.envs import EnvBase, TransformedEnv
from torchrl.modules import IndependentNormal

from algorithms.advantages import advantage, batch_std
from cellenv import SyntheticCells, VirtualCellEnv
from rewards import cellflux_rewards

SCALE = 0.2  # standard deviation of each edit parameter


class EditPolicy(nn.Module):
    """Mean and scale of log zoom and log brightness of three stains, by compound: (B, D) -> (B, 4) twice."""

    def __init__(self, condition_size: int):
        super().__init__()
        self.mean = nn.Linear(condition_size, 4)
        nn.init.zeros_(self.mean.weight)  # starts at the unedited control, plus noise
        nn.init.zeros_(self.mean.bias)

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.mean(condition)
        return mean, torch.full_like(mean, SCALE)


def edit(x0: Tensor, parameters: Tensor) -> Tensor:
    """Zoom into the centre and scale the stains, (B, 3, H, W) and (B, 4) -> (B, 3, H, W) in [-1, 1]."""
    zoom, gain = parameters[:, 0].exp(), parameters[:, 1:].exp()
    transform = torch.eye(2, 3).to(x0) / zoom.reshape(-1, 1, 1)  # (B, 2, 3)
    sampling_grid = affine_grid(transform, list(x0.shape), align_corners=False)
    intensity = grid_sample(x0 + 1, sampling_grid, align_corners=False)
    return (intensity * gain[..., None, None] - 1).clamp(-1, 1)


def build_actor(condition_size: int) -> ProbabilisticTensorDictSequential:
    """From a condition to edit parameters and their distribution."""
    return ProbabilisticTensorDictSequential(
        TensorDictModule(EditPolicy(condition_size), ["condition"], ["loc", "scale"]),
        ProbabilisticTensorDictModule(["loc", "scale"], ["parameters"], distribution_class=IndependentNormal),
    )


def build_collector(
    env: EnvBase | list[Callable[[], EnvBase]], actor: ProbabilisticTensorDictSequential, config: ReinforceConfig
) -> BaseCollector:
    """Edits by the actor in an environment, or in several, each made and run in a process of its own."""
    images = config.groups * config.group_size
    policy = TensorDictSequential(actor, TensorDictModule(edit, ["x0", "parameters"], ["action"]))
    frames = {"frames_per_batch": images, "total_frames": config.iterations * images}
    no_memory = {"auto_register_policy_transforms": False}  # of the policy: no InitTracker
    if config.ray:
        one_core = {"num_cpus": 1, "num_gpus": 0}
        return RayCollector(env, policy, **frames, sync=True, collector_kwargs=no_memory, remote_configs=one_core)
    collector = MultiSyncCollector if isinstance(env, list) else Collector
    return collector(env, policy, **frames, **no_memory)


def reinforce(env: EnvBase | list[Callable[[], EnvBase]], config: ReinforceConfig) -> Iterator[float]:
    """grad = E[A grad log p(parameters)], A the reward minus its group's mean; yields each iteration's mean reward."""
    spec = (env[0]() if isinstance(env, list) else env).observation_spec
    actor = build_actor(spec["condition"].shape[-1])
    collector = build_collector(env, actor, config)
    images = config.groups * config.group_size
    buffer = ReplayBuffer(
        storage=LazyTensorStorage(images), sampler=SamplerWithoutReplacement(), batch_size=config.minibatch_size
    )
    optimizer = torch.optim.Adam(actor.parameters(), lr=config.learning_rate)
    for batch in collector:
        batch = batch.reshape(-1)  # [B, 1] -> [B]: episodes of one step
        reward = batch["next", "reward"].squeeze(-1)
        batch["advantage"] = advantage(reward, batch["group"], batch_std(reward))
        buffer.extend(batch.select("condition", "parameters", "advantage"))  # replaces the previous batch
        for rows in buffer:
            log_prob = actor.get_dist(rows).log_prob(rows["parameters"])
            loss = -(rows["advantage"] * log_prob).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        collector.update_policy_weights_()  # sent to the processes that draw; on a CPU they share memory with this one
        yield reward.nanmean().item()
    collector.shutdown()


def make_env(groups: int, group_size: int, seed: int) -> TransformedEnv:
    """The rewarded environment, in the process that runs it."""
    torch.manual_seed(seed)  # of the policy's noise; the env has its own generator
    env = VirtualCellEnv(SyntheticCells("train"), batch_size=groups * group_size, group_size=group_size, seed=seed)
    return TransformedEnv(env, cellflux_rewards())


def main(config: ReinforceConfig) -> None:
    if config.processes and config.groups % config.processes:
        raise ValueError(f"need a multiple of {config.processes} processes as groups, got {config.groups}")
    if config.ray and not config.processes:
        raise ValueError("--ray needs --processes, the number of its actors")
    groups = config.groups // max(1, config.processes)
    seeds = range(config.seed, config.seed + config.processes)
    in_processes = [partial(make_env, groups, config.group_size, seed) for seed in seeds]
    env = in_processes or make_env(groups, config.group_size, config.seed)
    for iteration, reward in enumerate(reinforce(env, config)):
        print(f"iteration {iteration:3d}: reward {reward:.3f}")


if __name__ == "__main__":
    print(CONFIG) if DRY_RUN else main(CONFIG)

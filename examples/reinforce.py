"""For users of TorchRL: the virtual cell with its Collector, its ReplayBuffer and REINFORCE written by hand.

    python examples/reinforce.py                   # about a minute: the mean reward of every iteration
    python examples/reinforce.py --preset smoke    # seconds

A policy that generates no image, but edits one: for each compound it learns how far to zoom into the control and how
bright to make each stain, four knobs with normal noise. Groups share a context, so that the mean reward of a group is
the baseline (as in GRPO), and an episode is one step, so that the return is the reward.
"""

from dataclasses import dataclass

from command_line import parse


@dataclass(frozen=True, kw_only=True)
class Config:
    iterations: int = 60
    groups: int = 24  # contexts an iteration
    group_size: int = 4  # edits of each
    minibatch: int = 48  # edits an optimizer step; an iteration takes each once
    learning_rate: float = 0.004
    seed: int = 0


PRESETS = {"default": Config(), "smoke": Config(iterations=2, groups=2, group_size=4, minibatch=4)}

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
from collections.abc import Iterator

import torch
from tensordict.nn import (
    ProbabilisticTensorDictModule,
    ProbabilisticTensorDictSequential,
    TensorDictModule,
    TensorDictSequential,
)
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, ReplayBuffer, SamplerWithoutReplacement
from torchrl.envs import EnvBase, TransformedEnv
from torchrl.modules import IndependentNormal

from algorithms.advantages import advantage, batch_std
from cellenv import SyntheticCells, VirtualCellEnv
from rewards import cellflux_rewards

SPREAD = 0.2  # of the noise on each knob


class Knobs(nn.Module):
    """Mean and spread of log zoom and log brightness of three stains for a compound: (B, D) -> (B, 4) twice."""

    def __init__(self, condition_size: int):
        super().__init__()
        self.mean = nn.Linear(condition_size, 4)
        nn.init.zeros_(self.mean.weight)  # at first the control itself, but for noise
        nn.init.zeros_(self.mean.bias)

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.mean(condition)
        return mean, torch.full_like(mean, SPREAD)


def edit(x0: Tensor, knobs: Tensor) -> Tensor:
    """Zoom into the middle and scale the stains, (B, 3, H, W) and (B, 4) -> (B, 3, H, W) in [-1, 1]."""
    zoom, gain = knobs[:, 0].exp(), knobs[:, 1:].exp()
    corner = torch.eye(2, 3).to(x0) / zoom.reshape(-1, 1, 1)  # (B, 2, 3)
    light = grid_sample(x0 + 1, affine_grid(corner, list(x0.shape), align_corners=False), align_corners=False)
    return (light * gain[..., None, None] - 1).clamp(-1, 1)


def reinforce(env: EnvBase, config: Config) -> Iterator[float]:
    """grad = E[A grad log p(knobs)], with A the reward less the mean of its group. Yields each iteration's reward."""
    actor = ProbabilisticTensorDictSequential(
        TensorDictModule(Knobs(env.observation_spec["condition"].shape[-1]), ["condition"], ["loc", "scale"]),
        ProbabilisticTensorDictModule(["loc", "scale"], ["knobs"], distribution_class=IndependentNormal),
    )
    policy = TensorDictSequential(actor, TensorDictModule(edit, ["x0", "knobs"], ["action"]))
    images = config.groups * config.group_size
    collector = Collector(
        env,
        policy,
        frames_per_batch=images,
        total_frames=config.iterations * images,
        auto_register_policy_transforms=False,  # the policy has no memory: no InitTracker
    )
    buffer = ReplayBuffer(
        storage=LazyTensorStorage(images), sampler=SamplerWithoutReplacement(), batch_size=config.minibatch
    )
    optimizer = torch.optim.Adam(actor.parameters(), lr=config.learning_rate)
    for batch in collector:
        batch = batch.reshape(-1)  # [B, 1] -> [B]: episodes of one step
        reward = batch["next", "reward"].squeeze(-1)
        batch["advantage"] = advantage(reward, batch["group"], batch_std(reward))
        buffer.extend(batch.select("condition", "knobs", "advantage"))  # the newest batch takes the old one's place
        for rows in buffer:
            loss = -(rows["advantage"] * actor.get_dist(rows).log_prob(rows["knobs"])).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        yield reward.nanmean().item()
    collector.shutdown()


def main(config: Config) -> None:
    torch.manual_seed(config.seed)  # of the knobs; the env has a stream of its own
    images = config.groups * config.group_size
    env = VirtualCellEnv(SyntheticCells("train"), batch_size=images, group_size=config.group_size, seed=config.seed)
    for iteration, reward in enumerate(reinforce(TransformedEnv(env, cellflux_rewards()), config)):
        print(f"iteration {iteration:3d}: reward {reward:.3f}")


if __name__ == "__main__":
    main(CONFIG)

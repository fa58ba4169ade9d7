"""Agents of Stable-Baselines3 for the bandits: an adapter for its vector environments, networks, and settings.

B batch, K candidates, F features.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.dqn.policies import MultiInputPolicy, QNetwork
from torch import Tensor, nn

ENVS = 32  # at once
Statistics = Mapping[str, tuple[Tensor, Tensor]]  # key -> mean and std of each feature


class Adapter(VecEnv):
    """A Gymnasium vector environment whose episodes are one step, as Stable-Baselines3 wants it.

    Agents get (reward - centre) / width.
    """

    def __init__(self, env: VectorEnv, centre: float = 0.0, width: float = 1.0):
        self.env, self.centre, self.width = env, centre, width  # before super(), which asks for the render mode
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> dict[str, np.ndarray]:
        seeds = list(self._seeds)  # set by `seed()`, for one reset
        self._reset_seeds()
        return self.env.reset(seed=seeds)[0]

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def step_wait(self) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, list[dict]]:
        observation, rewards, ended, _, infos = self.env.step(self.actions)
        rewards = (rewards - self.centre) / self.width
        return observation, rewards, ended, [{"terminal_observation": each} for each in infos["final_obs"]]

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list:
        return [getattr(self.env, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("the environments of a batch are one object")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list:
        raise NotImplementedError("the environments of a batch are one object")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))


def statistics(seen: Mapping[str, np.ndarray]) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and std of every feature over all axes but the last; where a feature is constant the std is 1."""
    out = {}
    for key, values in seen.items():
        rows = torch.from_numpy(values).flatten(0, -2).float()  # (., F)
        std = rows.std(0)
        out[key] = rows.mean(0), torch.where(std > 0, std, 1)
    return out


class Flat(BaseFeaturesExtractor):
    """All features of an observation side by side, each with mean 0 and variance 1 on the stock, (B, F)."""

    def __init__(self, space: spaces.Dict, statistics: Statistics):
        super().__init__(space, sum(spaces.flatdim(each) for each in space.values()))
        self.keys = sorted(statistics)
        for key in self.keys:
            for name, value in zip(("mean", "std"), statistics[key], strict=True):
                self.register_buffer(f"{name}_{key}", value)

    def standard(self, seen: Mapping[str, Tensor], key: str) -> Tensor:
        return (seen[key].float() - getattr(self, f"mean_{key}")) / getattr(self, f"std_{key}")

    def forward(self, seen: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([self.standard(seen, key).flatten(1) for key in self.keys], 1)


class Scores(Flat):
    """One network scores each of K images by what is seen of it, of the control and of the condition: (B, K).

    Shuffling the images shuffles the scores, which no network on their concatenation has to learn then.
    """

    def __init__(self, space: spaces.Dict, statistics: Statistics, width: int = 128):
        super().__init__(space, statistics)
        self.each = [key for key in self.keys if len(space[key].shape) == 2]  # (K, F)
        self.shared = [key for key in self.keys if key not in self.each]
        self._features_dim = space[self.each[0]].shape[0]
        self.seen = sum(space[key].shape[-1] for key in self.keys)
        self.score = mlp(self.seen, width, 1)

    def rows(self, seen: Mapping[str, Tensor]) -> Tensor:
        """All that is seen of each image, (B, K, F)."""
        each = torch.cat([self.standard(seen, key) for key in self.each], 2)
        shared = torch.cat([self.standard(seen, key) for key in self.shared], 1)
        return torch.cat([each, shared.unsqueeze(1).expand(-1, each.shape[1], -1)], 2)

    def forward(self, seen: Mapping[str, Tensor]) -> Tensor:
        return self.score(self.rows(seen)).squeeze(2)


class Knobs(Scores):
    """`common` numbers of what is seen on the average of the K images, and a score of each: (B, common + K)."""

    def __init__(self, space: spaces.Dict, statistics: Statistics, common: int = 2, width: int = 128):
        super().__init__(space, statistics, width)
        self._features_dim += common
        self.common = mlp(self.seen, width, common)

    def forward(self, seen: Mapping[str, Tensor]) -> Tensor:
        rows = self.rows(seen)
        return torch.cat([self.common(rows.mean(1)), self.score(rows).squeeze(2)], 1)


def mlp(n_in: int, width: int, n_out: int) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(nn.Linear(n_in, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, n_out))


class ChoicePolicy(MultiInputActorCriticPolicy):
    """What is extracted are the logits, or the means of the knobs."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = nn.Identity()


class ChoiceQ(MultiInputPolicy):
    """The scores are the values."""

    def make_q_net(self) -> QNetwork:
        network = super().make_q_net()
        network.q_net = nn.Identity()
        return network


def select_ppo(env: VecEnv, seed: int, statistics: Statistics) -> PPO:
    options = _policy(Scores, statistics, net_arch=[], share_features_extractor=False, ortho_init=False)
    return PPO(ChoicePolicy, env, n_steps=16, batch_size=128, learning_rate=1e-3, ent_coef=0.01, seed=seed, **options)


def select_dqn(env: VecEnv, seed: int, statistics: Statistics) -> DQN:
    """An episode is one step, so that this is a regression of the reward."""
    return DQN(
        ChoiceQ,
        env,
        learning_rate=5e-4,
        learning_starts=512,
        batch_size=256,
        buffer_size=50_000,
        train_freq=1,
        gradient_steps=16,
        exploration_fraction=0.5,
        exploration_final_eps=0.1,
        seed=seed,
        **_policy(Scores, statistics, net_arch=[]),
    )


def steer_ppo(env: VecEnv, seed: int, statistics: Statistics) -> PPO:
    options = _policy(Knobs, telling(statistics), net_arch=[], share_features_extractor=False, ortho_init=False)
    model = PPO(ChoicePolicy, env, n_steps=16, batch_size=128, learning_rate=1e-3, seed=seed, **options)
    with torch.no_grad():
        model.policy.log_std[:2] = -1.5  # of dose and noise: what explores them wider spoils the drafts
    return model


def steer_sac(env: VecEnv, seed: int, statistics: Statistics) -> SAC:
    return SAC(
        "MultiInputPolicy",
        env,
        learning_rate=1e-3,
        learning_starts=512,
        buffer_size=50_000,
        train_freq=1,
        gradient_steps=8,
        ent_coef="auto_0.05",
        seed=seed,
        **_policy(partial(Knobs, common=16), telling(statistics), net_arch=[128, 128]),
    )


def telling(statistics: Statistics) -> Statistics:
    """What tells most of what Steer shows; with the features of the images, too, an agent learns more slowly."""
    return {key: statistics[key] for key in ("condition", "rewards")}


def _policy(extractor: Callable[..., Flat], statistics: Statistics, **options: Any) -> dict[str, Any]:
    how = {"features_extractor_class": extractor, "features_extractor_kwargs": {"statistics": statistics}}
    return {"policy_kwargs": how | options, "device": "cpu"}


LEARNERS = {"Select": {"PPO": select_ppo, "DQN": select_dqn}, "Steer": {"PPO": steer_ppo, "SAC": steer_sac}}


def best_draft(seen: Mapping[str, np.ndarray]) -> np.ndarray:
    """Nothing learned: pull to the draft whose rewards have the highest sum, and touch no other knob."""
    best = seen["rewards"].sum(2).argmax(1)
    knobs = np.full((len(best), 2 + seen["rewards"].shape[1]), -1, np.float32)
    knobs[:, :2] = 0
    knobs[np.arange(len(best)), 2 + best] = 1
    return knobs


RULES = {"Select": {}, "Steer": {"best draft": best_draft}}


def act_of(model: BaseAlgorithm, seen: Mapping[str, np.ndarray]) -> np.ndarray:
    """What the model thinks best."""
    return model.predict(dict(seen), deterministic=True)[0]

"""Stable-Baselines3 agents for the bandits: vector environment, networks and hyperparameters.

B batch, K candidates or drafts, F features.
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

NUM_ENVS = 32
SHARED_ACTIONS = 2  # of Steer: dose and noise; the other actions are one pull per draft
Observation = Mapping[str, np.ndarray]  # key -> batch
Statistics = Mapping[str, tuple[Tensor, Tensor]]  # key -> mean and std of each feature, (F,) each


class OneStepVecEnv(VecEnv):
    """A Gymnasium vector environment of one-step episodes, for Stable-Baselines3.

    Agents get (reward - mean) / std.
    """

    def __init__(self, env: VectorEnv, mean: float = 0.0, std: float = 1.0):
        self.env, self.mean, self.std = env, mean, std  # before super(), which asks for the render mode
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> dict[str, np.ndarray]:
        seeds = list(self._seeds)  # set by `seed()`, for one reset
        self._reset_seeds()
        return self.env.reset(seed=seeds)[0]

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def step_wait(self) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, list[dict[str, Any]]]:
        observation, rewards, ended, _, infos = self.env.step(self.actions)
        rewards = (rewards - self.mean) / self.std
        return observation, rewards, ended, [{"terminal_observation": each} for each in infos["final_obs"]]

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.env, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("the environments of a batch are one object")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise NotImplementedError("the environments of a batch are one object")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))


def feature_statistics(observation: Observation) -> Statistics:
    """Mean and std of every feature over all axes but the last; the std of a constant feature is set to 1."""
    statistics = {}
    for key, values in observation.items():
        rows = torch.from_numpy(values).flatten(0, -2).float()  # (., F)
        std = rows.std(0)
        statistics[key] = rows.mean(0), torch.where(std > 0, std, 1)
    return statistics


class StandardizedFeatures(BaseFeaturesExtractor):
    """All features of an observation concatenated, standardised by the given statistics, (B, F)."""

    def __init__(self, space: spaces.Dict, statistics: Statistics):
        super().__init__(space, sum(spaces.flatdim(each) for each in space.values()))
        self.keys = sorted(statistics)
        for key in self.keys:
            for name, value in zip(("mean", "std"), statistics[key], strict=True):
                self.register_buffer(f"{name}_{key}", value)

    def standardize(self, observation: Mapping[str, Tensor], key: str) -> Tensor:
        """(x - mean) / std of one key."""
        return (observation[key].float() - getattr(self, f"mean_{key}")) / getattr(self, f"std_{key}")

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([self.standardize(observation, key).flatten(1) for key in self.keys], 1)


class ScoreNetwork(StandardizedFeatures):
    """One network scores each of K images from its features, the control's and the condition, (B, K).

    Equivariant to the order of the images, which a network on their concatenation would have to learn.
    """

    def __init__(self, space: spaces.Dict, statistics: Statistics, width: int = 128):
        super().__init__(space, statistics)
        self.per_image = [key for key in self.keys if len(space[key].shape) == 2]  # (K, F)
        self.shared = [key for key in self.keys if key not in self.per_image]
        self._features_dim = space[self.per_image[0]].shape[0]
        self.n_inputs = sum(space[key].shape[-1] for key in self.keys)
        self.score = mlp(self.n_inputs, width, 1)

    def inputs(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Features of each image beside the shared ones, (B, K, F)."""
        per_image = torch.cat([self.standardize(observation, key) for key in self.per_image], 2)
        shared = torch.cat([self.standardize(observation, key) for key in self.shared], 1)
        return torch.cat([per_image, shared.unsqueeze(1).expand(-1, per_image.shape[1], -1)], 2)

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        return self.score(self.inputs(observation)).squeeze(2)


class SteerNetwork(ScoreNetwork):
    """`n_shared` outputs from the mean over the K images, then a score of each image: (B, n_shared + K)."""

    def __init__(self, space: spaces.Dict, statistics: Statistics, n_shared: int = SHARED_ACTIONS, width: int = 128):
        super().__init__(space, statistics, width)
        self._features_dim += n_shared
        self.shared_outputs = mlp(self.n_inputs, width, n_shared)

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        inputs = self.inputs(observation)
        return torch.cat([self.shared_outputs(inputs.mean(1)), self.score(inputs).squeeze(2)], 1)


def mlp(n_in: int, width: int, n_out: int) -> nn.Sequential:
    """Two hidden layers with SiLU."""
    return nn.Sequential(nn.Linear(n_in, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, n_out))


class IdentityHeadPolicy(MultiInputActorCriticPolicy):
    """Actor-critic whose extracted features are the logits, or the means of the actions."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = nn.Identity()


class IdentityHeadQPolicy(MultiInputPolicy):
    """DQN policy whose extracted features are the Q values."""

    def make_q_net(self) -> QNetwork:
        network = super().make_q_net()
        network.q_net = nn.Identity()
        return network


def select_ppo(env: VecEnv, seed: int, statistics: Statistics) -> PPO:
    """PPO for Select."""
    options = _policy(ScoreNetwork, statistics, net_arch=[], share_features_extractor=False, ortho_init=False)
    return PPO(
        IdentityHeadPolicy, env, n_steps=16, batch_size=128, learning_rate=1e-3, ent_coef=0.01, seed=seed, **options
    )


def select_dqn(env: VecEnv, seed: int, statistics: Statistics) -> DQN:
    """DQN for Select; with one-step episodes it regresses the reward."""
    return DQN(
        IdentityHeadQPolicy,
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
        **_policy(ScoreNetwork, statistics, net_arch=[]),
    )


def steer_ppo(env: VecEnv, seed: int, statistics: Statistics) -> PPO:
    """PPO for Steer."""
    keys = informative_keys(statistics)
    options = _policy(SteerNetwork, keys, net_arch=[], share_features_extractor=False, ortho_init=False)
    model = PPO(IdentityHeadPolicy, env, n_steps=16, batch_size=128, learning_rate=1e-3, seed=seed, **options)
    with torch.no_grad():
        model.policy.log_std[:SHARED_ACTIONS] = -1.5  # wider exploration of dose and noise spoils the images
    return model


def steer_sac(env: VecEnv, seed: int, statistics: Statistics) -> SAC:
    """SAC for Steer."""
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
        **_policy(partial(SteerNetwork, n_shared=16), informative_keys(statistics), net_arch=[128, 128]),
    )


def informative_keys(statistics: Statistics) -> Statistics:
    """Condition and rewards of the drafts: with image features too, agents learn Steer more slowly."""
    return {key: statistics[key] for key in ("condition", "rewards")}


def _policy(extractor: Callable[..., StandardizedFeatures], statistics: Statistics, **options: Any) -> dict[str, Any]:
    features = {"features_extractor_class": extractor, "features_extractor_kwargs": {"statistics": statistics}}
    return {"policy_kwargs": features | options, "device": "cpu"}


LEARNERS = {"Select": {"PPO": select_ppo, "DQN": select_dqn}, "Steer": {"PPO": steer_ppo, "SAC": steer_sac}}


def best_draft(observation: Observation) -> np.ndarray:
    """Rule for Steer without learning: pull fully to the draft with the highest sum of rewards; dose and noise 0."""
    best = observation["rewards"].sum(2).argmax(1)
    actions = np.full((len(best), SHARED_ACTIONS + observation["rewards"].shape[1]), -1, np.float32)
    actions[:, :SHARED_ACTIONS] = 0
    actions[np.arange(len(best)), SHARED_ACTIONS + best] = 1
    return actions


RULES: dict[str, dict[str, Callable[[Observation], np.ndarray]]] = {"Select": {}, "Steer": {"best draft": best_draft}}


def greedy_action(model: BaseAlgorithm, observation: Observation) -> np.ndarray:
    """The model's deterministic actions."""
    return model.predict(dict(observation), deterministic=True)[0]

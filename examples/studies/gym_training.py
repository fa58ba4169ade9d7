"""Train the baselines of the Gymnasium benchmark and collect their rewards. n contexts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from tensordict import TensorDict
from tqdm import tqdm

from cellenv.gym import Scale, TaskVectorEnv
from cellenv.gym.score import BATCH, play
from examples.studies.gym_agents import LEARNERS, NUM_ENVS, OneStepVecEnv, feature_statistics, greedy_action
from examples.studies.gym_cached_task import CachedTask
from examples.studies.gym_config import BenchmarkConfig


@dataclass(frozen=True)
class AgentRun:
    """One agent with one seed: its rewards, (n,), and its learning curve as pairs (steps, score)."""

    task: str
    agent: str
    seed: int
    rewards: NDArray[np.float64]
    curve: tuple[tuple[int, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Measurements for JSON."""
        return {"rewards": self.rewards.tolist(), "curve": self.curve}


class CurveCallback(BaseCallback):
    """Learning curve: scores the agent at the start and once each number of steps is reached; moves a progress bar."""

    def __init__(self, score: Callable[[], float], steps: Sequence[float], bar: tqdm):
        super().__init__()
        self.score, self.remaining, self.bar = score, list(steps), bar
        self.curve = [(0, score())]

    def _on_step(self) -> bool:
        self.bar.update(self.num_timesteps - self.bar.n)
        if self.remaining and self.num_timesteps >= self.remaining[0]:
            self.remaining.pop(0)
            self.curve.append((self.num_timesteps, self.score()))
        return True


def train_agent(
    name: str, train: CachedTask, test: CachedTask, scale: Scale, seed: int, config: BenchmarkConfig
) -> AgentRun:
    """Train an agent of LEARNERS, with its score along the way and its rewards at the end.

    It sees rewards standardised by mean and std of those of random actions.
    """
    random_actions = random_rewards(train, train.scenes[: config.constant_contexts], seed)
    env = OneStepVecEnv(TaskVectorEnv(NUM_ENVS, train), random_actions.mean(), random_actions.std())
    model = LEARNERS[train.kind][name](env, seed, feature_statistics(train.observations))
    curve_scale = scale.head(config.curve_contexts)
    steps = np.linspace(0, config.steps, config.points + 1)[1:-1]
    with tqdm(total=config.steps, desc=f"{train.kind}, {name}, seed {seed}", unit="step", leave=False) as bar:
        callback = CurveCallback(lambda: score_agent(model, test, curve_scale), steps, bar)
        model.learn(config.steps, callback=callback)
    rewards = play(test, lambda observation: greedy_action(model, observation), test.scenes)
    final = (model.num_timesteps, float(scale.score(rewards)))
    return AgentRun(train.kind, name, seed, rewards, (*callback.curve, final))


def score_agent(model: BaseAlgorithm, test: CachedTask, scale: Scale) -> float:
    """Score in the first contexts, as many as the scale has."""
    scenes = test.scenes[: len(scale.untouched)]
    return float(scale.score(play(test, lambda observation: greedy_action(model, observation), scenes)))


def best_constant(train: CachedTask, test: CachedTask, config: BenchmarkConfig) -> AgentRun:
    """The single action with the highest mean reward on training contexts; a continuous search includes 0."""
    space, scenes = train.action_space, train.scenes[: config.constant_contexts]
    if isinstance(space, spaces.Discrete):
        actions = np.arange(space.n)
    else:
        rng = np.random.default_rng(0)
        actions = rng.uniform(space.low, space.high, (config.constants, *space.shape)).astype(np.float32)
        actions[0] = 0

    def rewards_of(action: np.ndarray, task: CachedTask, scenes: TensorDict) -> NDArray[np.float64]:
        return play(task, lambda observation: np.stack([action] * len(observation["condition"])), scenes)

    means = [rewards_of(action, train, scenes).mean() for action in tqdm(actions, desc="constants", leave=False)]
    return AgentRun(train.kind, "best constant", 0, rewards_of(actions[int(np.argmax(means))], test, test.scenes))


def random_rewards(task: CachedTask, scenes: TensorDict, seed: int) -> NDArray[np.float64]:
    """Rewards of uniformly random actions, (n,)."""
    space = batch_space(task.action_space, len(scenes))
    space.seed(seed)
    actions = iter(np.array_split(space.sample(), np.arange(BATCH, len(scenes), BATCH)))
    return play(task, lambda observation: next(actions), scenes)

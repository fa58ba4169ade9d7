"""A task as Gymnasium sees it: one environment, or n that share every batch. Every step ends its episode."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.error import ResetNeeded
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate
from tensordict import TensorDict

from cellenv.gym.card import card, text
from cellenv.gym.task import Task

RENDER = {"render_modes": ["rgb_array", "ansi"], "render_fps": 1}


def as_task(task: Task | str, options: dict[str, Any]) -> Task:
    """The task, or the one that "module:Class" names with these options; so are Gymnasium's entry points written."""
    if not isinstance(task, Task):
        return load_env_creator(task)(**options)
    if options:
        raise ValueError(f"{task.name} is made already and takes no options; got {', '.join(options)}")
    return task


def describe(task: Task, scene: TensorDict, outcome: TensorDict | None) -> dict[str, Any]:
    """What `info` says of each scene, arrays [B]: names of compound and mechanism; every reward once it is judged."""
    data = task.world.data
    info = {
        "compound": np.array([data.compounds[i] for i in scene["perturbation"].tolist()], object),
        "moa": np.array([data.moas[i] for i in scene["moa"].tolist()], object),
    }
    if outcome is not None:
        info["rewards"] = {name: value.cpu().numpy() for name, value in outcome.get("rewards", {}).items()}
    return info


def pick(values: dict[str, Any], i: int) -> dict[str, Any]:
    """Entry i of every array."""
    return {k: pick(v, i) if isinstance(v, dict) else v[i] for k, v in values.items()}


def masked(info: dict[str, Any], n: int) -> dict[str, Any]:
    """With `_key`, n times True, beside every key, as Gymnasium's vector environments have it."""
    out = {}
    for key, value in info.items():
        out[key] = masked(value, n) if isinstance(value, dict) else value
        out[f"_{key}"] = np.ones(n, bool)
    return out


class TaskEnv(gymnasium.Env):
    """One environment. The final observation is the scene that was acted on; `info["rewards"]` has every reward.

    options: of the task, where it is given by name.
    """

    metadata = RENDER

    def __init__(self, task: Task | str, *, render_mode: str | None = None, **options: Any):
        self.task, self.render_mode = as_task(task, options), render_mode
        self.observation_space, self.action_space = self.task.observation_space, self.task.action_space
        self.scene = self.outcome = None

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        self.scene, self.outcome = self.task.draw([self.np_random]), None
        self.observation = pick(self.task.observe(self.scene), 0)
        return deepcopy(self.observation), pick(describe(self.task, self.scene, None), 0)

    def step(self, action: Any) -> tuple[dict, float, bool, bool, dict]:
        if self.scene is None or self.outcome is not None:
            raise ResetNeeded("an episode is one step: call reset() before step()")
        self.outcome = self.task.judge(self.scene, np.asarray(action)[None])
        info = pick(describe(self.task, self.scene, self.outcome), 0)
        return deepcopy(self.observation), self.outcome["reward"].item(), True, False, info

    def render(self) -> np.ndarray | str | None:
        """The control, or the image that was judged, with outlines and its rewards; "ansi" is the text alone."""
        if self.scene is None:
            raise ResetNeeded("nothing to show: call reset() before render()")
        return frames(self.task, self.scene, self.outcome, self.render_mode)[0]


class TaskVectorEnv(VectorEnv):
    """n environments, one batch through network and rewards. Environment i equals a TaskEnv of its own seed.

    A step returns the next scenes; `infos["final_obs"]` and `infos["final_info"]` have those that were acted on.
    """

    metadata = RENDER | {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(self, num_envs: int, task: Task | str, *, render_mode: str | None = None, **options: Any):
        if num_envs < 1:
            raise ValueError(f"need at least one environment, got num_envs = {num_envs}")
        self.num_envs, self.task, self.render_mode = num_envs, as_task(task, options), render_mode
        self.single_observation_space = self.task.observation_space
        self.single_action_space = self.task.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.rngs = [np_random()[0] for _ in range(num_envs)]
        self.scene = self.judged = None

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict | None = None
    ) -> tuple[dict, dict]:
        """seed: of environment 0; environment i has seed + i. A sequence names each; None goes on as before."""
        if seed is None or isinstance(seed, int):
            seed = [None if seed is None else seed + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"need a seed for each of {self.num_envs} environments, got {len(seed)}")
        self.rngs = [rng if s is None else np_random(s)[0] for rng, s in zip(self.rngs, seed, strict=True)]
        self.judged = None
        return self._next(), masked(describe(self.task, self.scene, None), self.num_envs)

    def step(self, actions: np.ndarray) -> tuple[dict, np.ndarray, np.ndarray, np.ndarray, dict]:
        if self.scene is None:
            raise ResetNeeded("call reset() before step()")
        outcome = self.task.judge(self.scene, actions)
        self.judged = self.scene, outcome
        final = {
            "final_obs": np.fromiter(iterate(self.observation_space, self.observation), object, self.num_envs),
            "final_info": describe(self.task, self.scene, outcome),
        }
        observation = self._next()
        infos = masked(final | describe(self.task, self.scene, None), self.num_envs)
        rewards = outcome["reward"].double().cpu().numpy()
        return observation, rewards, np.ones(self.num_envs, bool), np.zeros(self.num_envs, bool), infos

    def render(self) -> tuple[np.ndarray | str, ...] | None:
        """A frame of each environment: what was judged last, or the controls before the first step."""
        if self.scene is None:
            raise ResetNeeded("nothing to show: call reset() before render()")
        return frames(self.task, *(self.judged or (self.scene, None)), self.render_mode)

    def _next(self) -> dict[str, np.ndarray]:
        self.scene = self.task.draw(self.rngs)
        self.observation = self.task.observe(self.scene)
        return deepcopy(self.observation)


def frames(
    task: Task, scene: TensorDict, outcome: TensorDict | None, mode: str | None
) -> tuple[np.ndarray | str | None, ...]:
    """What `render` shows of each scene."""
    words = text(describe(task, scene, outcome), outcome)
    if mode == "rgb_array":
        images = scene["x0"] if outcome is None else outcome["image"]
        return card(images, task.world.masks(images), words, task.world.data.channels)
    return tuple(words) if mode == "ansi" else (None,) * len(words)

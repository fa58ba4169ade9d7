"""Gymnasium environments of a task: one, or a vector of n that share every batch. An episode is one step."""

import operator
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.error import ResetNeeded
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate
from numpy.typing import NDArray
from tensordict import TensorDict

from cellenv.gym.card import Card
from cellenv.gym.task import Task
from cellenv.pictures import Picture

Info = dict[str, Any]
Observation = dict[str, Any]
RENDERING = {"render_modes": ["rgb_array", "ansi"], "render_fps": 1}


def build_task(task: Task | str, options: dict[str, Any]) -> Task:
    """The task itself, or the one that "module:Class" names, built with these options.

    Raises:
        ValueError: if there are options for a task that is built already.
    """
    if not isinstance(task, Task):
        return cast(Task, load_env_creator(task)(**options))
    if options:
        raise ValueError(f"{task.name} is made already and takes no options; got {', '.join(options)}")
    return task


def scene_info(task: Task, scene: TensorDict, outcome: TensorDict | None) -> Info:
    """`info` of each scene, arrays (B,): compound, mechanism and, with an outcome, every reward by name."""
    data = task.world.data
    info: Info = {
        "compound": np.array([data.compounds[i] for i in scene["perturbation"].tolist()], object),
        "moa": np.array(data.moa_names(scene["perturbation"]), object),
    }
    if outcome is not None:
        info["rewards"] = {name: value.cpu().numpy() for name, value in outcome.get("rewards", {}).items()}
    return info


def entry(values: dict[str, Any], i: int) -> dict[str, Any]:
    """Entry i of every array in a nested dict."""
    return {k: entry(v, i) if isinstance(v, dict) else v[i] for k, v in values.items()}


def with_masks(info: Info, n: int) -> Info:
    """`info` with a mask `_key`, n times True, for every key, as Gymnasium's vector environments have it."""
    out: Info = {}
    for key, value in info.items():
        out[key] = with_masks(value, n) if isinstance(value, dict) else value
        out[f"_{key}"] = np.ones(n, bool)
    return out


class TaskEnv(gymnasium.Env[Observation, Any]):
    """One environment. The final observation is the scene acted on; `info["rewards"]` has every reward.

    task: a `Task`, or "module:Class". options: of the task, if it is given by name.
    """

    metadata = RENDERING

    def __init__(self, task: Task | str, *, render_mode: str | None = None, **options: Any):
        self.task, self.render_mode = build_task(task, options), render_mode
        self.observation_space, self.action_space = self.task.observation_space, self.task.action_space
        self.card = Card(self.task.world)
        self.scene: TensorDict | None = None
        self.outcome: TensorDict | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Info]:
        """Draw a scene; returns (observation, info)."""
        super().reset(seed=None if seed is None else operator.index(seed))  # NumPy's integers too
        self.scene, self.outcome = self.task.draw([self.np_random]), None
        self.observation = entry(self.task.observe(self.scene), 0)
        return deepcopy(self.observation), entry(scene_info(self.task, self.scene, None), 0)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, Info]:
        """Score an action and end the episode; returns (observation, reward, True, False, info).

        Raises:
            ResetNeeded: before `reset`, or after the one step of an episode.
            ValueError: if the action is not in the action space.
        """
        if self.scene is None or self.outcome is not None:
            raise ResetNeeded("an episode is one step: call reset() before step()")
        self.outcome = self.task.score(self.scene, np.asarray(action)[None])
        info = entry(scene_info(self.task, self.scene, self.outcome), 0)
        return deepcopy(self.observation), self.outcome["reward"].item(), True, False, info

    def render(self) -> Any:
        """The control, or the scored image, with outlines and text; in mode "ansi" the text alone.

        All frames of an environment have one size.

        Raises:
            ResetNeeded: before `reset`.
        """
        if self.scene is None:
            raise ResetNeeded("nothing to show: call reset() before render()")
        return render_scenes(self.task, self.card, self.scene, self.outcome, self.render_mode)[0]


class TaskVectorEnv(VectorEnv[Observation, NDArray[Any], NDArray[Any]]):
    """n environments that share every batch. Environment i equals a TaskEnv of the same seed, up to rounding.

    A step returns the observations of the next scenes; `infos["final_obs"]` and `infos["final_info"]` have
    those of the scenes acted on.

    Raises:
        ValueError: if num_envs < 1.
    """

    metadata = RENDERING | {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(self, num_envs: int, task: Task | str, *, render_mode: str | None = None, **options: Any):
        if num_envs < 1:
            raise ValueError(f"need at least one environment, got num_envs = {num_envs}")
        self.num_envs, self.task, self.render_mode = num_envs, build_task(task, options), render_mode
        self.single_observation_space = self.task.observation_space
        self.single_action_space = self.task.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.card = Card(self.task.world)
        self.rngs = [np_random()[0] for _ in range(num_envs)]
        self.scene: TensorDict | None = None
        self.scored: tuple[TensorDict, TensorDict] | None = None  # scene and outcome of the last step

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Draw new scenes; returns (observations, infos).

        seed: environment i gets seed + i, or the i-th of a sequence; None continues its stream.

        Raises:
            ValueError: unless a sequence has one seed per environment.
        """
        if seed is None or isinstance(seed, int | np.integer):
            super().reset(seed=None if seed is None else int(seed))  # np_random_seed, as Gymnasium has it
            seed = [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"need a seed for each of {self.num_envs} environments, got {len(seed)}")
        self.rngs = [
            rng if s is None else np_random(operator.index(s))[0] for rng, s in zip(self.rngs, seed, strict=True)
        ]
        self.scored = None
        observation, scene = self._draw()
        return observation, with_masks(scene_info(self.task, scene, None), self.num_envs)

    def step(self, actions: NDArray[Any]) -> tuple[Observation, NDArray[Any], NDArray[Any], NDArray[Any], Info]:
        """Score one action per scene and draw new ones; returns (observations, rewards, True, False, infos).

        Raises:
            ResetNeeded: before `reset`.
            ValueError: if an action is not in the action space.
        """
        if self.scene is None:
            raise ResetNeeded("call reset() before step()")
        outcome = self.task.score(self.scene, actions)
        self.scored = self.scene, outcome
        final = {
            "final_obs": np.fromiter(iterate(self.observation_space, self.observation), object, self.num_envs),
            "final_info": scene_info(self.task, self.scene, outcome),
        }
        observation, scene = self._draw()
        infos = with_masks(final | scene_info(self.task, scene, None), self.num_envs)
        rewards = outcome["reward"].double().cpu().numpy()
        return observation, rewards, np.ones(self.num_envs, bool), np.zeros(self.num_envs, bool), infos

    def render(self) -> tuple[Any, ...] | None:
        """One frame per environment: the images scored last, or the controls before the first step.

        Raises:
            ResetNeeded: before `reset`.
        """
        if self.scene is None:
            raise ResetNeeded("nothing to show: call reset() before render()")
        scene, outcome = self.scored or (self.scene, None)
        return render_scenes(self.task, self.card, scene, outcome, self.render_mode)

    def _draw(self) -> tuple[Observation, TensorDict]:
        """Draw the next scenes; returns a copy of their observations, and the scenes."""
        self.scene = self.task.draw(self.rngs)
        self.observation = self.task.observe(self.scene)
        return deepcopy(self.observation), self.scene


def render_scenes(
    task: Task, card: Card, scene: TensorDict, outcome: TensorDict | None, mode: str | None
) -> tuple[Picture | str | None, ...]:
    """One frame per scene: a picture, a text, or None without a render mode."""
    texts = card.text(scene_info(task, scene, outcome), outcome)
    if mode == "rgb_array":
        return card.pictures(scene["x0"] if outcome is None else outcome["image"], texts)
    return tuple(texts) if mode == "ansi" else (None,) * len(texts)

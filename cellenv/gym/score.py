"""Score of an agent on a fixed set of n contexts: 0 is the untouched generator, 1 the oracle."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from tensordict import TensorDict
from tqdm import tqdm

from cellenv.data.cells import CellData
from cellenv.generator import ASSETS
from cellenv.gym.task import Task
from cellenv.json_io import read_json
from cellenv.streams import rng_at
from cellenv.weights_io import write_atomically

VERSION = 2  # of the fixed contexts; increase it when they change
CONTEXTS = 500
SCALES = ASSETS / "gym.json"
REBUILD = "python -m examples.studies.fit_gym"
BATCH = 32  # contexts per batch
IDENTIFYING = ("perturbation", "condition", "moa", "plate", "seed")  # keys of a context; some cells have no moa
PROBES = 8  # control images whose rewards identify the suite

Policy = Callable[[dict[str, NDArray[Any]]], ArrayLike]  # a batch of observations -> a batch of actions


def fixed_contexts(data: CellData, n: int = CONTEXTS) -> TensorDict:
    """The first n contexts that every agent is scored on, [n]; the same for the same data."""
    return torch.cat([data.draw_contexts(1, rng_at(VERSION, i)) for i in range(n)])


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What a scale depends on."""

    version: int
    task: str
    generator: str  # SHA-256 of weights and sampling
    contexts: str  # SHA-256 of ids, conditions and seeds, not of pixels; "" of the first of them, see `Scale.head`
    rewards: tuple[float, ...]  # of the first control images, which depend on code and weights of the rewards

    @classmethod
    def of(cls, task: Task, contexts: TensorDict) -> Self:
        """Fingerprint of a task on these contexts.

        Raises:
            ValueError: if the world of the task is not one of fp32, in which scores are measured.
        """
        generator = task.world.generator
        sampler = asdict(generator.sampling)
        if not generator.guidance:
            del sampler["guidance_from"], sampler["guidance_power"]  # of no effect
        if task.world.precision != "fp32":
            raise ValueError(f'scores need World(precision="fp32"); that of {task.name} has {task.world.precision}')
        probes = task.world.rate(contexts[:PROBES], contexts["x0"][:PROBES])["reward"]
        return cls(
            version=VERSION,
            task=task.name,
            generator=_digest(generator.state_dict(), sampler),
            contexts=_digest(contexts.select(*IDENTIFYING, strict=False), {}),
            rewards=tuple(round(value, 4) for value in probes.tolist()),
        )

    def differences(self, other: Self) -> list[str]:
        """Names of fields that differ; rewards may differ by 0.05, one pixel at the edge of a mask."""
        ignored = {"rewards"} if self.contexts and other.contexts else {"rewards", "contexts"}
        names = [field.name for field in fields(self) if field.name not in ignored]
        differ = [name for name in names if getattr(self, name) != getattr(other, name)]
        near = len(self.rewards) == len(other.rewards) and np.allclose(self.rewards, other.rewards, rtol=0, atol=0.05)
        return differ if near else [*differ, "rewards"]


def _digest(tensors: Mapping[str, torch.Tensor] | TensorDict, options: dict[str, Any]) -> str:
    """SHA-256 of tensors by name, and of JSON options."""
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Rewards of the untouched generator and of the oracle in each context, (n,) each."""

    fingerprint: Fingerprint
    untouched: tuple[float, ...]
    oracle: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.untouched) != len(self.oracle) or not np.isfinite([*self.untouched, *self.oracle]).all():
            raise ValueError(f"the scale of {self.fingerprint.task} needs two finite rewards for each context")

    @classmethod
    def fit(cls, task: Task, contexts: TensorDict) -> Self:
        """Measure the scale of a task on these contexts; for Steer this takes 68 images per context.

        Raises:
            ValueError: if the world is not one of fp32.
        """
        fingerprint = Fingerprint.of(task, contexts)
        parts = tqdm(contexts.split(BATCH), desc=f"scale of {task.name}", leave=False)
        untouched, oracle = zip(*(task.bounds(task.prepare(part)) for part in parts), strict=True)
        return cls(
            fingerprint=fingerprint,
            untouched=tuple(round(value, 4) for value in torch.cat(untouched).tolist()),
            oracle=tuple(round(value, 4) for value in torch.cat(oracle).tolist()),
        )

    @classmethod
    def load(cls, task: Task, contexts: TensorDict, file: str | Path = SCALES) -> Self:
        """Stored scale of a task, which must have been measured on the same generator, rewards and contexts.

        Raises:
            ValueError: if the file has no scale of the task, or one whose fingerprint differs, or the world is not one
                of fp32.
        """
        file, current = Path(file), Fingerprint.of(task, contexts)
        stored = read_json(file, dict[str, StoredScale]) if file.is_file() else {}
        if task.name not in stored:
            raise ValueError(f"need the scale of {task.name}; {file} has {list(stored) or 'none'}: run `{REBUILD}`")
        entry = stored[task.name]
        if differ := current.differences(entry.fingerprint):
            raise ValueError(
                f"the scale of {task.name} in {file} is stale, other now: {', '.join(differ)}; run `{REBUILD}`, "
                "or measure your own with Scale.fit(task, contexts)"
            )
        return cls(fingerprint=entry.fingerprint, untouched=entry.untouched, oracle=entry.oracle)

    def save(self, file: str | Path = SCALES) -> None:
        """Add the scale to a file, next to those of other tasks."""
        file = Path(file)
        stored = read_json(file, dict[str, StoredScale]) if file.is_file() else {}
        file.parent.mkdir(parents=True, exist_ok=True)
        entry = StoredScale(fingerprint=self.fingerprint, untouched=self.untouched, oracle=self.oracle)
        scales = dict(sorted((stored | {self.fingerprint.task: entry}).items()))
        content = json.dumps({name: asdict(scale) for name, scale in scales.items()}, allow_nan=False)
        write_atomically(file, content.encode() + b"\n")

    def head(self, n: int) -> Self:
        """Scale of the first n contexts."""
        fingerprint = replace(self.fingerprint, contexts="", rewards=self.fingerprint.rewards[:n])
        return replace(self, fingerprint=fingerprint, untouched=self.untouched[:n], oracle=self.oracle[:n])

    def score(self, rewards: ArrayLike) -> NDArray[np.float64]:
        """(mean r - mean untouched) / (mean oracle - mean untouched) over the last axis of rewards, (..., n).

        Raises:
            ValueError: if there is not one reward per context, a reward is nan, or the oracle earns no more than the
                untouched generator.
        """
        r, untouched, oracle = (np.asarray(x, np.float64) for x in (rewards, self.untouched, self.oracle))
        if r.shape[-1:] != untouched.shape:
            raise ValueError(f"need a reward for each of {len(untouched)} contexts, got shape {r.shape}")
        if bad := int(np.isnan(r).sum()):
            raise ValueError(f"{bad} of {r.size} rewards are nan: those images could not be scored")
        if (gap := (oracle - untouched).mean()) <= 0:
            low, high = untouched.mean(), oracle.mean()
            came = f"it earns {high:.4f}, the generator {low:.4f}," if gap else f"both earn {high:.4f}"
            raise ValueError(
                f"need an oracle that earns more than the untouched generator; {came} in {len(oracle)} contexts: take"
                " more contexts, or rewards that tell images apart"
            )
        score: NDArray[np.float64] = (r - untouched).mean(-1) / gap
        return score


@dataclass(frozen=True, kw_only=True)
class StoredScale(Scale):
    """A scale in the file of scales: {name of the task: scale}."""

    command: str = REBUILD


class Result(NamedTuple):
    """Score of an agent, and its reward in each context."""

    score: float
    rewards: NDArray[np.float64]  # (n,)


def play(
    task: Task,
    policy: Policy,
    contexts: TensorDict,
    progress: Callable[[Iterable[TensorDict]], Iterable[TensorDict]] = iter,
) -> NDArray[np.float64]:
    """Reward of a policy in each context, (n,). progress: wraps the batches, e.g. in a progress bar."""
    rewards = []
    for part in progress(contexts.split(BATCH)):
        scene = task.prepare(part)
        rewards.append(task.score(scene, np.asarray(policy(task.observe(scene))))["reward"])
    played: NDArray[np.float64] = torch.cat(rewards).double().cpu().numpy()
    return played


def evaluate(task: Task, policy: Policy, *, scale: Scale | None = None) -> Result:
    """Score a policy on the fixed contexts of the task's data, as many as the scale has.

    policy: a batch of observations -> a batch of actions. scale: None loads the stored one.

    Raises:
        ValueError: if the scale belongs to another task, generator, data set or suite, the world is not one of fp32,
            or a reward is nan.
    """
    contexts = fixed_contexts(task.world.data, CONTEXTS if scale is None else len(scale.untouched))
    if scale is None:
        scale = Scale.load(task, contexts)
    elif differ := Fingerprint.of(task, contexts).differences(scale.fingerprint):
        raise ValueError(
            f"need a scale of {task.name} in its world; the one given is of {scale.fingerprint.task}, other:"
            f" {', '.join(differ)}: measure it with Scale.fit(task, fixed_contexts(data))"
        )
    rewards = play(task, policy, contexts, partial(tqdm, desc=task.name, leave=False))
    return Result(float(scale.score(rewards)), rewards)

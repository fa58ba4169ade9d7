"""The score of an agent: 0 is the untouched generator, 1 the oracle, on a fixed set of contexts. n contexts."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from tensordict import TensorDict
from tqdm import tqdm

from cellenv.checkpoints import write_atomically
from cellenv.data.cells import CellData
from cellenv.generator import ASSETS
from cellenv.gym.task import Task
from cellenv.streams import rng_at

VERSION = 1  # of the fixed contexts; other contexts, another version
CONTEXTS = 1000
SCALES = ASSETS / "gym.json"
REBUILD = "python examples/fit_gym.py"
BATCH = 32  # contexts at once
PROBES = 8  # controls whose rewards tell whether the rewards are the same

Act = Callable[[dict[str, np.ndarray]], ArrayLike]  # a batch of observations -> a batch of actions


def fixed_contexts(data: CellData, n: int = CONTEXTS) -> TensorDict:
    """The first n contexts that every agent is scored on, [n]; the same for the same data."""
    return torch.cat([data.draw_contexts(1, rng_at(VERSION, i)) for i in range(n)])


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What a scale depends on."""

    version: int
    task: str
    generator: str  # SHA-256 of weights and sampling
    contexts: str  # SHA-256 of their tables, not of their pixels
    rewards: tuple[float, ...]  # of the first controls as they are: code and weights of the rewards show in them

    @classmethod
    def of(cls, task: Task, contexts: TensorDict) -> Self:
        generator = task.world.generator
        probes = task.world.rate(contexts[:PROBES], contexts["x0"][:PROBES])["reward"]
        return cls(
            version=VERSION,
            task=task.name,
            generator=_digest(generator.state_dict(), asdict(generator.sampling)),
            contexts=_digest(contexts.select("perturbation", "condition", "moa", "batch", "seed"), {}),
            rewards=tuple(round(value, 4) for value in probes.tolist()),
        )

    def differences(self, other: Self) -> list[str]:
        """Names of what is not the same; rewards may differ by 0.05, a pixel at the edge of a mask."""
        names = [field.name for field in fields(self) if field.name != "rewards"]
        differ = [name for name in names if getattr(self, name) != getattr(other, name)]
        near = len(self.rewards) == len(other.rewards) and np.allclose(self.rewards, other.rewards, rtol=0, atol=0.05)
        return differ if near else [*differ, "rewards"]


def _digest(tensors: dict[str, torch.Tensor] | TensorDict, options: dict) -> str:
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What the untouched generator and the oracle earn in each context, (n,) each."""

    fingerprint: Fingerprint
    untouched: tuple[float, ...]
    oracle: tuple[float, ...]

    @classmethod
    def fit(cls, task: Task, contexts: TensorDict) -> Self:
        """Measure it; for Steer that is 65 images a context."""
        parts = tqdm(contexts.split(BATCH), desc=f"scale of {task.name}", leave=False)
        untouched, oracle = zip(*(task.bounds(task.prepare(part)) for part in parts), strict=True)
        return cls(
            fingerprint=Fingerprint.of(task, contexts),
            untouched=tuple(round(value, 4) for value in torch.cat(untouched).tolist()),
            oracle=tuple(round(value, 4) for value in torch.cat(oracle).tolist()),
        )

    @classmethod
    def load(cls, task: Task, contexts: TensorDict, file: str | Path = SCALES) -> Self:
        """The stored scale, if it was measured on this very generator, these rewards and these contexts."""
        file, now = Path(file), Fingerprint.of(task, contexts)
        stored = json.loads(file.read_text()) if file.is_file() else {}
        if task.name not in stored:
            raise ValueError(f"need the scale of {task.name}; {file} has {list(stored) or 'none'}: run `{REBUILD}`")
        entry = stored[task.name]
        then = Fingerprint(**entry["fingerprint"] | {"rewards": tuple(entry["fingerprint"]["rewards"])})
        if differ := now.differences(then):
            raise ValueError(
                f"the scale of {task.name} in {file} is stale, other now: {', '.join(differ)}; run `{REBUILD}`, "
                "or measure your own with Scale.fit(task, contexts)"
            )
        return cls(fingerprint=then, untouched=tuple(entry["untouched"]), oracle=tuple(entry["oracle"]))

    def save(self, file: str | Path = SCALES) -> None:
        """Put it beside the scales of other tasks."""
        file = Path(file)
        stored = json.loads(file.read_text()) if file.is_file() else {}
        file.parent.mkdir(parents=True, exist_ok=True)
        entry = asdict(self) | {"command": REBUILD}
        content = json.dumps(dict(sorted((stored | {self.fingerprint.task: entry}).items())), allow_nan=False)
        write_atomically(file, content.encode() + b"\n")

    def head(self, n: int) -> Self:
        """The same of the first n contexts."""
        return replace(self, untouched=self.untouched[:n], oracle=self.oracle[:n])

    def score(self, rewards: ArrayLike) -> NDArray[np.float64]:
        """(mean r - mean untouched) / (mean oracle - mean untouched), over the last axis of rewards, (..., n)."""
        rewards, untouched, oracle = (np.asarray(x, np.float64) for x in (rewards, self.untouched, self.oracle))
        if rewards.shape[-1:] != untouched.shape:
            raise ValueError(f"need a reward for each of {len(untouched)} contexts, got shape {rewards.shape}")
        if bad := int(np.isnan(rewards).sum()):
            raise ValueError(f"{bad} of {rewards.size} rewards are nan: those images could not be scored")
        return (rewards - untouched).mean(-1) / (oracle - untouched).mean()


class Result(NamedTuple):
    """How an agent did."""

    score: float
    rewards: NDArray[np.float64]  # (n,), of each context


def play(
    task: Task, act: Act, contexts: TensorDict, progress: Callable[[Iterable], Iterable] = iter
) -> NDArray[np.float64]:
    """The reward of an agent in each context, (n,)."""
    rewards = []
    for part in progress(contexts.split(BATCH)):
        scene = task.prepare(part)
        rewards.append(task.judge(scene, np.asarray(act(task.observe(scene))))["reward"])
    return torch.cat(rewards).double().cpu().numpy()


def evaluate(task: Task, act: Act, *, scale: Scale | None = None) -> Result:
    """Score an agent on the fixed contexts of the task's data; None takes the stored scale, or refuses a stale one.

    act: a batch of observations -> a batch of actions; as many contexts as the scale has.
    """
    contexts = fixed_contexts(task.world.data, CONTEXTS if scale is None else len(scale.untouched))
    scale = Scale.load(task, contexts) if scale is None else scale
    rewards = play(task, act, contexts, partial(tqdm, desc=task.name, leave=False))
    return Result(float(scale.score(rewards)), rewards)

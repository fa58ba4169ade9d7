"""One flat loop under Accelerate: collect, prepare, update, move the old policy, log, save.

It knows Accelerate, the optimizer, the EMA, checkpoints and logs; what is learned, and from what, is an `Algorithm`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.objectives import LossModule

from algorithms import checkpoint
from algorithms.clock import Clock
from algorithms.ema import EMA
from algorithms.logs import Log, averages, rollout_metrics, time_metrics


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the weights move; an iteration is one rollout and `optimizer_steps` steps on it."""

    output_dir: Path
    iterations: int
    resume: bool = False  # go on from the newest checkpoint in output_dir
    learning_rate: float = 3e-4
    warm_up: int = 0  # iterations over which the learning rate rises from near 0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    optimizer_steps: int = 1  # per iteration; each on its own part of the rows
    micro_batch: int = 32  # rows at once on a process
    ema_decay: float = 0.999
    save_every: int = 10  # iterations
    show_every: int = 10  # iterations

    @classmethod
    def of(cls, settings: Any) -> Self:
        """From the attributes of the same names."""
        return cls(**{name: getattr(settings, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A method, and the weights that it moves. A new one is a new loss and a new `prepare`; the loop stays.

    loss: rows -> `loss_*`, which are summed, and metrics, which are logged; its parameters that want a gradient train.
    collect: (iteration, clock) -> this rank's rollout with `group` and ("next", "reward"), made with the old weights.
    prepare: (rollout, iteration) -> rows, as many on every rank. What is drawn depends on the iteration alone.
    theta, old: the model that is trained, and the one that rolls out: both inside the loss, whose state a checkpoint
        holds, or one and the same.
    decay: old <- d old + (1 - d) theta after iteration i, d = decay(i). The default is always on policy.
    constant: models inside the loss that never change (the reference); a checkpoint holds their fingerprint alone.
    rates: of parts of the loss that learn faster or slower (a critic), times the learning rate; of all others 1.
    """

    loss: LossModule
    collect: Callable[[int, Clock], TensorDictBase]
    prepare: Callable[[TensorDictBase, int], TensorDictBase]
    theta: nn.Module
    old: nn.Module
    decay: Callable[[int], float] = lambda iteration: 0.0
    constant: Sequence[nn.Module] = ()
    rates: Mapping[nn.Module, float] = field(default_factory=dict)

    def parameter_groups(self) -> dict[float, list[nn.Parameter]]:
        """What trains, by its factor of the learning rate."""
        factor = {id(p): rate for part, rate in self.rates.items() for p in part.parameters()}
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in self.loss.parameters():
            if parameter.requires_grad:
                groups.setdefault(factor.get(id(parameter), 1.0), []).append(parameter)
        return groups


def train(
    accelerator: Accelerator,
    config: TrainConfig,
    algorithm: Algorithm,
    *,
    show: Callable[[], np.ndarray] | None = None,
    settings: dict[str, Any] | None = None,
) -> EMA:
    """Train theta in place and return its running mean.

    show: a picture of what theta makes, called with the mean weights. settings: what must be the same on resuming.
    """
    forwarder = accelerator.prepare(Forwarder(algorithm.loss))
    groups = algorithm.parameter_groups()
    trained = [parameter for parameters in groups.values() for parameter in parameters]
    optimizer = accelerator.prepare(
        torch.optim.AdamW(
            [{"params": parameters} for parameters in groups.values()],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )
    )
    run = Run(
        accelerator, algorithm, optimizer, EMA(algorithm.theta, config.ema_decay), settings or {}, config.output_dir
    )
    start = run.load() if config.resume else 0
    run.check_ranks()
    clock, log = Clock(accelerator.device), Log(accelerator, config.output_dir, start)
    for iteration in (bar := log.bar(range(start, config.iterations), config.iterations)):
        rollout = algorithm.collect(iteration, clock)
        rows = algorithm.prepare(rollout, iteration)
        lr = config.learning_rate * min(1.0, (iteration + 1) / max(1, config.warm_up))
        for group, rate in zip(optimizer.param_groups, groups, strict=True):
            group["lr"] = rate * lr
        metrics = rollout_metrics(rollout, accelerator.gather)
        metrics |= update(accelerator, forwarder, optimizer, trained, rows, config, clock)
        run.ema.update(algorithm.theta)
        follow(algorithm.old, algorithm.theta, algorithm.decay(iteration))
        log.numbers(iteration, metrics | {"lr": lr} | time_metrics(clock.lap()), bar)
        done = iteration + 1
        if done % config.save_every == 0 or done == config.iterations:
            run.save(done)
        if show is not None and accelerator.is_main_process and done % config.show_every == 0:
            with run.ema.swapped(algorithm.theta):
                log.picture(done, show())
    return run.ema


class Forwarder(nn.Module):
    """The face of a loss under DistributedDataParallel, which finds gradients in a tuple of tensors."""

    def __init__(self, loss: LossModule):
        super().__init__()
        self.loss = loss

    def forward(self, rows: TensorDictBase) -> tuple[Tensor, ...]:
        """The values of `loss.out_keys`, in order."""
        out = self.loss(rows)
        return tuple(out[key] for key in self.loss.out_keys)


def update(
    accelerator: Accelerator,
    forwarder: nn.Module,
    optimizer: torch.optim.Optimizer,
    trained: Sequence[nn.Parameter],
    rows: TensorDictBase,
    config: TrainConfig,
    clock: Clock,
) -> dict[str, float]:
    """Step on the mean loss over the rows of all ranks, in micro-batches; returns means of what the loss wrote.

    Step s takes every S-th row, micro-batch m of M every M-th of these: neighbours are of one group, so that each sees
    all groups, and two ranks together take the rows that one would.
    """
    keys, parts, norms = accelerator.unwrap_model(forwarder).loss.out_keys, [], []
    for s in range(config.optimizer_steps):
        step_rows = rows[s :: config.optimizer_steps]
        M = -(-len(step_rows) // config.micro_batch)
        optimizer.zero_grad(set_to_none=True)
        for m in range(M):
            piece = step_rows[m::M]
            last = m == M - 1
            with clock("train"), nullcontext() if last else accelerator.no_sync(forwarder):
                out = dict(zip(keys, forwarder(piece), strict=True))
                total = sum(value for key, value in out.items() if key.startswith("loss_"))
                accelerator.backward(total * (len(piece) / len(step_rows)))
            parts.append((len(piece), {key: value.detach() for key, value in out.items()}))
        norms.append(accelerator.clip_grad_norm_(trained, config.max_grad_norm))
        if accelerator.scaler is None and not norms[-1].isfinite():
            raise FloatingPointError(f"the gradient is {norms[-1].item()}: look for nan in images and rewards")
        optimizer.step()
    return averages(parts, accelerator) | {"grad_norm": torch.stack(norms).mean().item()}


@torch.no_grad()
def follow(old: nn.Module, theta: nn.Module, decay: float) -> None:
    """old <- d old + (1 - d) theta, in place; d = 0 copies."""
    for mine, its in zip(old.parameters(), theta.parameters(), strict=True):
        mine.lerp_(its, 1 - decay)


@dataclass
class Run:
    """What a checkpoint holds, and where it goes."""

    accelerator: Accelerator
    algorithm: Algorithm
    optimizer: torch.optim.Optimizer
    ema: EMA
    settings: dict[str, Any]
    output_dir: Path

    def save(self, iteration: int) -> None:
        """Everything, by the main process; the random state is every rank's own."""
        self.check_ranks()
        rng = gather_object([checkpoint.rng_state()])
        if self.accelerator.is_main_process:
            state = {
                "loss": self._changing(),
                "constant": [checkpoint.fingerprint(model) for model in self.algorithm.constant],
                "optimizer": self.optimizer.state_dict(),
                "ema": self.ema.state_dict(),
                "scaler": self.accelerator.scaler and self.accelerator.scaler.state_dict(),
                "rng": rng,
                "settings": self.settings,
            }
            checkpoint.save(self.output_dir / "checkpoints", iteration, state)
        self.accelerator.wait_for_everyone()

    def load(self) -> int:
        """Put the newest whole checkpoint in place; returns how many iterations are done."""
        folder = self.output_dir / "checkpoints"
        state = checkpoint.load_latest(folder)
        if state is None:
            raise FileNotFoundError(f"no checkpoint to resume in {folder}; leave out --resume to start")
        now, then = self.settings, state["settings"]
        if other := [name for name in sorted(now | then) if now.get(name) != then.get(name)]:
            was = ", ".join(f"{name}={then.get(name)!r}, now {now.get(name)!r}" for name in other)
            raise ValueError(f"the run in {self.output_dir} was started with {was}; resume it with the same settings")
        if state["constant"] != [checkpoint.fingerprint(model) for model in self.algorithm.constant]:
            raise ValueError(f"the run in {self.output_dir} was started from other pretrained weights than these")
        self.algorithm.loss.load_state_dict(self.algorithm.loss.state_dict() | state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.accelerator.process_index < len(state["rng"]):
            checkpoint.set_rng_state(state["rng"][self.accelerator.process_index])
        return state["iteration"]

    def check_ranks(self) -> None:
        """Every rank holds the same weights, bit for bit, or the ranks have drifted apart."""
        if len(set(gather_object([checkpoint.fingerprint(self.algorithm.loss)]))) > 1:
            raise RuntimeError("the ranks hold different weights: gradients were not shared among them")

    def _changing(self) -> dict[str, Tensor]:
        """The weights of the loss without those of the constant models."""
        fixed = {
            id(tensor) for model in self.algorithm.constant for tensor in model.state_dict(keep_vars=True).values()
        }
        state = self.algorithm.loss.state_dict(keep_vars=True)
        return {name: tensor.detach() for name, tensor in state.items() if id(tensor) not in fixed}

"""Training loop under Accelerate: collect a rollout, build a batch, update, move the old policy, log, save.

It knows Accelerate, the optimizer, the EMA, checkpoints and logs. What is learned, and from what, is an `Algorithm`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.objectives import LossModule

from algorithms.clock import Clock
from algorithms.collapse import CollapseMonitor
from algorithms.ema import EMA
from algorithms.logs import RunLogger, mean_metrics, rollout_metrics, time_metrics
from algorithms.old_policy import ema_update
from algorithms.train_config import OptimConfig, TrainConfig
from algorithms.training_state import TrainingState


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A post-training method and the weights that it trains.

    loss: batch -> `loss_*`, which are summed, and metrics, which are logged. Its parameters with requires_grad train.
    collect: (iteration, clock) -> this rank's rollout by the old weights, with `group` and ("next", "reward").
    build_batch: (rollout, iteration) -> training rows, equally many on every rank; the iteration seeds all draws.
    theta, old: the trained model and the one that draws rollouts, both inside the loss, whose state is checkpointed;
        they may be the same module.
    old_decay: iteration -> d of old <- d old + (1 - d) theta after it; always on policy by default.
    frozen: models inside the loss that never change (the reference); checkpoints hold only their fingerprints.
    learning_rate_factors: by module of the loss (a critic); the learning rate of all others has factor 1.
    """

    loss: LossModule
    collect: Callable[[int, Clock], TensorDictBase]
    build_batch: Callable[[TensorDictBase, int], TensorDictBase]
    theta: nn.Module
    old: nn.Module
    old_decay: Callable[[int], float] = lambda iteration: 0.0
    frozen: Sequence[nn.Module] = ()
    learning_rate_factors: Mapping[nn.Module, float] = field(default_factory=dict)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Trained parameters as optimizer groups, one per `learning_rate_factor`."""
        factors = {id(p): factor for module, factor in self.learning_rate_factors.items() for p in module.parameters()}
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in self.loss.parameters():
            if parameter.requires_grad:
                groups.setdefault(factors.get(id(parameter), 1.0), []).append(parameter)
        return [{"params": parameters, "learning_rate_factor": factor} for factor, parameters in groups.items()]


def train(
    accelerator: Accelerator,
    config: TrainConfig,
    algorithm: Algorithm,
    *,
    render_samples: Callable[[], NDArray[np.uint8]] | None = None,
    resume_signature: Mapping[str, Any] | None = None,
    monitor: CollapseMonitor | None = None,
) -> EMA:
    """Train theta in place and return its EMA.

    render_samples: draws a picture (H, W, 3) of theta's samples; called with the EMA weights.
    resume_signature: config values that must be equal on resuming.
    monitor: notices a collapse, see `ends_run`; None: one that only warns.

    Raises:
        FileNotFoundError: config.resume, and there is no checkpoint.
        ValueError: config.resume, and the run was started with another signature or other pretrained weights.
        FloatingPointError: a gradient is not finite.
        RuntimeError: the ranks hold different weights.
    """
    forwarder = accelerator.prepare(Forwarder(algorithm.loss))
    groups = algorithm.parameter_groups()
    optim = config.optim
    optimizer = accelerator.prepare(torch.optim.AdamW(groups, optim.learning_rate, weight_decay=optim.weight_decay))
    state = TrainingState(
        accelerator=accelerator,
        loss=algorithm.loss,
        frozen=algorithm.frozen,
        optimizer=optimizer,
        ema=EMA(algorithm.theta, optim.ema_decay),
        resume_signature=resume_signature or {},
        output_dir=config.output_dir,
    )
    start = state.load() if config.resume else 0
    state.check_ranks()
    clock = Clock(accelerator.device)
    logger = RunLogger(accelerator, config.output_dir, start)
    monitor = monitor or CollapseMonitor()
    monitor.replay(logger.finished)
    bar = logger.progress_bar(start, config.iterations)
    for iteration in bar:
        rollout = algorithm.collect(iteration, clock)
        batch = algorithm.build_batch(rollout, iteration)
        lr = set_learning_rate(optimizer, optim, iteration)
        metrics = rollout_metrics(rollout, accelerator.gather)  # after the batch, which writes the learning signal
        metrics |= update(accelerator, forwarder, optimizer, batch, optim, clock)
        state.ema.update(algorithm.theta)
        ema_update(algorithm.old, algorithm.theta, algorithm.old_decay(iteration))
        logger.log_metrics(iteration, metrics | {"lr": lr} | time_metrics(clock.lap()), bar)
        done = iteration + 1
        if ends_run(monitor, iteration, metrics, state, logger):
            break
        if done % config.save_every == 0 or done == config.iterations:
            state.save(done)
        if render_samples is not None and accelerator.is_main_process and done % config.show_every == 0:
            with state.ema.swapped(algorithm.theta):
                logger.log_samples(done, render_samples())
    return state.ema


def ends_run(
    monitor: CollapseMonitor, iteration: int, metrics: Mapping[str, float], state: TrainingState, logger: RunLogger
) -> bool:
    """Warn of signs of collapse that are new after an iteration; returns whether the monitor stops the run for them.

    If so, the EMA gets the weights of the newest checkpoint from before the iterations that show them.
    """
    signs = monitor.update(iteration, metrics)
    logger.log_warnings(signs)
    if not signs or not monitor.stop:
        return False
    monitor.kept = state.restore_ema(iteration + 1 - monitor.window)
    logger.log_warnings([f"stopped; the averaged weights are those after {monitor.kept} iterations"])
    return True


class Forwarder(nn.Module):
    """Wraps a loss so that its forward returns a tuple of tensors, as DistributedDataParallel needs."""

    def __init__(self, loss: LossModule):
        super().__init__()
        self.loss = loss

    def forward(self, rows: TensorDictBase) -> tuple[Tensor, ...]:
        """Values of `loss.out_keys`, in order."""
        out = self.loss(rows)
        return tuple(out[key] for key in self.loss.out_keys)


def set_learning_rate(optimizer: torch.optim.Optimizer, optim: OptimConfig, iteration: int) -> float:
    """Set each group's learning rate to its factor times the warmed-up one, which is returned."""
    lr = optim.learning_rate * min(1.0, (iteration + 1) / max(1, optim.warmup_iterations))
    for group in optimizer.param_groups:
        group["lr"] = group["learning_rate_factor"] * lr
    return lr


def update(
    accelerator: Accelerator,
    forwarder: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: TensorDictBase,
    optim: OptimConfig,
    clock: Clock,
) -> dict[str, float]:
    """Take `optimizer_steps` steps on the mean loss over all ranks; returns the means of the loss's outputs.

    Step s takes every S-th row of the batch. Consecutive rows are of one group, so each step covers all groups, and
    two ranks together take the rows that one would.

    Raises:
        FloatingPointError: a gradient is not finite.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    parts, norms = [], []
    for s in range(optim.optimizer_steps):
        optimizer.zero_grad(set_to_none=True)
        rows = batch[s :: optim.optimizer_steps]
        with clock("train"):
            parts += accumulate_gradients(accelerator, forwarder, rows, optim.micro_batch_size)
        norms.append(accelerator.clip_grad_norm_(parameters, optim.max_grad_norm))
        if accelerator.scaler is None and not norms[-1].isfinite():
            raise FloatingPointError(f"the gradient is {norms[-1].item()}: look for nan in images and rewards")
        optimizer.step()
    return mean_metrics(parts, accelerator) | {"grad_norm": torch.stack(norms).mean().item()}


def accumulate_gradients(
    accelerator: Accelerator, forwarder: nn.Module, rows: TensorDictBase, micro_batch_size: int
) -> list[tuple[int, dict[str, Tensor]]]:
    """Add the gradient of the mean loss over the rows; returns (rows, outputs of the loss) of each micro-batch.

    Micro-batch m of M takes every M-th row; ranks synchronise on the last one.
    """
    keys = accelerator.unwrap_model(forwarder).loss.out_keys
    M = -(-len(rows) // micro_batch_size)
    parts = []
    for m in range(M):
        micro_batch = rows[m::M]
        with nullcontext() if m == M - 1 else accelerator.no_sync(forwarder):
            out = dict(zip(keys, forwarder(micro_batch), strict=True))
            total = sum(value for key, value in out.items() if key.startswith("loss_"))
            accelerator.backward(total * (len(micro_batch) / len(rows)))
        parts.append((len(micro_batch), {key: value.detach() for key, value in out.items()}))
    return parts

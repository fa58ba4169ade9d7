"""Training loop under Accelerate: collect a rollout, build a batch, update, move the old policy, log, save.

It knows Accelerate, the optimizer, the EMA, checkpoints and logs. What is learned, and from what, is an `Algorithm`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.objectives import LossModule

from algorithms.autosave import Autosave
from algorithms.clock import Clock
from algorithms.collapse import CollapseMonitor
from algorithms.descent import NonFiniteError, descend, offending_rows
from algorithms.ema import EMA
from algorithms.logs import RunLogger, reduce_metrics, rollout_metrics, time_metrics
from algorithms.minibatches import minibatches
from algorithms.muon import OPTIMIZERS
from algorithms.old_policy import ema_update
from algorithms.presence import report
from algorithms.schedule import cooldown_start, learning_rate_factor
from algorithms.sharding import no_sync, prepare, prepare_optimizer
from algorithms.train_config import OptimConfig, TrainConfig
from algorithms.training_state import Stateful, TrainingState


@dataclass(frozen=True, kw_only=True)
class CriticTraining:
    """How the critic of an actor-critic method learns, with an optimizer of its own and before theta's update.

    loss: the critic's, as the `loss` of an `Algorithm`. optim: of all its updates; its rate is not warmed up.
    warmup_iterations: in the first of them the critic learns alone, and theta stays.
    """

    loss: LossModule
    optim: OptimConfig
    warmup_iterations: int = 0


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A post-training method and the weights that it trains.

    loss: batch -> `loss_*`, which are summed, and metrics, which are logged. Its parameters with requires_grad train.
    collect: (iteration, clock) -> this rank's rollout by the old weights, with `group` and ("next", "reward").
    build_batch: (rollout, iteration) -> training rows, equally many on every rank; the iteration seeds all draws. Their
        key `group`, if present, makes every minibatch hold rows of all groups.
    theta, old: the trained model and the one that draws rollouts, both inside the loss, whose state is checkpointed;
        they may be the same module.
    old_decay: iteration -> d of old <- d old + (1 - d) theta after it; always on policy by default.
    frozen: models inside the loss that never change (the reference); checkpoints hold only their fingerprints.
    critic: learns on the same rows; None: there is none.
    """

    loss: LossModule
    collect: Callable[[int, Clock], TensorDictBase]
    build_batch: Callable[[TensorDictBase, int], TensorDictBase]
    theta: nn.Module
    old: nn.Module
    old_decay: Callable[[int], float] = lambda iteration: 0.0
    frozen: Sequence[nn.Module] = ()
    critic: CriticTraining | None = None

    @property
    def first_update(self) -> int:
        """Iteration of theta's first update; before it the critic learns alone."""
        return 0 if self.critic is None else self.critic.warmup_iterations

    def parameters(self) -> list[nn.Parameter]:
        """Trained parameters of the loss."""
        return [parameter for parameter in self.loss.parameters() if parameter.requires_grad]


def train(
    accelerator: Accelerator,
    config: TrainConfig,
    algorithm: Algorithm,
    *,
    render_samples: Callable[[], NDArray[np.uint8]] | None = None,
    settings: Mapping[str, str] | None = None,
    monitor: CollapseMonitor | None = None,
) -> EMA:
    """Train theta in place and return its EMA.

    render_samples: draws a picture (H, W, 3) of theta's samples; called with the EMA weights, by all processes.
    settings: what must be equal on resuming, see `resume_settings`.
    monitor: notices a collapse, see `ends_run`; None: one that only warns.

    Raises:
        FileNotFoundError, ValueError: config.resume, and `TrainingState.load` refuses to go on.
        FloatingPointError: a gradient is not finite; the rows that make it so are in output_dir/nonfinite.
        RuntimeError: the ranks hold different weights.
        SystemExit: SIGTERM or SIGINT came; the iteration was finished, and a checkpoint written.
    """
    forwarder = prepare(accelerator, Forwarder(algorithm.loss))
    optimizer = prepare_optimizer(accelerator, make_optimizer(algorithm.parameters(), config.optim))
    critic = None if algorithm.critic is None else CriticUpdate(accelerator, algorithm.critic)
    ema = EMA(algorithm.theta, config.optim.ema_decay)
    monitor = monitor or CollapseMonitor()
    state = TrainingState(
        accelerator=accelerator,
        output_dir=config.output_dir,
        parts={"loss": algorithm.loss, "optimizer": optimizer, "ema": ema} | (critic.state() if critic else {}),
        frozen=algorithm.frozen,
        settings=settings or {},
        steps=config.iterations,
        cooldown=config.optim.cooldown,
        reach=monitor.window if monitor.stop else 0,
    )
    start = state.load() if config.resume else 0
    state.check_ranks()
    clock = Clock(accelerator.device, started=lambda phase: report(f"{phase} of iteration {iteration}"))
    logger = RunLogger(accelerator, config.output_dir, start)
    monitor.replay(logger.finished)
    bar = logger.progress_bar(start, config.iterations)
    with Autosave(state, every=config.save_every, minutes=config.save_minutes) as autosave:
        if monitor.stop:
            state.save(start)  # to go back to from a collapse in the first iterations; replaces those of another plan
        for iteration in bar:
            if iteration == cooldown_start(config.iterations, config.optim.cooldown):
                state.save(iteration, "stable")
            metrics = learn(accelerator, config, algorithm, forwarder, optimizer, critic, clock, iteration)
            ema.update(algorithm.theta)
            ema_update(algorithm.old, algorithm.theta, algorithm.old_decay(iteration))
            logger.log_metrics(iteration, metrics | time_metrics(clock.lap()), bar)
            done = iteration + 1
            if ends_run(monitor, iteration, metrics, state, logger):
                break
            if render_samples is not None and done % config.show_every == 0:
                with ema.swapped(algorithm.theta):
                    logger.log_samples(done, render_samples())
            autosave(done)
    return ema


def learn(
    accelerator: Accelerator,
    config: TrainConfig,
    algorithm: Algorithm,
    forwarder: nn.Module,
    optimizer: torch.optim.Optimizer,
    critic: "CriticUpdate | None",
    clock: Clock,
    iteration: int,
) -> dict[str, float]:
    """One iteration: a rollout, training rows from it, and updates of critic and theta; returns the metrics."""
    rollout = algorithm.collect(iteration, clock)
    batch = algorithm.build_batch(rollout, iteration)
    lr = set_learning_rate(optimizer, config, iteration)
    metrics = rollout_metrics(rollout, accelerator.gather)  # after the batch, which writes the learning signal
    try:
        if critic is not None:
            metrics |= critic(batch, clock, config.seed, iteration)
        if iteration >= algorithm.first_update:
            key = config.seed, iteration
            metrics |= update(accelerator, forwarder, optimizer, batch, config.optim, clock, key)
    except NonFiniteError as error:
        raise error.saved(config.output_dir / "nonfinite", iteration, accelerator.process_index) from None
    return metrics | {"lr": lr}


def ends_run(
    monitor: CollapseMonitor, iteration: int, metrics: Mapping[str, float], state: TrainingState, logger: RunLogger
) -> bool:
    """Warn of signs of collapse that are new after an iteration; returns whether the monitor stops the run for them.

    If so, the EMA gets the weights of the newest checkpoint from before the iterations that show them; the oldest there
    is, if the run was taken up again in their midst.
    """
    signs = monitor.update(iteration, metrics)
    logger.log_warnings(signs)
    if not signs or not monitor.stop:
        return False
    monitor.kept = state.restore("ema", iteration + 1 - monitor.window)
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


def make_optimizer(parameters: Iterable[nn.Parameter], optim: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer of the config for these parameters."""
    return OPTIMIZERS[optim.optimizer](parameters, optim.learning_rate, weight_decay=optim.weight_decay)


def set_learning_rate(optimizer: torch.optim.Optimizer, config: TrainConfig, iteration: int) -> float:
    """Set the learning rate to the scheduled one, which is returned."""
    optim = config.optim
    factor = learning_rate_factor(iteration, config.iterations, optim.warmup_iterations, optim.cooldown)
    lr = optim.learning_rate * factor
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr


def update(
    accelerator: Accelerator,
    forwarder: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: TensorDictBase,
    optim: OptimConfig,
    clock: Clock,
    key: tuple[int, int],
) -> dict[str, float]:
    """Take `optimizer_steps` steps in each of `epochs` passes over the batch, on the mean loss over all ranks.

    Each step has a minibatch, see `minibatches`; key: (seed, iteration) of their shuffles. Returns the
    `reduce_metrics` of the loss's outputs over all steps.

    Raises:
        NonFiniteError: a gradient is not finite.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    parts, norms = [], []
    epochs = (minibatches(batch, optim.optimizer_steps, (*key, epoch)) for epoch in range(optim.epochs))
    for rows in chain.from_iterable(epochs):
        optimizer.zero_grad(set_to_none=True)
        with clock("train"):
            parts += accumulate_gradients(accelerator, forwarder, rows, optim.micro_batch_size)
        try:
            norms.append(descend(accelerator, optimizer, parameters, optim.max_grad_norm))
        except FloatingPointError as error:
            loss = accelerator.unwrap_model(forwarder).loss
            raise NonFiniteError(str(error), offending_rows(loss, rows, accelerator)) from error
    return reduce_metrics(parts, accelerator) | {"grad_norm": torch.stack(norms).mean().item()}


class CriticUpdate:
    """The critic's loss and its optimizer, prepared by Accelerate; a call is its update of an iteration."""

    def __init__(self, accelerator: Accelerator, critic: CriticTraining):
        self.accelerator, self.loss, self.optim = accelerator, critic.loss, critic.optim
        self.forwarder = prepare(accelerator, Forwarder(critic.loss))
        self.optimizer = prepare_optimizer(accelerator, make_optimizer(critic.loss.parameters(), critic.optim))

    def state(self) -> dict[str, Stateful]:
        """What a checkpoint must hold, by name."""
        return {"critic": self.loss, "critic_optimizer": self.optimizer}

    def __call__(self, batch: TensorDictBase, clock: Clock, seed: int, iteration: int) -> dict[str, float]:
        key = (seed, iteration)
        metrics = update(self.accelerator, self.forwarder, self.optimizer, batch, self.optim, clock, key)
        metrics["critic/grad_norm"] = metrics.pop("grad_norm")
        return metrics


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
        with nullcontext() if m == M - 1 else no_sync(accelerator, forwarder):
            out = dict(zip(keys, forwarder(micro_batch), strict=True))
            total = sum(value for key, value in out.items() if key.startswith("loss_"))
            accelerator.backward(total * (len(micro_batch) / len(rows)))
        parts.append((len(micro_batch), {key: value.detach() for key, value in out.items()}))
    return parts

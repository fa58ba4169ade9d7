"""Train the base: weights, optimizer steps, checkpoints for bit-exact resuming, and the loop."""

from dataclasses import asdict, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from algorithms import checkpoint
from algorithms.build import build_cells
from algorithms.config import DataConfig
from algorithms.ema import EMA
from algorithms.estimate import Estimate, peak_memory, seconds_of
from algorithms.files import write_whole
from algorithms.inspection.cached import check_data
from algorithms.launch import prepare_output_dir, start_accelerator
from algorithms.logs import flatten_config
from algorithms.muon import OPTIMIZERS
from algorithms.nfe import count_nfe
from algorithms.provenance import shell_command
from algorithms.recipes.base import BaseConfig
from algorithms.recipes.base_validation import Validation, plot_curves
from algorithms.recipes.flow_matching_data import DROPOUT, TRAINING, WEIGHTS, draw_pairs, flow_matching_loss
from algorithms.schedule import cooldown_start, learning_rate_factor
from cellenv.data.cells import CellData
from cellenv.generator import SAMPLINGS, CellFlux
from cellenv.networks import PRESETS as NETWORKS
from cellenv.networks import UNet
from cellenv.streams import rng_at, seed_at


class BaseTraining:
    """State of a run: network, optimizer, EMA and validation history.

    validation: held-out cells, used by the main process; None: no validation.
    """

    def __init__(self, config: BaseConfig, accelerator: Accelerator, train: CellData, validation: CellData | None):
        self.config, self.accelerator, self.train = config, accelerator, train
        self.validation: Validation | None = None
        if validation is not None and accelerator.is_main_process:
            self.validation = Validation(config, validation, accelerator.device)
        sizes = replace(NETWORKS[config.network], size=train.size, condition_dim=train.conditions.shape[1])
        torch.manual_seed(seed_at(config.seed, WEIGHTS))
        sampling = replace(SAMPLINGS[config.sampling], noise_level=config.pairs.noise_level)
        self.generator = CellFlux(UNet(sizes), sizes, sampling)
        self.generator.to(accelerator.device)
        optim = config.optim
        optimizer = OPTIMIZERS[optim.optimizer](
            self.generator.parameters(), optim.learning_rate, betas=(0.9, 0.95), weight_decay=optim.weight_decay
        )
        self.ema = EMA(self.generator, optim.ema_decay)
        self.network, self.optimizer = accelerator.prepare(self.generator.network, optimizer)
        self.history: list[dict[str, float]] = []  # `step`, and the metrics of the validation after it

    @property
    def share(self) -> slice:
        """This process's share of the pairs of a step."""
        return slice(self.accelerator.process_index, None, self.accelerator.num_processes)

    def step(self, step: int) -> Tensor:
        """Take one optimizer step on this process's share of the pairs; returns the loss."""
        config, optim = self.config, self.config.optim
        torch.manual_seed(seed_at(config.seed, DROPOUT, step, self.accelerator.process_index))
        factor = learning_rate_factor(step, config.steps, optim.warmup_steps, optim.cooldown)
        for group in self.optimizer.param_groups:
            group["lr"] = optim.learning_rate * factor
        rng = rng_at(config.seed, TRAINING, step)
        pairs = draw_pairs(self.train, config.batch_size, rng, config.pairs, self.share)
        self.network.train()
        loss = flow_matching_loss(self.network, pairs.to(self.accelerator.device), config.pairs).mean()
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.network.parameters(), optim.max_grad_norm)
        self.optimizer.step()
        self.ema.update(self.generator)
        return loss.detach()

    def validate(self, step: int) -> None:
        """Evaluate the averaged weights, and write a picture of samples and the curves so far."""
        if self.validation is None:
            return
        folder = self.config.output_dir
        with self.ema.swapped(self.generator):
            self.generator.eval()
            metrics = self.validation.metrics(self.generator)
            self.validation.draw(self.generator, folder / f"samples-{step:06d}.png")
        self.history.append({"step": step} | metrics)
        write_whole(folder / "curves.png", plot_curves(self.history, self.validation.floor))
        self.accelerator.log(metrics, step=step)

    def save(self, folder: str, step: int) -> None:
        """Write a checkpoint; it needs no random state, since every stream is keyed by the step."""
        if self.accelerator.is_main_process:
            checkpoint.save(self.config.output_dir / folder, step, self.state() | {"steps": self.config.steps})

    def state(self) -> dict[str, Any]:
        """Everything that changes during training."""
        scaler = self.accelerator.scaler
        return {
            "network": self.generator.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "optimizer_name": self.config.optim.optimizer,
            "scaler": scaler.state_dict() if scaler is not None else None,
            "history": self.history,
        }

    def load(self) -> int:
        """Restore the newest checkpoint, or the one before the cooldown if `steps` has changed; returns its step.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: it was written with another optimizer, or the learning rate fell too early for `steps`.
        """
        config, folder = self.config, self.config.output_dir
        state = checkpoint.load_to_continue(folder, config.steps, config.optim.cooldown)
        if state["optimizer_name"] != (wanted := config.optim.optimizer):
            raise ValueError(f"{folder} was trained by {state['optimizer_name']}, not {wanted}: give it as --optimizer")
        self.generator.network.load_state_dict(state["network"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.history = state["history"]
        return int(state["iteration"])

    def publish(self) -> None:
        """Save the generator with averaged weights, with config and validation history as metadata."""
        if not self.accelerator.is_main_process:
            return
        metadata = {
            "command": shell_command(),
            "config": flatten_config(asdict(self.config)),
            "processes": self.accelerator.num_processes,
            "precision": self.accelerator.mixed_precision,
            "validation": self.history,
            "real": dict(self.validation.floor) if self.validation else {},
        }
        with self.ema.swapped(self.generator):
            self.generator.save_pretrained(self.config.output_dir / f"generator-{self.config.steps:06d}", metadata)


def train_base(config: BaseConfig) -> None:
    """Train, validate, save and publish the base.

    Raises:
        ValueError: the batch cannot be divided evenly among the processes.
    """
    accelerator = start_accelerator(
        mixed_precision=config.mixed_precision,
        trackers=config.trackers,
        output_dir=config.output_dir,
        threads=config.threads,
    )
    if config.batch_size % accelerator.num_processes:
        raise ValueError(f"{accelerator.num_processes} processes cannot share {config.batch_size} pairs evenly")
    with accelerator.main_process_first():  # the others read what it remembers
        check_data(config.data, tell=accelerator.print)
    prepare_output_dir(accelerator, config.output_dir, resume=config.resume)
    accelerator.init_trackers("base")
    training = BaseTraining(config, accelerator, *build_data(config.data))
    start = training.load() if config.resume else 0
    hidden = not accelerator.is_main_process
    with tqdm(total=config.steps, initial=start, disable=hidden, smoothing=0.02) as bar:
        for step in range(start, config.steps):
            if step == cooldown_start(config.steps, config.optim.cooldown):
                training.save("stable", step)
            loss = training.step(step)
            done = step + 1
            if done % config.validation.draw_every == 0 or done == config.steps:
                training.validate(done)
            if done % config.save_every == 0 or done == config.steps:
                training.save("checkpoints", done)
            bar.update()
            if done % 20 == 0:
                bar.set_postfix({"loss": loss.item()} | (training.history[-1] if training.history else {}))
                lr = training.optimizer.param_groups[0]["lr"]
                accelerator.log({"loss": loss.item(), "lr": lr}, step=done)
    training.publish()
    accelerator.end_training()


def build_data(config: DataConfig) -> tuple[CellData, CellData]:
    """(training cells, validation cells); a folder has no validation split and uses its test split."""
    return build_cells(config, "train"), build_cells(config, "validation" if config.path is None else "test")


def estimate_base(config: BaseConfig) -> Estimate:
    """Scale the cost of one optimizer step to the whole training, without validations."""
    accelerator = start_accelerator(mixed_precision=config.mixed_precision, threads=config.threads)
    training = BaseTraining(config, accelerator, build_cells(config.data, "train"), None)
    with count_nfe([training.generator.network]) as nfe:
        training.step(0)
    seconds = seconds_of(lambda: training.step(0))
    return Estimate(nfe=nfe.total * config.steps, seconds=seconds * config.steps, memory=peak_memory())

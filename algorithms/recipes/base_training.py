"""Train the base: weights, optimizer steps, validations, and the loop."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from algorithms.autosave import Autosave
from algorithms.build import build_cells
from algorithms.config import DataConfig
from algorithms.descent import NonFiniteError, descend
from algorithms.ema import EMA
from algorithms.estimate import Estimate, peak_memory, seconds_of
from algorithms.files import write_whole
from algorithms.inspection.cached import check_data
from algorithms.launch import start_accelerator
from algorithms.logs import finish_trackers, flatten_config
from algorithms.muon import OPTIMIZERS
from algorithms.nfe import count_nfe
from algorithms.provenance import provenance
from algorithms.recipes.base import BaseConfig
from algorithms.recipes.base_validation import Validation, plot_curves
from algorithms.recipes.flow_matching_data import DROPOUT, TRAINING, WEIGHTS, draw_pairs, flow_matching_loss
from algorithms.resume_settings import resume_settings
from algorithms.run_folder import run_folder
from algorithms.schedule import cooldown_start, learning_rate_factor
from algorithms.training_state import TrainingState
from cellenv.data.cells import CellData
from cellenv.generator import SAMPLINGS, CellFlux
from cellenv.networks import PRESETS as NETWORKS
from cellenv.networks import UNet
from cellenv.streams import rng_at, seed_at

RESUMABLE_FIELDS = (  # may change when a run is resumed
    *("output_dir", "resume", "steps", "trackers", "save_every", "save_minutes", "threads", "data.cache"),
    "distributed.timeout",
    *("validation.pairs", "validation.draw_every", "validation.judge", "validation.inception"),
)


@dataclass
class History:
    """Validations of a run: `step`, and the metrics after it."""

    points: list[dict[str, float]] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        """All points."""
        return {"points": self.points}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.points = state_dict["points"]


class BaseTraining:
    """State of a run: network, optimizer, EMA and validation history.

    validation: held-out cells; None: no validation.
    """

    def __init__(self, config: BaseConfig, accelerator: Accelerator, train: CellData, validation: CellData | None):
        self.config, self.accelerator, self.train = config, accelerator, train
        self.validation: Validation | None = None
        if validation is not None:
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
        self.history = History()

    @property
    def share(self) -> slice:
        """This process's share of the pairs of a step."""
        return slice(self.accelerator.process_index, None, self.accelerator.num_processes)

    def step(self, step: int) -> Tensor:
        """Take one optimizer step on this process's share of the pairs; returns its loss.

        Raises:
            FloatingPointError: the gradient is not finite; the pairs that make it so are in output_dir/nonfinite.
        """
        config, optim = self.config, self.config.optim
        torch.manual_seed(seed_at(config.seed, DROPOUT, step, self.accelerator.process_index))
        factor = learning_rate_factor(step, config.steps, optim.warmup_steps, optim.cooldown)
        for group in self.optimizer.param_groups:
            group["lr"] = optim.learning_rate * factor
        rng = rng_at(config.seed, TRAINING, step)
        pairs = draw_pairs(self.train, config.batch_size, rng, config.pairs, self.share).to(self.accelerator.device)
        self.network.train()
        losses = flow_matching_loss(self.network, pairs, config.pairs)
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(losses.mean())
        try:
            descend(self.accelerator, self.optimizer, self.network.parameters(), optim.max_grad_norm)
        except FloatingPointError as error:
            offends = ~losses.isfinite()
            rows = {name: value[offends] for name, value in pairs._asdict().items()}
            raise NonFiniteError(str(error), rows).saved(
                config.output_dir / "nonfinite", step, self.accelerator.process_index
            ) from None
        self.ema.update(self.generator)
        return losses.mean().detach()

    def validate(self, step: int) -> None:
        """Evaluate the averaged weights, and write a picture of samples and the curves so far."""
        if self.validation is None:
            return
        folder = self.config.output_dir
        with self.ema.swapped(self.generator):
            self.generator.eval()
            metrics = self.validation.metrics(self.generator)
            self.history.points.append({"step": step} | metrics)
            if self.accelerator.is_main_process:
                self.validation.draw(self.generator, folder / f"samples-{step:06d}.png")
                write_whole(folder / "curves.png", plot_curves(self.history.points, self.validation.floor))
        self.accelerator.log(metrics, step=step)

    def state(self) -> TrainingState:
        """What a checkpoint holds; no stream of random numbers is in it, since each is keyed by the step."""
        config, accelerator = self.config, self.accelerator
        return TrainingState(
            accelerator=accelerator,
            output_dir=config.output_dir,
            parts={
                "network": self.generator.network,
                "ema": self.ema,
                "optimizer": self.optimizer,
                "history": self.history,
            },
            settings=resume_settings(config, RESUMABLE_FIELDS, self.train, accelerator.mixed_precision),
            steps=config.steps,
            cooldown=config.optim.cooldown,
        )

    def publish(self) -> None:
        """Save the generator with averaged weights, with config and validation history as metadata."""
        if not self.accelerator.is_main_process:
            return
        metadata = {
            **provenance(self.config.data),
            "config": flatten_config(asdict(self.config)),
            "processes": self.accelerator.num_processes,
            "precision": self.accelerator.mixed_precision,
            "validation": self.history.points,
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
        timeout=config.distributed.timeout,
    )
    if config.batch_size % accelerator.num_processes:
        raise ValueError(f"{accelerator.num_processes} processes cannot share {config.batch_size} pairs evenly")
    check_data(config.data)
    with run_folder(config.output_dir, resume=config.resume):
        accelerator.init_trackers("base")
        training = BaseTraining(config, accelerator, *build_data(config.data))
        run_steps(training)
        training.publish()
    finish_trackers(accelerator)


def run_steps(training: BaseTraining) -> None:
    """Take the steps that are left, with validations and checkpoints.

    Raises:
        SystemExit: SIGTERM or SIGINT came; the step was finished, and a checkpoint written.
    """
    config, accelerator, state = training.config, training.accelerator, training.state()
    start = state.load() if config.resume else 0
    hidden = not accelerator.is_main_process
    with (
        Autosave(state, every=config.save_every, minutes=config.save_minutes) as autosave,
        tqdm(total=config.steps, initial=start, disable=hidden, smoothing=0.02) as bar,
    ):
        for step in range(start, config.steps):
            if step == cooldown_start(config.steps, config.optim.cooldown):
                state.save(step, "stable")
            loss = training.step(step)
            done = step + 1
            if done % config.validation.draw_every == 0 or done == config.steps:
                training.validate(done)
            bar.update()
            if done % 20 == 0:
                points = training.history.points
                mean = accelerator.reduce(loss, "mean").item()  # over all processes, which have equally many pairs
                bar.set_postfix({"loss": mean} | (points[-1] if points else {}))
                lr = training.optimizer.param_groups[0]["lr"]
                accelerator.log({"loss": mean, "lr": lr}, step=done)
            autosave(done)


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

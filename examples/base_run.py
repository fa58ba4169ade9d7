"""A run of train_base.py: its weights, its steps, and the checkpoints that it goes on from."""

import math
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from base_config import Config
from base_validation import Validation, curves
from pairs import DROPOUT, TRAINING, WEIGHTS, draw_pairs, flow_matching_loss
from torch import Tensor

from algorithms import checkpoint
from algorithms.ema import EMA
from algorithms.files import write_whole
from algorithms.muon import Muon
from cellenv.data.cells import CellData
from cellenv.generator import SAMPLINGS, CellFlux
from cellenv.networks import PRESETS as NETWORKS
from cellenv.networks import UNet
from cellenv.streams import rng_at, seed_at

OPTIMIZERS = {"muon": Muon, "adamw": torch.optim.AdamW}


class Run:
    """What a run owns, and what a checkpoint holds of it."""

    def __init__(self, config: Config, accelerator: Accelerator, train: CellData, validation: CellData):
        self.config, self.accelerator, self.train = config, accelerator, train
        main = accelerator.is_main_process
        self.validation = Validation(config, validation, accelerator.device) if main else None
        sizes = replace(NETWORKS[config.network], size=train.size, condition_dim=train.conditions.shape[1])
        torch.manual_seed(seed_at(config.seed, WEIGHTS))
        sampling = replace(SAMPLINGS[config.sampling], noise_level=config.noise_level)
        self.generator = CellFlux(UNet(sizes), sizes, sampling)
        self.generator.to(accelerator.device)
        optimizer = OPTIMIZERS[config.optimizer](
            self.generator.parameters(), config.lr, betas=(0.9, 0.95), weight_decay=config.weight_decay
        )
        self.ema = EMA(self.generator, config.decay)
        self.network, self.optimizer = accelerator.prepare(self.generator.network, optimizer)
        self.history: list[dict[str, float]] = []  # `step`, and what the validation found there

    def step(self, step: int, share: slice) -> Tensor:
        """One step of the optimizer on this process's share of the pairs; returns the loss."""
        config = self.config
        torch.manual_seed(seed_at(config.seed, DROPOUT, step, self.accelerator.process_index))
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * lr_factor(step, config.steps, config.warmup, config.cooldown)
        pairs = draw_pairs(self.train, config.batch_size, rng_at(config.seed, TRAINING, step), config, share)
        self.network.train()
        loss = flow_matching_loss(self.network, pairs.to(self.accelerator.device), config.guidance).mean()
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.network.parameters(), config.clip)
        self.optimizer.step()
        self.ema.update(self.generator)
        return loss.detach()

    def validate(self, step: int) -> None:
        """Figures and pictures of the averaged weights; the training goes on as it would have without."""
        if self.validation is None:
            return
        folder = self.config.output_dir
        with self.ema.swapped(self.generator):
            self.generator.eval()
            figures = self.validation.figures(self.generator)
            self.validation.draw(self.generator, folder / f"samples-{step:06d}.png")
        self.history.append({"step": step} | figures)
        write_whole(folder / "curves.png", curves(self.history, self.validation.floor))
        self.accelerator.log(figures, step=step)

    def save(self, folder: str, step: int) -> None:
        """A checkpoint; no random state, since every stream is named by the step."""
        if self.accelerator.is_main_process:
            checkpoint.save(self.config.output_dir / folder, step, self.state() | {"steps": self.config.steps})

    def state(self) -> dict[str, Any]:
        scaler = self.accelerator.scaler
        return {
            "network": self.generator.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "optimizer_name": self.config.optimizer,
            "scaler": scaler.state_dict() if scaler is not None else None,
            "history": self.history,
        }

    def load(self) -> int:
        """Go on from the newest checkpoint, or from the last of the constant learning rate if `steps` has changed."""
        folder = self.config.output_dir
        state = checkpoint.load_latest(folder / "checkpoints")
        if state is None or self._cooled_for_other_steps(state):
            state = checkpoint.load_latest(folder / "stable")
        if state is None:
            raise FileNotFoundError(f"no checkpoint to resume in {folder}; leave out --resume to start")
        if state["optimizer_name"] != (wanted := self.config.optimizer):
            raise ValueError(f"{folder} was trained by {state['optimizer_name']}, not {wanted}: give it as --optimizer")
        self.generator.network.load_state_dict(state["network"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.history = state["history"]
        return state["iteration"]

    def _cooled_for_other_steps(self, state: dict[str, Any]) -> bool:
        steps, cooldown = self.config.steps, self.config.cooldown
        return state["steps"] != steps and state["iteration"] > cooldown_start(min(state["steps"], steps), cooldown)

    def publish(self) -> None:
        """The generator with averaged weights, and how it came to be."""
        if not self.accelerator.is_main_process:
            return
        config = {name: str(v) if isinstance(v, Path) else v for name, v in asdict(self.config).items()}
        metadata = {
            "command": shlex.join(["python", *sys.argv]),
            "config": config,
            "processes": self.accelerator.num_processes,
            "precision": self.accelerator.mixed_precision,
            "validation": self.history,
            "real": self.validation.floor,
        }
        with self.ema.swapped(self.generator):
            self.generator.save_pretrained(self.config.output_dir / f"generator-{self.config.steps:06d}", metadata)


def cooldown_start(steps: int, cooldown: float) -> int:
    """The first step whose learning rate falls."""
    return steps - math.floor(cooldown * steps)


def lr_factor(step: int, steps: int, warmup: int, cooldown: float) -> float:
    """Rises over `warmup` steps, is 1, and falls to 0 over the last share `cooldown`."""
    left = (steps - step) / max(1, steps - cooldown_start(steps, cooldown))
    return min(1.0, (step + 1) / max(1, warmup), left)

"""State of a training run: save it, restore it bit for bit, and check that all ranks agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from algorithms import checkpoint
from algorithms.ema import EMA
from algorithms.processes import from_main


@dataclass(kw_only=True)
class TrainingState:
    """What a checkpoint holds.

    frozen: models inside the loss that never change, stored as fingerprints.
    further: more modules and optimizers, by name.
    resume_signature: config values that must be equal when the run is resumed.
    iterations, cooldown: length of the run and the fraction of it with a falling learning rate.
    """

    accelerator: Accelerator
    loss: nn.Module
    frozen: Sequence[nn.Module]
    optimizer: torch.optim.Optimizer
    ema: EMA
    resume_signature: Mapping[str, Any]
    output_dir: Path
    iterations: int
    cooldown: float
    further: Mapping[str, nn.Module | torch.optim.Optimizer] = field(default_factory=dict)

    def save(self, iteration: int, folder: str = "checkpoints") -> None:
        """Write a checkpoint to this folder of the run on the main process, with the random state of every rank.

        Raises:
            RuntimeError: the ranks hold different weights.
        """
        self.check_ranks()
        rng = gather_object([checkpoint.rng_state()])
        if self.accelerator.is_main_process:
            state = {
                "loss": self._unfrozen_weights(),
                "frozen": [checkpoint.fingerprint(model) for model in self.frozen],
                "optimizer": self.optimizer.state_dict(),
                "further": {name: part.state_dict() for name, part in self.further.items()},
                "ema": self.ema.state_dict(),
                "scaler": self.accelerator.scaler and self.accelerator.scaler.state_dict(),
                "rng": rng,
                "resume_signature": dict(self.resume_signature),
                "steps": self.iterations,
            }
            checkpoint.save(self.output_dir / folder, iteration, state)
        self.accelerator.wait_for_everyone()

    def load(self) -> int:
        """Restore a checkpoint (`checkpoint.load_to_continue`) and return the number of finished iterations.

        The main process reads it, for the others may not see its disk.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: the run was started with another resume signature or other pretrained weights, or its learning
                rate fell too early for a run of so many iterations.
        """
        read = partial(checkpoint.load_to_continue, self.output_dir, self.iterations, self.cooldown)
        state = from_main(read, "read a checkpoint")
        self._check_same_run(state)
        self.loss.load_state_dict(self.loss.state_dict() | state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, part in self.further.items():
            part.load_state_dict(state["further"][name])
        self.ema.load_state_dict(state["ema"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.accelerator.process_index < len(state["rng"]):
            checkpoint.set_rng_state(state["rng"][self.accelerator.process_index])
        return int(state["iteration"])

    def restore_ema(self, iteration: int) -> int:
        """Give the EMA the weights of the newest checkpoint up to this iteration; returns the iterations behind it.

        Raises:
            FileNotFoundError: there is no such checkpoint.
            ValueError: the checkpoint is damaged.
        """
        state = from_main(
            partial(checkpoint.load_up_to, self.output_dir / "checkpoints", iteration), "read a checkpoint"
        )
        self.ema.load_state_dict(state["ema"])
        return int(state["iteration"])

    def check_ranks(self) -> None:
        """Check that every rank holds the same weights, bit for bit.

        Raises:
            RuntimeError: they differ.
        """
        modules = [self.loss, *(part for part in self.further.values() if isinstance(part, nn.Module))]
        if len(set(gather_object(["".join(map(checkpoint.fingerprint, modules))]))) > 1:
            raise RuntimeError("the ranks hold different weights: gradients were not shared among them")

    def _check_same_run(self, state: Mapping[str, Any]) -> None:
        """Raise ValueError unless a checkpoint has this resume signature and these frozen weights."""
        now, saved = self.resume_signature, state["resume_signature"]
        changed = [name for name in sorted(now.keys() | saved.keys()) if now.get(name) != saved.get(name)]
        if changed:
            values = ", ".join(f"{name}={saved.get(name)!r}, now {now.get(name)!r}" for name in changed)
            raise ValueError(f"the run in {self.output_dir} was started with {values}; resume it with the same config")
        if state["frozen"] != [checkpoint.fingerprint(model) for model in self.frozen]:
            raise ValueError(f"the run in {self.output_dir} was started from other pretrained weights than these")

    def _unfrozen_weights(self) -> dict[str, Tensor]:
        """State dict of the loss without the frozen models."""
        frozen = {id(tensor) for model in self.frozen for tensor in model.state_dict(keep_vars=True).values()}
        state = self.loss.state_dict(keep_vars=True)
        return {name: tensor.detach() for name, tensor in state.items() if id(tensor) not in frozen}

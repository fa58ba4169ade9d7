"""State of a training run: save it, restore it bit for bit, and check that all ranks agree."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from algorithms import checkpoint
from algorithms.memory import size_of, tensors_of
from algorithms.processes import from_main
from algorithms.resume_settings import describe_changes
from algorithms.sharding import whole


class Stateful(Protocol):
    """A module, optimizer or average."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Take on what a checkpoint holds."""


@dataclass(kw_only=True)
class TrainingState:
    """What a checkpoint holds.

    parts: all that changes, by name.
    frozen: models inside the parts that never change, stored as fingerprints.
    settings: what must be equal when the run is resumed, see `resume_settings`.
    steps, cooldown: length of the run and the fraction of it with a falling learning rate.
    reach: how many steps back the run may have to go, see `checkpoint.save`.
    """

    accelerator: Accelerator
    output_dir: Path
    parts: Mapping[str, Stateful]
    settings: Mapping[str, str]
    steps: int
    cooldown: float = 0.0
    frozen: Sequence[nn.Module] = ()
    reach: int = 0

    def save(self, step: int, folder: str = "checkpoints") -> None:
        """Write a checkpoint to this folder of the run on the main process, with the random state of every rank.

        Raises:
            RuntimeError: the ranks hold different weights.
        """
        self.check_ranks()
        rng = gather_object([checkpoint.rng_state()])
        main = self.accelerator.is_main_process
        parts = {name: whole(self._changing(part), keep=main) for name, part in self.parts.items()}
        frozen = [checkpoint.fingerprint(model) for model in self.frozen]
        if main:
            state = {
                "parts": parts,
                "names": [*leaf_names(parts)],
                "frozen": frozen,
                "scaler": self.accelerator.scaler and self.accelerator.scaler.state_dict(),
                "rng": rng,
                "settings": dict(self.settings),
                "steps": self.steps,
                "cooldown": self.cooldown,
            }
            checkpoint.save(self.output_dir / folder, step, state, reach=self.reach)
        self.accelerator.wait_for_everyone()

    def check_space(self) -> None:
        """Check that the main process's disk has room for the checkpoints.

        Raises:
            OSError: it has not; names the folder.
        """
        size = sum(size_of(tensors_of(self._changing(part))) for part in self.parts.values())
        from_main(partial(checkpoint.check_space, self.output_dir, size), "look for room on the disk")

    def load(self) -> int:
        """Restore a checkpoint (`checkpoint.load_to_continue`) and return the number of finished steps.

        The main process reads it, for the others may not see its disk.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: it cannot be used; or the run was started with other settings or other pretrained weights, or
                its learning rate fell too early for a run of so many steps; or something is missing in it.
        """
        read = partial(checkpoint.load_to_continue, self.output_dir, self.steps, self.cooldown)
        state = from_main(read, "read a checkpoint")
        self._check_same_run(state)
        self._check_complete(state)
        for name, part in self.parts.items():
            saved = state["parts"][name]
            part.load_state_dict(part.state_dict() | saved if isinstance(part, nn.Module) else saved)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.accelerator.process_index < len(state["rng"]):
            checkpoint.set_rng_state(state["rng"][self.accelerator.process_index])
        return int(state["iteration"])

    def restore(self, name: str, step: int) -> int:
        """Give a part its state in the newest checkpoint up to this step, or the oldest; returns the steps behind it.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: the checkpoint is damaged.
        """
        state = from_main(partial(checkpoint.load_up_to, self.output_dir / "checkpoints", step), "read a checkpoint")
        self.parts[name].load_state_dict(state["parts"][name])
        return int(state["iteration"])

    def check_ranks(self) -> None:
        """Check that every rank holds the same weights, bit for bit.

        Raises:
            RuntimeError: they differ.
        """
        modules = [part for part in self.parts.values() if isinstance(part, nn.Module)]
        if len(set(gather_object(["".join(map(checkpoint.fingerprint, modules))]))) > 1:
            raise RuntimeError("the ranks hold different weights: gradients were not shared among them")

    def _check_same_run(self, state: Mapping[str, Any]) -> None:
        """Raise ValueError unless a checkpoint has these settings and these frozen weights."""
        if changes := describe_changes(state["settings"], self.settings):
            raise ValueError(
                f"the run in {self.output_dir} was started with {changes}; resume it with the same config, or give "
                "another --output-dir"
            )
        if state["frozen"] != [checkpoint.fingerprint(model) for model in self.frozen]:
            raise ValueError(f"the run in {self.output_dir} was started from other pretrained weights than these")

    def _check_complete(self, state: Mapping[str, Any]) -> None:
        """Raise ValueError unless a checkpoint holds what was saved, and exactly the weights of these parts."""
        now = {name: self._changing(part) for name, part in self.parts.items() if isinstance(part, nn.Module)}
        saved = {*leaf_names(state["parts"])}
        of_modules = {name for name in saved if name.split(".")[0] in now}
        wrong = sorted((saved ^ {*state["names"]}) | (of_modules ^ {*leaf_names(now)}))
        if wrong or state["parts"].keys() != self.parts.keys():
            first = wrong[0] if wrong else ", ".join(sorted(state["parts"].keys() ^ self.parts.keys()))
            raise ValueError(
                f"the checkpoint of {state['iteration']} iterations in {self.output_dir} does not hold exactly what "
                f"changes in this run: {len(wrong)} names differ, first {first}; leave out --resume to start anew"
            )

    def _changing(self, part: Stateful) -> dict[str, Any]:
        """State of a part, without the frozen models in it."""
        if not isinstance(part, nn.Module):
            return part.state_dict()
        frozen = {id(tensor) for model in self.frozen for tensor in model.state_dict(keep_vars=True).values()}
        state = part.state_dict(keep_vars=True)
        return {name: tensor.detach() for name, tensor in state.items() if id(tensor) not in frozen}


def leaf_names(state: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of all values in nested mappings that are not mappings themselves."""
    for name, value in state.items():
        if isinstance(value, Mapping):
            yield from leaf_names(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"

"""Memory of a training on one process, whole or in shards: weights, their copies, optimizer, gradients, activations."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from algorithms.ema import EMA
from cellenv.networks import EmbedSequential

PROCESSES = (2, 8, 64)  # of the table
MIB = 2**20
AT_WORK = 3  # a layer that is computed, the next one, and a gradient: whole, also in shards


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Bytes of a training, besides the data, the rewards' models and the libraries.

    states: what FSDP2 divides among the processes, by name. layer: the largest layer of theta. activations: what the
    backward pass of a micro-batch needs.
    """

    states: Mapping[str, int]
    layer: int
    activations: int

    def per_process(self, processes: int) -> dict[str, float]:
        """By name, on each of so many processes with FSDP2; 1: all is whole, as on each of several without it."""
        parts = {name: size / processes for name, size in self.states.items()}
        parts["layers at work"] = AT_WORK * self.layer if processes > 1 else 0
        parts["activations"] = self.activations
        return parts | {"sum": sum(parts.values())}

    def __str__(self) -> str:
        columns = [self.per_process(n) for n in (1, *PROCESSES)]
        head = ["whole", *(f"in {n} shards" for n in PROCESSES)]
        lines = ["memory of a process, MiB      " + "".join(f"{name:>14}" for name in head)]
        for name in columns[0]:
            lines.append(f"{name:<30}" + "".join(f"{column[name] / MIB:>14,.1f}" for column in columns))
        return "\n".join(lines)


def training_memory(
    theta: nn.Module, old: nn.Module, frozen: Sequence[nn.Module], *, ema: EMA, optimizer: Any, activations: int
) -> TrainingMemory:
    """Memory of a training that has taken a step. optimizer: its state dict; the others: as in `Algorithm`."""
    trained = [parameter for parameter in theta.parameters() if parameter.requires_grad]
    states = {
        "theta": size_of(theta.parameters()),
        "old": 0 if old is theta else size_of(old.parameters()),
        "reference": sum(size_of(model.parameters()) for model in frozen),
        "average (EMA)": size_of(ema.average.values()),
        "gradients": size_of(trained),
        "optimizer": size_of(tensors_of(optimizer)),
    }
    layers = [size_of(layer.parameters()) for layer in theta.modules() if isinstance(layer, EmbedSequential)]
    return TrainingMemory(states=states, layer=max(layers, default=states["theta"]), activations=activations)


def size_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of their numbers."""
    return sum(tensor.nbytes for tensor in tensors)


def tensors_of(state: Any) -> Iterator[Tensor]:
    """All tensors in nested mappings."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping):
        for value in state.values():
            yield from tensors_of(value)


@dataclass
class SavedActivations:
    """Bytes that forward passes of a module keep for their backward passes, besides its parameters."""

    most: int = 0  # of any one pass
    _inside: bool = False  # of a pass: autograd's hook also hears of what other modules save
    _now: int = 0
    _seen: set[int] = field(default_factory=set)

    def start(self, module: nn.Module, inputs: Any) -> None:
        """Forward pre-hook."""
        self._inside, self._now = True, 0
        self._seen = {parameter.untyped_storage()._cdata for parameter in module.parameters()}

    def stop(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        """Forward hook."""
        self._inside = False

    def count(self, tensor: Tensor) -> Tensor:
        """Hook of what autograd saves; tensors that share memory are counted once."""
        memory = tensor.untyped_storage()
        if self._inside and memory._cdata not in self._seen:  # its address, which memory without data has too (meta)
            self._seen.add(memory._cdata)
            self._now += memory.nbytes()
            self.most = max(self.most, self._now)
        return tensor


@contextmanager
def saved_activations(module: nn.Module) -> Iterator[SavedActivations]:
    """Measure the activations of the module's passes inside the context."""
    saved = SavedActivations()
    hooks = module.register_forward_pre_hook(saved.start), module.register_forward_hook(saved.stop)
    try:
        with saved_tensors_hooks(saved.count, lambda tensor: tensor):
            yield saved
    finally:
        for hook in hooks:
            hook.remove()

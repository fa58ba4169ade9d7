"""Exponential moving average (EMA) of the trained weights, for evaluation."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from algorithms.sharding import shard_like


class EMA:
    """ema <- d ema + (1 - d) theta with d = min(decay, (1 + n) / (10 + n)) at update n = 1, 2, ...

    Averages only parameters that require a gradient, in float32 or wider. Pass the bare model, not its
    DistributedDataParallel wrapper. The warm-up of d is CellFlux's (arXiv:2502.09775).
    """

    def __init__(self, model: nn.Module, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.decay, self.updates = decay, 0
        self.average = {name: _float32_copy(parameter) for name, parameter in _trained(model)}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the weights of the model.

        Raises:
            ValueError: the trained parameters of the model are not those that are averaged.
        """
        self.updates += 1
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in self._matching(model):
            self.average[name].lerp_(parameter.to(self.average[name]), 1 - d)

    @contextmanager
    def swapped(self, model: nn.Module) -> Iterator[None]:
        """Give the model the averaged weights inside the context; restore its own afterwards, also after an error."""
        with torch.no_grad():
            own = {name: parameter.clone() for name, parameter in self._matching(model)}
            try:
                _copy_into(model, self.average)
                yield
            finally:
                _copy_into(model, own)

    def state_dict(self) -> dict[str, Any]:
        """The average and the number of updates."""
        return {"updates": self.updates, "average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: names or shapes differ from this model's.
        """
        shapes = {name: tuple(value.shape) for name, value in self.average.items()}
        came = {name: tuple(value.shape) for name, value in state["average"].items()}
        if shapes != came:
            wrong = sorted(name for name in shapes.keys() | came.keys() if shapes.get(name) != came.get(name))
            raise ValueError(f"the average is of another model; {len(wrong)} entries differ, first {wrong[0]!r}")
        self.updates = state["updates"]
        self.average = {
            name: shard_like(value, self.average[name]).to(self.average[name], copy=True)
            for name, value in state["average"].items()
        }

    def _matching(self, model: nn.Module) -> list[tuple[str, nn.Parameter]]:
        """Trained parameters of the model, which must be those of the average."""
        trained = _trained(model)
        if {name for name, _ in trained} != self.average.keys():
            raise ValueError(f"need the model of the average, {len(self.average)} trained tensors; got {len(trained)}")
        return trained


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def _float32_copy(parameter: Tensor) -> Tensor:
    return parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32), copy=True)


def _copy_into(model: nn.Module, values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in values:
                parameter.copy_(values[name])

"""Number of function evaluations (NFE) of networks, in images: the cost at which methods are compared."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass
class FunctionEvaluations:
    """Images that passed through a network, forward and backward."""

    forward: int = 0
    backward: int = 0

    @property
    def total(self) -> int:
        """forward + 2 backward: a backward pass computes the gradients of inputs and of weights."""
        return self.forward + 2 * self.backward

    def count(self, network: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Forward hook; counts the batch as backward only when a gradient reaches its output."""
        images = len(output)
        self.forward += images
        if output.requires_grad:
            output.register_hook(lambda gradient: self._count_backward(images))

    def _count_backward(self, images: int) -> None:
        self.backward += images


@contextmanager
def count_nfe(networks: Iterable[nn.Module]) -> Iterator[FunctionEvaluations]:
    """Count the evaluations of these networks inside the context; a network listed twice is counted once."""
    nfe = FunctionEvaluations()
    with ExitStack() as hooks:
        for network in {id(network): network for network in networks}.values():
            hooks.enter_context(network.register_forward_hook(nfe.count))
        yield nfe

"""How much work a network did, in passes of one image: what methods that are compared must have in common."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass
class Passes:
    """Images that went through a network, forward and backward."""

    forward: int = 0
    backward: int = 0

    @property
    def total(self) -> int:
        """A backward pass is as much work as two forward ones: it makes the gradients of inputs and of weights."""
        return self.forward + 2 * self.backward

    def count(self, network: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        """A forward hook. Its batch counts backward when a gradient arrives, and not before."""
        images = len(output)
        self.forward += images
        if output.requires_grad:
            output.register_hook(lambda gradient: self._back(images))

    def _back(self, images: int) -> None:
        self.backward += images


@contextmanager
def counting(networks: Iterable[nn.Module]) -> Iterator[Passes]:
    """Inside, the passes of these networks are counted; a network that stands here twice is counted once."""
    passes = Passes()
    with ExitStack() as hooks:
        for network in {id(network): network for network in networks}.values():
            hooks.enter_context(network.register_forward_hook(passes.count))
        yield passes

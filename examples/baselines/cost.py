"""What a step of any training costs, in floating-point operations."""

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Flops(TorchDispatchMode):
    """Inside, matrix products, convolutions and attention are counted, their gradients too, at any order."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (cost := flop_registry.get(func._overloadpacket)) is not None:
            self.total += cost(*args, **(kwargs or {}), out_val=out)
        return out


def flops(step: Callable[[], object]) -> int:
    """Floating-point operations of a step, backward passes and optimizer and all; two for a product and a sum."""
    with Flops() as counter:
        step()
    return counter.total

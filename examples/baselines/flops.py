"""Floating-point operations of a training step."""

from collections.abc import Callable, Mapping
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class FlopCounter(TorchDispatchMode):
    """Counts matrix products, convolutions and attention inside the context, and their gradients of any order.

    torch's FlopCounterMode raises on gradients of gradients, which R1 needs.
    """

    total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def count_flops(step: Callable[[], object]) -> int:
    """Floating-point operations of a step, with its backward passes and optimizer; a multiply-add is two."""
    with FlopCounter() as counter:
        step()
    return counter.total

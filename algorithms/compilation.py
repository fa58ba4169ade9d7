"""Compile networks with torch.compile, where the machine has a compiler."""

import logging
from collections.abc import Iterable

import torch
from torch import nn

from algorithms.sharding import sharded_layers

logger = logging.getLogger(__name__)


def compile_networks(networks: Iterable[nn.Module], device: torch.device | str) -> None:
    """Compile the calls of these networks in place; their weights, and the names of these, stay as they are.

    The first calls then take minutes and later ones less time. A copy of a network is not compiled. Without a compiler
    for the device, a warning says so and nothing changes.

    Raises:
        ValueError: the launcher asks for FSDP.
    """
    if sharded_layers():
        raise ValueError("--compile is not supported with FSDP; leave it out")
    if (reason := why_not(device)) is not None:
        logger.warning("networks are not compiled, since this machine cannot compile for %s: %s", device, reason)
        return
    for network in networks:
        network.compile()


def why_not(device: torch.device | str) -> str | None:
    """Why a small function cannot be compiled for this device, in a line; None if it can."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(1, device=device))
    except (RuntimeError, ImportError) as error:  # no C++ compiler, no Triton, an unsupported system
        return str(error).strip().splitlines()[0]
    return None

"""Weights in shards (FSDP2), for a training that does not fit a card: each process keeps a part of every tensor.

A sharded network is called as before, by all processes at the same time, and gathers a layer while it computes it. Its
parameters are DTensors: the optimizer, the EMA and the old policy move shards. What is saved and loaded is whole.
"""

import copy
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import FullyShardedDataParallelPlugin, broadcast
from torch import nn
from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

CONFIG = "launch with accelerate_configs/fsdp2.yaml"
Model = TypeVar("Model", bound=nn.Module)


def sharded_layers() -> frozenset[str]:
    """Names of the classes of modules that the launcher wants sharded; empty if it does not ask for FSDP.

    Raises:
        ValueError: it asks for what the trainer does not do.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return frozenset()
    if (version := os.environ.get("FSDP_VERSION", "1")) != "2":
        raise ValueError(f"FSDP of version {version} is not supported, version 2 is: {CONFIG}")
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
    if isinstance(plugin.cpu_offload, CPUOffloadPolicy) or plugin.activation_checkpointing:
        raise ValueError(f"FSDP's offload_params and activation_checkpointing are not supported: {CONFIG}")
    if not (plugin.reshard_after_forward and plugin.transformer_cls_names_to_wrap):
        raise ValueError(f"FSDP needs reshard_after_forward, and the names of layers to shard: {CONFIG}")
    return frozenset(plugin.transformer_cls_names_to_wrap)


def prepare(accelerator: Accelerator, model: nn.Module) -> nn.Module:
    """The model behind DistributedDataParallel or, if the launcher asks for it, its layers sharded in place.

    All processes start with the weights of the main one. Sharded modules load whole tensors, and take their part.

    Raises:
        ValueError: a parameter is in none of the modules that the launcher names.
    """
    if not (layers := sharded_layers()):
        prepared: nn.Module = accelerator.prepare(model)
        return prepared
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = broadcast(tensor.data.to(accelerator.device)).to(tensor.device)
    for module in reversed([*model.modules()]):  # layers before what they are in
        if type(module).__name__ in layers:
            fully_shard(module, reshard_after_forward=True)
            module.register_load_state_dict_pre_hook(_shard_weights)
    if whole_ones := [name for name, value in model.named_parameters() if not isinstance(value, DTensor)]:
        raise ValueError(
            f"FSDP shards {', '.join(sorted(layers))}, and {len(whole_ones)} tensors are in none of these, first"
            f" {whole_ones[0]}: name the class that holds them in fsdp_transformer_layer_cls_to_wrap"
        )
    for buffer in model.buffers():
        buffer.data = buffer.data.to(accelerator.device)
    return accelerator.prepare_model(model, evaluation_mode=True)  # for autocast; gradients are shared by the shards


def prepare_optimizer(accelerator: Accelerator, optimizer: Optimizer) -> AcceleratedOptimizer:
    """Accelerate's optimizer of whole or sharded parameters; it loads whole tensors, and takes its part."""
    inner = [part for part in vars(optimizer).values() if isinstance(part, Optimizer)]
    for part in (optimizer, *inner):
        part.register_load_state_dict_pre_hook(_shard_moments)
    return accelerator.prepare_optimizer(optimizer)


def no_sync(accelerator: Accelerator, prepared: nn.Module) -> AbstractContextManager[None]:
    """A context in which gradients stay on their process; sharded ones do not, since whole gradients may not fit."""
    return nullcontext() if is_sharded(prepared) else accelerator.no_sync(prepared)


def is_sharded(model: nn.Module) -> bool:
    """Whether the parameters are shards."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def whole(state: Any, *, keep: bool = True) -> Any:
    """Nested state with whole tensors on the CPU in place of shards; all processes must ask for it together.

    keep: False gives None in place of shards, to a process that has no use for whole tensors.
    """
    if isinstance(state, DTensor):
        tensor = state.full_tensor().detach()
        return tensor.cpu() if keep else None
    if isinstance(state, Mapping):
        return {name: whole(value, keep=keep) for name, value in state.items()}
    return [whole(value, keep=keep) for value in state] if isinstance(state, list) else state


def shard_like(value: Any, like: Any) -> Any:
    """This process's part of a whole tensor, if another of its shape is sharded; else the value."""
    if not isinstance(like, DTensor) or isinstance(value, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def whole_copier(model: Model) -> Callable[[], Model]:
    """A function that copies the model as it is then, sharded or not, to a whole one on its device.

    All processes must call it together. Ask for it before the model is sharded: a sharded one cannot be copied.
    """
    empty = copy.deepcopy(model).to("meta")

    def copy_whole() -> Model:
        filled = copy.deepcopy(empty).to_empty(device=next(model.parameters()).device)
        filled.load_state_dict(whole(model.state_dict()))
        return filled

    return copy_whole


def _shard_weights(module: nn.Module, saved: dict[str, Any], prefix: str, *_: Any) -> None:
    """Hook of `load_state_dict`."""
    for name, own in module.state_dict().items():
        if prefix + name in saved:
            saved[prefix + name] = shard_like(saved[prefix + name], own)


def _shard_moments(optimizer: Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
    """Hook of `load_state_dict`."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        i: {name: shard_like(value, parameters[i]) for name, value in values.items()}
        for i, values in saved["state"].items()
    }
    return {**saved, "state": state}

"""Low-rank adapters (LoRA, arXiv:2106.09685) as an alternative to full fine-tuning; needs the package peft."""

import math
from types import ModuleType

import torch
from torch import nn

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


def add_lora(model: nn.Module, rng: torch.Generator, *, rank: int = 32, alpha: float = 64.0) -> nn.Module:
    """Freeze the model and add a trainable (alpha / rank) B A to each linear and convolutional weight, in place.

    A is drawn from rng and B starts at zero, so that the model's output is unchanged at first. Returns the model.

    Raises:
        ValueError: rank < 1, or the model has no linear or convolutional layer.
        ImportError: peft is not installed.
    """
    peft = import_peft()
    names = [name for name, module in model.named_modules() if isinstance(module, LAYERS)]
    if rank < 1 or not names:
        raise ValueError(f"need rank >= 1 and a linear or convolutional layer, got rank {rank}, {len(names)} layers")
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=names)
    with torch.random.fork_rng():  # peft initialises from the global stream; its draws are replaced below
        peft.inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            nn.init.kaiming_uniform_(parameter, a=math.sqrt(5), generator=rng)
    return model


def merge_lora(model: nn.Module) -> nn.Module:
    """Replace every adapted layer by a plain one of weight W + (alpha / rank) B A, in place. Returns the model.

    Raises:
        ImportError: peft is not installed.
    """
    adapted_layer = import_peft().tuners.tuners_utils.BaseTunerLayer
    for name, module in list(model.named_modules()):
        if isinstance(module, adapted_layer):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())
    return model.requires_grad_(True)


def import_peft() -> ModuleType:
    """Import peft.

    Raises:
        ImportError: peft is not installed; the message says how to install it.
    """
    try:
        import peft
    except ImportError as error:
        raise ImportError("LoRA needs the package peft: pip install 'cellfluxrl[lora]'") from error
    return peft

"""Low-rank adapters (LoRA, arXiv:2106.09685) in place of full fine-tuning; needs the package peft."""

import math

import torch
from torch import nn

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


def add_lora(model: nn.Module, rng: torch.Generator, *, rank: int = 32, alpha: float = 64.0) -> nn.Module:
    """Freeze the model and give each linear and convolutional layer W the trainable step (alpha / rank) B A, in place.

    A is drawn from rng; B starts at zero, so that nothing changes at first. Returns the model.
    """
    peft = import_peft()
    names = [name for name, module in model.named_modules() if isinstance(module, LAYERS)]
    if rank < 1 or not names:
        raise ValueError(f"need rank >= 1 and a linear or convolutional layer, got rank {rank}, {len(names)} layers")
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=names)
    with torch.random.fork_rng():  # peft draws from the global stream; what it drew is replaced
        peft.inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            nn.init.kaiming_uniform_(parameter, a=math.sqrt(5), generator=rng)
    return model


def merge_lora(model: nn.Module) -> nn.Module:
    """W + (alpha / rank) B A in the place of every adapter, in place: the layers are those from before `add_lora`."""
    tuner = import_peft().tuners.tuners_utils.BaseTunerLayer
    for name, module in list(model.named_modules()):
        if isinstance(module, tuner):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())
    return model.requires_grad_(True)


def import_peft():
    """The package, or how to get it."""
    try:
        import peft
    except ImportError as error:
        raise ImportError("LoRA needs the package peft: pip install 'cellfluxrl[lora]'") from error
    return peft

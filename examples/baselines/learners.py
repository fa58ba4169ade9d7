"""One step of training, for each baseline: networks, optimizers, losses. n pairs of images (C, H, W)."""

from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from algorithms.muon import Muon
from baselines.impa import IMPA, IMPAConfig, Look, Weights, discriminator_terms, generator_terms
from baselines.phendiff import PhenDiff, phendiff_loss
from cellenv.data.cells import CellData
from cellenv.networks import PRESETS as NETWORKS
from cellenv.path import lift

CONTROLS = 0.25  # share of the images that PhenDiff learns from which are controls


class Batch(NamedTuple):
    """Controls and treated images of their experimental batches, (n, C, H, W); of these condition and compound id."""

    x0: Tensor
    x1: Tensor
    condition: Tensor
    compound: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(value.to(device) for value in self))


class Stateful(Protocol):
    """A network, an optimizer, an average."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


class Learner(Protocol):
    """model: what is averaged, drawn with and saved. batch_size, lr: what a run takes that is told none."""

    model: nn.Module
    parts: dict[str, Stateful]  # what a checkpoint holds
    batch_size: int
    lr: float

    def step(self, batch: Batch, rng: torch.Generator, factor: float, progress: float) -> dict[str, float]:
        """One step with `factor` times the learning rate, `progress` in [0, 1) of the training; returns the losses."""


class LearnPhenDiff:
    """One network for all images; Muon, as the base."""

    batch_size, lr = 48, 2e-3

    def __init__(self, data: CellData, accelerator: Accelerator, lr: float):
        sizes = replace(NETWORKS["embedded"], predicts="v", size=data.size, condition_dim=data.conditions.shape[1])
        self.accelerator, self.lr = accelerator, lr
        self.model = PhenDiff(sizes).to(accelerator.device)
        self.optimizer = Muon(self.model.parameters(), self.lr)
        self.parts = {"model": self.model, "optimizer": self.optimizer}

    def step(self, batch: Batch, rng: torch.Generator, factor: float, progress: float) -> dict[str, float]:
        t = torch.rand(len(batch.x0), generator=rng).to(batch.x0)
        keep = (torch.rand(len(t), generator=rng) >= CONTROLS).to(batch.x0.device)
        noise = torch.randn(batch.x0.shape, generator=rng).to(batch.x0)
        images = torch.where(lift(keep, batch.x1), batch.x1, batch.x0)
        with self.accelerator.autocast():
            loss = phendiff_loss(lambda x, phi: self.model.u(x, phi, batch.condition, keep), images, noise, t).mean()
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        set_lr(self.optimizer, factor * self.lr)
        self.optimizer.step()
        return {"loss": loss.item()}


class LearnIMPA:
    """The discriminator takes a step, then the three networks that it judges; Adam, as StarGAN v2."""

    batch_size, lr = 16, 2e-4

    def __init__(self, data: CellData, accelerator: Accelerator, lr: float):
        compounds = len(data.compounds)
        sizes = IMPAConfig(size=data.size, condition_dim=data.conditions.shape[1], compounds=compounds)
        self.accelerator, self.lr, self.weights = accelerator, lr, Weights()
        self.model, self.discriminator = IMPA(sizes).to(accelerator.device), Look(sizes, compounds)
        self.discriminator.to(accelerator.device, memory_format=torch.channels_last)
        self.optimizers = {
            net: torch.optim.Adam(net.parameters(), self.lr, betas=(0.0, 0.99))
            for net in (self.discriminator, self.model)
        }
        self.parts = {"model": self.model, "discriminator": self.discriminator}
        self.parts |= {f"optimizer_{i}": optimizer for i, optimizer in enumerate(self.optimizers.values())}

    def step(self, batch: Batch, rng: torch.Generator, factor: float, progress: float) -> dict[str, float]:
        model, discriminator, autocast = self.model, self.discriminator, self.accelerator.autocast
        z = tuple(torch.randn(len(batch.x0), model.config.noise, generator=rng).to(batch.x0) for _ in range(2))
        weights = replace(self.weights, variety=(1 - progress) * self.weights.variety)
        with torch.no_grad(), autocast():
            fake = model.generator(batch.x0, model.mapping(batch.condition, z[0]))
        with autocast():
            terms = discriminator_terms(discriminator, batch.x1, fake, batch.compound, weights)
        self._descend(discriminator, terms, factor)
        discriminator.requires_grad_(False)
        with autocast():
            more = generator_terms(model, discriminator, batch.x0, batch.condition, batch.compound, z, weights)
        self._descend(model, more, factor)
        discriminator.requires_grad_(True)
        return {name: term.mean().item() for name, term in (terms | more).items()}

    def _descend(self, net: nn.Module, terms: dict[str, Tensor], factor: float) -> None:
        optimizer = self.optimizers[net]
        optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(sum(terms.values()).mean())
        set_lr(optimizer, factor * self.lr)
        optimizer.step()


LEARNERS: dict[str, type[Learner]] = {"phendiff": LearnPhenDiff, "impa": LearnIMPA}


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = lr

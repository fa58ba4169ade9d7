"""One training step of each baseline: networks, optimizers, losses. n pairs of images (C, H, W)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, NamedTuple, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from algorithms.muon import Muon
from algorithms.training_state import Stateful
from cellenv.data.cells import CellData
from cellenv.networks import PRESETS as NETWORKS
from cellenv.path import lift
from examples.baselines.impa import IMPA, ConvEncoder, IMPAConfig
from examples.baselines.impa_losses import IMPALossWeights, discriminator_terms, generator_terms
from examples.baselines.phendiff import PhenDiff, phendiff_loss

CONTROL_SHARE = 0.25  # of PhenDiff's training images
MAX_GRAD_NORM = 1.0  # of PhenDiff


class ImagePairs(NamedTuple):
    """Controls x0 and treated images x1 of the same plates, (n, C, H, W); condition (n, D) and compound id (n,)."""

    x0: Tensor
    x1: Tensor
    condition: Tensor
    compound: Tensor

    def to(self, device: torch.device) -> "ImagePairs":
        return ImagePairs(*(value.to(device) for value in self))


class Learner(Protocol):
    """A model in training.

    model: what is averaged, sampled and saved. parts: what a checkpoint holds.
    """

    default_batch_size: ClassVar[int]
    default_learning_rate: ClassVar[float]
    model: nn.Module
    parts: dict[str, Stateful]

    def __init__(self, data: CellData, accelerator: Accelerator, learning_rate: float): ...

    def step(
        self, pairs: ImagePairs, rng: torch.Generator, learning_rate_factor: float, progress: float
    ) -> dict[str, float]:
        """Take one optimizer step per network and return the losses. progress: of the training, in [0, 1)."""


class PhenDiffLearner:
    """One network for controls and treated images; Muon, as the base."""

    default_batch_size = 48
    default_learning_rate = 2e-3

    def __init__(self, data: CellData, accelerator: Accelerator, learning_rate: float):
        sizes = replace(NETWORKS["embedded"], predicts="v", size=data.size, condition_dim=data.conditions.shape[1])
        self.accelerator, self.learning_rate = accelerator, learning_rate
        self.model = PhenDiff(sizes).to(accelerator.device)
        self.optimizer = Muon(self.model.parameters(), learning_rate)
        self.parts: dict[str, Stateful] = {"model": self.model, "optimizer": self.optimizer}

    def step(
        self, pairs: ImagePairs, rng: torch.Generator, learning_rate_factor: float, progress: float
    ) -> dict[str, float]:
        t = torch.rand(len(pairs.x0), generator=rng).to(pairs.x0)
        treated = (torch.rand(len(t), generator=rng) >= CONTROL_SHARE).to(pairs.x0.device)
        noise = torch.randn(pairs.x0.shape, generator=rng).to(pairs.x0)
        images = torch.where(lift(treated, pairs.x1), pairs.x1, pairs.x0)
        with self.accelerator.autocast():
            loss = phendiff_loss(lambda x, phi: self.model.u(x, phi, pairs.condition, treated), images, noise, t).mean()
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRAD_NORM)
        set_learning_rate(self.optimizer, learning_rate_factor * self.learning_rate)
        self.optimizer.step()
        return {"loss": loss.item()}


class IMPALearner:
    """The discriminator takes a step, then the three other networks; Adam, as StarGAN v2."""

    default_batch_size = 16
    default_learning_rate = 2e-4

    def __init__(self, data: CellData, accelerator: Accelerator, learning_rate: float):
        compounds = len(data.compounds)
        sizes = IMPAConfig(size=data.size, condition_dim=data.conditions.shape[1], compounds=compounds)
        self.accelerator, self.learning_rate = accelerator, learning_rate
        self.weights = IMPALossWeights()
        self.model, self.discriminator = IMPA(sizes).to(accelerator.device), ConvEncoder(sizes, compounds)
        self.discriminator.to(accelerator.device, memory_format=torch.channels_last)
        self.optimizers = {
            network: torch.optim.Adam(network.parameters(), learning_rate, betas=(0.0, 0.99))
            for network in (self.discriminator, self.model)
        }
        self.parts: dict[str, Stateful] = {"model": self.model, "discriminator": self.discriminator}
        self.parts |= {f"optimizer_{i}": optimizer for i, optimizer in enumerate(self.optimizers.values())}

    def step(
        self, pairs: ImagePairs, rng: torch.Generator, learning_rate_factor: float, progress: float
    ) -> dict[str, float]:
        model, discriminator, autocast = self.model, self.discriminator, self.accelerator.autocast
        x0, x1, condition, compound = pairs
        z, other_z = (torch.randn(len(x0), model.config.noise_dim, generator=rng).to(x0) for _ in range(2))
        weights = replace(self.weights, diversity=(1 - progress) * self.weights.diversity)
        with torch.no_grad(), autocast():
            fake = model.generator(x0, model.mapping(condition, z))
        with autocast():
            of_discriminator = discriminator_terms(discriminator, x1, fake, compound, weights)
        self._descend(discriminator, of_discriminator, learning_rate_factor)
        discriminator.requires_grad_(False)
        with autocast():
            of_generator = generator_terms(model, discriminator, x0, condition, compound, (z, other_z), weights)
        self._descend(model, of_generator, learning_rate_factor)
        discriminator.requires_grad_(True)
        return {name: term.mean().item() for name, term in (of_discriminator | of_generator).items()}

    def _descend(self, network: nn.Module, terms: Mapping[str, Tensor], learning_rate_factor: float) -> None:
        optimizer = self.optimizers[network]
        optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(sum(terms.values()).mean())
        set_learning_rate(optimizer, learning_rate_factor * self.learning_rate)
        optimizer.step()


LEARNERS: dict[str, type[PhenDiffLearner] | type[IMPALearner]] = {"phendiff": PhenDiffLearner, "impa": IMPALearner}


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate

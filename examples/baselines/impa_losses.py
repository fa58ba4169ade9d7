"""Losses of IMPA, the adversarial training of StarGAN v2 (arXiv:1912.01865); notation of impa.py.

    L_D = softplus(-D_c(x1)) + softplus(D_c(G(x0, s))) + R1,      R1 = gamma / 2 |grad_x D_c(x1)|^2
    L_G = softplus(-D_c(G(x0, s))) + style |s - E(G(x0, s))| + cycle |x0 - G(G(x0, s), E(x0))|
          - diversity |G(x0, s) - G(x0, s')|,                     all |.| means of absolute values.

B batch, C, H, W image, D condition size, Z noise size.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from examples.baselines.impa import IMPA


@dataclass(frozen=True, kw_only=True)
class IMPALossWeights:
    """Weights of the terms, as in StarGAN v2."""

    style: float = 1.0
    cycle: float = 1.0
    diversity: float = 1.0  # decays to 0 over the training
    gradient_penalty: float = 1.0  # gamma


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """softplus(-real) + softplus(fake) of logits (B,): small where real is high and fake low."""
    return F.softplus(-real) + F.softplus(fake)


def generator_loss(fake: Tensor) -> Tensor:
    """softplus(-fake) of logits (B,): small where D takes the generated image for real."""
    return F.softplus(-fake)


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """|grad_x D(x)|^2 / 2 at real images, (B,). logits (B,) come from images (B, ...) that require grad.

    Source: Mescheder et al., arXiv:1801.04406, eq. 9 (R1).
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.float().square().flatten(1).sum(1) / 2


def mean_absolute_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean |a - b| of each sample, (B, ...) twice -> (B,)."""
    return (a - b).float().abs().flatten(1).mean(1)


def compound_logit(discriminator: nn.Module, images: Tensor, compound: Tensor) -> Tensor:
    """D_c of each image for its own compound, (B,)."""
    return discriminator(images).gather(1, compound.unsqueeze(1)).squeeze(1).float()


def discriminator_terms(
    discriminator: nn.Module, x1: Tensor, fake: Tensor, compound: Tensor, weights: IMPALossWeights
) -> dict[str, Tensor]:
    """Terms of L_D, (B,) each: real x1 and generated images (B, C, H, W), compound ids (B,)."""
    x1 = x1.detach().requires_grad_()
    real = compound_logit(discriminator, x1, compound)
    return {
        "discriminator": discriminator_loss(real, compound_logit(discriminator, fake.detach(), compound)),
        "gradient_penalty": weights.gradient_penalty * gradient_penalty(real, x1),
    }


def generator_terms(
    model: IMPA,
    discriminator: nn.Module,
    x0: Tensor,
    condition: Tensor,
    compound: Tensor,
    z: tuple[Tensor, Tensor],
    weights: IMPALossWeights,
) -> dict[str, Tensor]:
    """Terms of L_G, (B,) each: controls x0 (B, C, H, W), condition (B, D), compound ids (B,), two noises (B, Z)."""
    G, E = model.generator, model.style_encoder
    style, other_style = (model.mapping(condition, noise) for noise in z)
    fake, other = G(x0, style), G(x0, other_style)
    return {
        "generator": generator_loss(compound_logit(discriminator, fake, compound)),
        "style": weights.style * mean_absolute_error(style, E(fake)),
        "cycle": weights.cycle * mean_absolute_error(x0, G(fake, E(x0))),
        "diversity": -weights.diversity * mean_absolute_error(fake, other),
    }

"""Augmentations of training images for the rewards' classifier and for its judge, which differ on purpose.

B batch, C channels, H, W pixels; images in [-1, 1].
"""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, pad

from rewards.orientations import ORIENTATIONS, orient

BLUR_RADIUS = 4  # px, of the kernel


def augment_classifier(x: Tensor, rng: torch.Generator) -> Tensor:
    """Random orientation; gain in [0.8, 1.2] per channel; a blur of sigma 0 to 1.2 px for half of the batches."""
    x = random_orientation(x, rng)
    gain = 0.8 + 0.4 * torch.rand(*x.shape[:2], 1, 1, generator=rng)
    x = ((x + 1) * gain - 1).clamp(-1, 1)
    if torch.rand((), generator=rng) < 0.5:
        x = blur(x, 1.2 * float(torch.rand((), generator=rng)))
    return x


def augment_judge(x: Tensor, rng: torch.Generator) -> Tensor:
    """Random orientation; zoom in [0.9, 1.1]; shift up to 6 %; gamma in [0.7, 1.4] per channel; noise up to 0.05."""
    x = random_orientation(x, rng)
    zoom = 0.9 + 0.2 * torch.rand(len(x), generator=rng)
    shift = 0.24 * torch.rand(len(x), 2, generator=rng) - 0.12  # in units of half an image
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = zoom
    theta[:, :, 2] = shift
    grid = affine_grid(theta, list(x.shape), align_corners=False)
    x = grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    gamma = 2 ** (torch.rand(*x.shape[:2], 1, 1, generator=rng) - 0.5)
    x = 2 * ((x + 1) / 2).clamp(1e-4, 1) ** gamma - 1
    sigma = 0.05 * torch.rand(len(x), 1, 1, 1, generator=rng)
    return (x + sigma * torch.randn(x.shape, generator=rng)).clamp(-1, 1)


def random_orientation(x: Tensor, rng: torch.Generator) -> Tensor:
    """Each image in a random one of the eight orientations of the square, (B, C, H, W) with H = W."""
    out = torch.empty_like(x)
    which = torch.randint(ORIENTATIONS, (len(x),), generator=rng)
    for k in range(ORIENTATIONS):
        out[which == k] = orient(x[which == k], k)
    return out


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur with reflected borders, sigma in px, (B, C, H, W)."""
    offsets = torch.arange(-float(BLUR_RADIUS), BLUR_RADIUS + 1.0)
    kernel = torch.exp(-(offsets**2) / (2 * max(sigma, 0.1) ** 2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, len(offsets))
    x = conv2d(pad(x, (BLUR_RADIUS, BLUR_RADIUS, 0, 0), mode="reflect"), kernel, groups=x.shape[1])
    x = pad(x, (0, 0, BLUR_RADIUS, BLUR_RADIUS), mode="reflect")
    return conv2d(x, kernel.transpose(2, 3), groups=x.shape[1])

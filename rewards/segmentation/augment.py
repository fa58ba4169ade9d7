"""Augmentation of synthetic crops for training a segmenter.

B batch, C channels, H, W pixels; images in [0, 1].
Crowding and zoom change the labels and are applied before the targets are computed; masking and symmetries
transform image and targets together; background and degradation change the image alone. All random numbers
come from `rng`, a CPU generator.
"""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, interpolate, pad


def uniform(low: float, high: float, batch: int, rng: torch.Generator) -> Tensor:
    """A random number in [low, high) per image, (B, 1, 1, 1)."""
    return low + (high - low) * torch.rand(batch, 1, 1, 1, generator=rng)


def bernoulli(p: float, batch: int, rng: torch.Generator) -> Tensor:
    """True with probability p, independently per image, (B, 1, 1, 1)."""
    return torch.rand(batch, 1, 1, 1, generator=rng) < p


def stretch_contrast(x: Tensor) -> Tensor:
    """Each channel stretched to 0..1 in steps of 1 / 255, as in the published cells; 0 if it is flat."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return ((x - low) / (high - low).clamp(min=1e-6) * 255).round() / 255


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of x, (B, C, H, W), with a sigma per image in px, (B, 1, 1, 1), up to 5."""
    radius = int(3 * float(sigma.max())) + 1
    offset = torch.arange(-radius, radius + 1.0)
    kernel = torch.exp(-0.5 * (offset / sigma.clamp(min=0.05).reshape(-1, 1)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(x.shape[1], 0)  # (B C, k)
    planes = pad(x, [radius] * 4, mode="reflect").flatten(0, 1).unsqueeze(0)  # (1, B C, H + 2 r, W + 2 r)
    planes = conv2d(planes, kernel[:, None, :, None], groups=len(kernel))
    return conv2d(planes, kernel[:, None, None, :], groups=len(kernel)).reshape(x.shape)


def shift_objects(image: Tensor, labels: Tensor, pixels: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """The objects that do not touch the border, on black, shifted by up to `pixels` along y and x.

    image (B, C, H, W) and labels (B, H, W), as they come.
    """
    batch, height, width = labels.shape
    border = torch.cat([labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]], 1)  # (B, 2 H + 2 W)
    touches = torch.zeros(batch, int(labels.max()) + 1).scatter_(1, border.long(), 1.0)  # (B, labels)
    labels = labels * (touches.gather(1, labels.flatten(1).long()) == 0).reshape(labels.shape)
    image = image * blur((labels > 0).float().unsqueeze(1), torch.full((batch, 1, 1, 1), 1.5))
    move = 2 * pixels * (2 * torch.rand(batch, 2, 1, generator=rng) - 1) / torch.tensor([[width], [height]])
    return _resample(image, labels, torch.cat([torch.eye(2).expand(batch, 2, 2), move], 2), "zeros")


def crowd_cells(image: Tensor, labels: Tensor, others: Tensor, other_labels: Tensor) -> tuple[Tensor, Tensor]:
    """Add other cells where the image has none, with blended edges; their labels follow those present."""
    added = torch.where(labels > 0, 0, other_labels)
    opacity = blur((added > 0).float().unsqueeze(1), torch.full((len(image), 1, 1, 1), 0.8))
    return opacity * others + (1 - opacity) * image, torch.where(added > 0, added + labels.amax((1, 2), True), labels)


def crowd_nuclei(image: Tensor, labels: Tensor, others: Tensor, other_labels: Tensor) -> tuple[Tensor, Tensor]:
    """Add other nuclei to each image unless they overlap its own by more than a tenth of the smaller area.

    Intensities add up where they overlap; there, the label stays that of the image.
    """
    overlap = ((labels > 0) & (other_labels > 0)).sum((1, 2))
    fits = overlap <= 0.1 * torch.minimum((labels > 0).sum((1, 2)), (other_labels > 0).sum((1, 2)))
    others, other_labels = others * fits.reshape(-1, 1, 1, 1), other_labels * fits.reshape(-1, 1, 1)
    added = torch.where(labels > 0, 0, other_labels)
    return (image + others).clamp(max=1), torch.where(added > 0, added + labels.amax((1, 2), True), labels)


def _resample(image: Tensor, labels: Tensor, theta: Tensor, padding: str) -> tuple[Tensor, Tensor]:
    """Image (bilinear) and labels (nearest) at the affine map theta, (B, 2, 3), of coordinates in [-1, 1]."""
    grid = affine_grid(theta, [len(image), 1, *image.shape[2:]], align_corners=False)
    planes = labels.float().unsqueeze(1)  # (B, 1, H, W)
    nearest = grid_sample(planes, grid, mode="nearest", padding_mode=padding, align_corners=False).squeeze(1)
    return grid_sample(image, grid, padding_mode=padding, align_corners=False), nearest.int()


def zoom(image: Tensor, labels: Tensor, largest: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random window of each image, enlarged 1 to `largest` times, and up to 20 % more along one axis."""
    batch = len(image)
    factor = largest ** uniform(0, 1, batch, rng).flatten()
    aspect = uniform(0.83, 1.2, batch, rng).flatten()
    size = torch.stack([1 / (factor * aspect.clamp(min=1)), 1 / (factor / aspect.clamp(max=1))], 1)  # (B, 2) of W, H
    centre = (1 - size) * (2 * torch.rand(batch, 2, generator=rng) - 1)
    return _resample(image, labels, torch.cat([torch.diag_embed(size), centre.unsqueeze(2)], 2), "border")


def random_symmetry(x: Tensor, flows: Tensor, mask: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """One of the eight symmetries of the square, drawn for the whole batch.

    x (B, C, H, W), flows (B, 2, H, W), whose vectors turn too, and mask (B, H, W), as they come.
    """
    transpose, flip_y, flip_x = (torch.rand(3, generator=rng) < 0.5).tolist()
    if transpose:
        x, flows, mask = x.transpose(2, 3), flows.transpose(2, 3).flip(1), mask.transpose(1, 2)
    if flip_y:
        x, flows, mask = x.flip(2), flows.flip(2) * torch.tensor([-1.0, 1.0]).reshape(2, 1, 1), mask.flip(1)
    if flip_x:
        x, flows, mask = x.flip(3), flows.flip(3) * torch.tensor([1.0, -1.0]).reshape(2, 1, 1), mask.flip(2)
    return x, flows, mask


def mask_neighbours(x: Tensor, labels: Tensor, share: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """In a share of the images, blacken what is not the largest object, as crops of segmented cells are masked.

    Half of them lose the other objects alone; the rest lose all that lies off the object, up to a margin of 6 px.
    x (B, C, H, W) and labels (B, H, W), as they come.
    """
    batch = len(x)
    areas = torch.stack([torch.bincount(row, minlength=int(labels.max()) + 1) for row in labels.flatten(1).int()])
    areas[:, 0] = 0  # (B, labels)
    own = ((labels > 0) & (labels == areas.argmax(1).reshape(-1, 1, 1))).unsqueeze(1)  # (B, 1, H, W)
    near = blur(own.float(), uniform(0.2, 3, batch, rng)) > 0.02  # a straight edge moves by two sigma
    shown = torch.where(bernoulli(0.5, batch, rng), own | (labels == 0).unsqueeze(1), near)
    masked = bernoulli(share, batch, rng) & own.any(3, keepdim=True).any(2, keepdim=True)  # (B, 1, 1, 1)
    return x * (shown | ~masked), labels * (own | ~masked)[:, 0]


def add_background(x: Tensor, share: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """In a share of the images, what a camera sees beside objects in focus; none of it is an object.

    Saturation of bright objects, then, each dim against them: light of objects out of focus, uneven haze, debris,
    and noise that is correlated along the rows of the camera; at last the black level, which clips some of it to
    0. (B, C, H, W) in [0, 1], as x -> the same, and which images have it, (B,) bool.
    """
    batch, planes, height, width = x.shape
    slope = uniform(0.1, 5, batch, rng)
    seen = (1 - (-slope * x).exp()) / (1 - (-slope).exp())
    wide = torch.full((batch, 1, 1, 1), 5.0)
    seen = seen + uniform(0, 0.1, batch, rng) * blur(x[torch.randperm(batch, generator=rng)], wide)
    haze = interpolate(torch.rand(batch, planes, 5, 5, generator=rng), (height, width), mode="bicubic")
    seen = seen + uniform(0, 0.08, batch, rng) * haze
    specks = (torch.rand(x.shape, generator=rng) < uniform(0, 0.002, batch, rng)).float()
    specks = blur(specks, uniform(0.5, 2.5, batch, rng))
    seen = seen + uniform(0, 0.15, batch, rng) * specks / specks.amax((1, 2, 3), keepdim=True).clamp(min=1e-6)
    rows = torch.randn(batch, planes, height, width, generator=rng)
    rows = rows + uniform(0, 2, batch, rng) * (rows.roll(1, 3) + rows.roll(-1, 3))
    rows = rows / rows.std((2, 3), keepdim=True)
    seen = seen + 0.04 * torch.rand(batch, planes, 1, 1, generator=rng) * rows
    black = seen.flatten(2).quantile(0.15, dim=2).reshape(batch, planes, 1, 1)
    seen = (seen - uniform(0, 1, batch, rng) * black).clamp(0, 1)
    chosen = bernoulli(share, batch, rng)
    return torch.where(chosen, seen, x), chosen.flatten()


def degrade(x: Tensor, rng: torch.Generator) -> Tensor:
    """Uneven illumination, gamma, haze, defocus, noise, contrast stretch, and for some a loss of contrast.

    (B, C, H, W) in [0, 1] -> as x.
    """
    batch, planes = x.shape[:2]
    field = interpolate(torch.randn(batch, planes, 3, 3, generator=rng), x.shape[2:], mode="bicubic")
    x = x * (0.35 * field * torch.rand(batch, planes, 1, 1, generator=rng)).exp()
    x = (x / x.amax((2, 3), keepdim=True).clamp(min=1e-6)) ** (
        1.2 * torch.rand(batch, planes, 1, 1, generator=rng) - 0.6
    ).exp()
    x = x + uniform(0, 0.5, batch, rng) * bernoulli(0.5, batch, rng) * blur(x, torch.full((batch, 1, 1, 1), 5.0))
    x = blur(x, uniform(0.3, 3.5, batch, rng) * bernoulli(0.5, batch, rng))
    noise = torch.randn(x.shape, generator=rng)
    x = x + noise * uniform(0, 0.08, batch, rng) * bernoulli(0.6, batch, rng) * (0.3 + x.clamp(0, 1).sqrt())
    x = stretch_contrast(x)
    contrast = torch.where(bernoulli(0.2, batch, rng), uniform(0.4, 1, batch, rng), torch.ones(batch, 1, 1, 1))
    return x * contrast + (1 - contrast) * uniform(0, 1, batch, rng)


def empty_images_like(x: Tensor, rng: torch.Generator) -> Tensor:
    """Images without objects, shaped as x: flat, or noise blurred by up to 1 px, in full or faint contrast."""
    batch = len(x)
    noise = torch.where(
        bernoulli(0.5, batch, rng), torch.randn(x.shape, generator=rng), 3.5 * torch.rand(x.shape, generator=rng)
    )
    noise = blur(noise, uniform(0.0, 1.0, batch, rng) * bernoulli(0.5, batch, rng))
    faint = uniform(0, 1, batch, rng) + uniform(0, 0.05, batch, rng) * noise * bernoulli(0.7, batch, rng)
    return torch.where(bernoulli(0.5, batch, rng), stretch_contrast(noise), faint.clamp(0, 1))

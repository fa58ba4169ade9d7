"""From clean synthetic crops to anything a segmenter may meet. B batch, C channels, H, W pixels; images in [0, 1].

Geometry (crowding, zoom) changes the targets and comes first; flips carry the targets along; optics leave them alone.
Every random figure comes from `rng`, a CPU generator.
"""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, interpolate, pad


def uniform(low: float, high: float, batch: int, rng: torch.Generator) -> Tensor:
    """One figure in [low, high) per image, (B, 1, 1, 1)."""
    return low + (high - low) * torch.rand(batch, 1, 1, 1, generator=rng)


def chance(p: float, batch: int, rng: torch.Generator) -> Tensor:
    """True with probability p for each image, (B, 1, 1, 1)."""
    return torch.rand(batch, 1, 1, 1, generator=rng) < p


def stretch(x: Tensor) -> Tensor:
    """Each channel of each image to 0..1 in steps of 1 / 255, as the published cells are stored; a flat one to 0."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return ((x - low) / (high - low).clamp(min=1e-6) * 255).round() / 255


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur, sigma in px for each image, (B, 1, 1, 1), up to 5."""
    reach = int(3 * float(sigma.max())) + 1
    at = torch.arange(-reach, reach + 1.0)
    kernel = torch.exp(-0.5 * (at / sigma.clamp(min=0.05).reshape(-1, 1)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(x.shape[1], 0)  # (B C, k)
    planes = pad(x, [reach] * 4, mode="reflect").flatten(0, 1).unsqueeze(0)  # (1, B C, H + 2 reach, W + 2 reach)
    planes = conv2d(planes, kernel[:, None, :, None], groups=len(kernel))
    return conv2d(planes, kernel[:, None, None, :], groups=len(kernel)).reshape(x.shape)


def scatter(image: Tensor, labels: Tensor, pixels: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """The objects that lie wholly in the crop, on black, each image moved by up to `pixels` along y and x."""
    batch, height, width = labels.shape
    edge = torch.cat([labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]], 1)  # (B, 2 H + 2 W)
    cut = torch.zeros(batch, int(labels.max()) + 1).scatter_(1, edge.long(), 1.0)  # (B, labels): touches the border
    labels = labels * (cut.gather(1, labels.flatten(1).long()) == 0).reshape(labels.shape)
    image = image * blur((labels > 0).float().unsqueeze(1), torch.full((batch, 1, 1, 1), 1.5))
    move = 2 * pixels * (2 * torch.rand(batch, 2, 1, generator=rng) - 1) / torch.tensor([[width], [height]])
    return _resample(image, labels, torch.cat([torch.eye(2).expand(batch, 2, 2), move], 2), "zeros")


def crowd_cells(image: Tensor, labels: Tensor, others: Tensor, other_labels: Tensor) -> tuple[Tensor, Tensor]:
    """Other cells behind those of the image."""
    behind = torch.where(labels > 0, 0, other_labels)
    cover = blur((behind > 0).float().unsqueeze(1), torch.full((len(image), 1, 1, 1), 0.8))
    return cover * others + (1 - cover) * image, torch.where(behind > 0, behind + labels.amax((1, 2), True), labels)


def crowd_nuclei(image: Tensor, labels: Tensor, others: Tensor, other_labels: Tensor) -> tuple[Tensor, Tensor]:
    """Other nuclei beside those of the image; light adds up where they overlap, by a tenth of the smaller at most."""
    both = ((labels > 0) & (other_labels > 0)).sum((1, 2))
    fits = both <= 0.1 * torch.minimum((labels > 0).sum((1, 2)), (other_labels > 0).sum((1, 2)))
    others, other_labels = others * fits.reshape(-1, 1, 1, 1), other_labels * fits.reshape(-1, 1, 1)
    behind = torch.where(labels > 0, 0, other_labels)
    return (image + others).clamp(max=1), torch.where(behind > 0, behind + labels.amax((1, 2), True), labels)


def _resample(image: Tensor, labels: Tensor, theta: Tensor, padding: str) -> tuple[Tensor, Tensor]:
    """The image at the affine map theta (B, 2, 3) of its own frame, [-1, 1]; labels from the nearest pixel."""
    grid = affine_grid(theta, [len(image), 1, *image.shape[2:]], align_corners=False)
    planes = labels.float().unsqueeze(1)  # (B, 1, H, W)
    near = grid_sample(planes, grid, mode="nearest", padding_mode=padding, align_corners=False).squeeze(1)
    return grid_sample(image, grid, padding_mode=padding, align_corners=False), near.int()


def zoom(image: Tensor, labels: Tensor, largest: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A window inside each image, enlarged 1 to `largest` times, and up to 20 % more along one axis."""
    batch = len(image)
    factor = largest ** uniform(0, 1, batch, rng).flatten()
    aspect = uniform(0.83, 1.2, batch, rng).flatten()
    share = torch.stack([1 / (factor * aspect.clamp(min=1)), 1 / (factor / aspect.clamp(max=1))], 1)  # (B, 2) of W, H
    where = (1 - share) * (2 * torch.rand(batch, 2, generator=rng) - 1)
    return _resample(image, labels, torch.cat([torch.diag_embed(share), where.unsqueeze(2)], 2), "border")


def turn(x: Tensor, flows: Tensor, mask: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """One of the eight symmetries of the square, drawn for the whole batch; flows (B, 2, H, W) turn with the image."""
    transpose, up, left = (torch.rand(3, generator=rng) < 0.5).tolist()
    if transpose:
        x, flows, mask = x.transpose(2, 3), flows.transpose(2, 3).flip(1), mask.transpose(1, 2)
    if up:
        x, flows, mask = x.flip(2), flows.flip(2) * torch.tensor([-1.0, 1.0]).reshape(2, 1, 1), mask.flip(1)
    if left:
        x, flows, mask = x.flip(3), flows.flip(3) * torch.tensor([1.0, -1.0]).reshape(2, 1, 1), mask.flip(2)
    return x, flows, mask


def optics(x: Tensor, rng: torch.Generator) -> Tensor:
    """Uneven light, gamma, haze, defocus, noise, the stretch to 0..255, and sometimes less contrast. (B, C, H, W)."""
    batch, planes = x.shape[:2]
    field = interpolate(torch.randn(batch, planes, 3, 3, generator=rng), x.shape[2:], mode="bicubic")
    x = x * (0.35 * field * torch.rand(batch, planes, 1, 1, generator=rng)).exp()
    x = (x / x.amax((2, 3), keepdim=True).clamp(min=1e-6)) ** (
        1.2 * torch.rand(batch, planes, 1, 1, generator=rng) - 0.6
    ).exp()
    x = x + uniform(0, 0.5, batch, rng) * chance(0.5, batch, rng) * blur(x, torch.full((batch, 1, 1, 1), 5.0))
    x = blur(x, uniform(0.3, 3.5, batch, rng) * chance(0.5, batch, rng))
    noise = torch.randn(x.shape, generator=rng)
    x = x + noise * uniform(0, 0.08, batch, rng) * chance(0.6, batch, rng) * (0.3 + x.clamp(0, 1).sqrt())
    x = stretch(x)
    contrast = torch.where(chance(0.2, batch, rng), uniform(0.4, 1, batch, rng), torch.ones(batch, 1, 1, 1))
    return x * contrast + (1 - contrast) * uniform(0, 1, batch, rng)


def nothing_like(x: Tensor, rng: torch.Generator) -> Tensor:
    """Images without any object: flat, or white noise or noise blurred by up to 1 px, stretched or faint. As x."""
    batch = len(x)
    noise = torch.where(
        chance(0.5, batch, rng), torch.randn(x.shape, generator=rng), 3.5 * torch.rand(x.shape, generator=rng)
    )
    noise = blur(noise, uniform(0.0, 1.0, batch, rng) * chance(0.5, batch, rng))
    faint = uniform(0, 1, batch, rng) + uniform(0, 0.05, batch, rng) * noise * chance(0.7, batch, rng)
    return torch.where(chance(0.5, batch, rng), stretch(noise), faint.clamp(0, 1))

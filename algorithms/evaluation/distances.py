"""Distances between sets of images in the features of a network. n images, F features, G samples of one context.

The Frechet distance depends on n: compare rows of the same n, and with real against real (two disjoint sets).
torchmetrics is imported when used: it takes longer to import than everything else here.
"""

import torch
from torch import Tensor


class Features(torch.nn.Identity):
    """Passes features through, where torchmetrics expects a network that computes them."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features


def standardise(features: Tensor, real: Tensor) -> Tensor:
    """(features - mean of real) / rms standard deviation of real, one number for all features.

    features (..., F), real (n, F). A network's features may have any scale; with one far from 1, a few images would
    dominate the cubic kernel.

    Raises:
        ValueError: the real features do not vary.
    """
    scale = real.var(0).mean().sqrt()
    if not scale > 0:
        raise ValueError(f"need real features that vary, got a standard deviation of {float(scale)}")
    return (features - real.mean(0)) / scale


def frechet_distance(features: Tensor, real: Tensor) -> float:
    """|mu - mu'|^2 + Tr(S + S' - 2 (S S')^(1/2)) of two feature sets, (n, F) and (n', F), in float64.

    Biased upwards by about Tr(S) / n for small n; below n = F the covariances are singular and the bias is large.
    Source: Heusel et al., arXiv:1706.08500, eq. 6, as torchmetrics computes it; on this process alone.

    Raises:
        ValueError: the sets have other features, fewer than two images, or values that are not finite.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    check_pair(features, real)
    metric = FrechetInceptionDistance(Features(features.shape[1]), sync_on_compute=False).set_dtype(torch.float64)
    metric.update(features.double(), real=False)
    metric.update(real.double(), real=True)
    return float(metric.compute())


def frechet_resampled(features: Tensor, real: Tensor, counts: Tensor) -> Tensor:
    """`frechet_distance` in every resample of the pairs (features[i], real[i]), (n, F) each, in float64: (K,).

    counts: how often each pair is drawn, (K, n), as from `bootstrap_counts`; a row of ones gives the distance itself.
    With S = R^T R and S' = R'^T R', Tr (S S')^(1/2) is the sum of the singular values of R R'^T.

    Raises:
        ValueError: the sets differ in length, are not finite, or the counts do not fit them.
    """
    check_pair(features, real)
    if len(features) != len(real) or counts.shape[1:] != features.shape[:1]:
        raise ValueError(f"need pairs, and counts (K, n) of them; got {len(features)}, {len(real)}, {[*counts.shape]}")
    return torch.stack([_weighted_frechet(features.double(), real.double(), weight.double()) for weight in counts])


def kernel_distance(features: Tensor, real: Tensor) -> float:
    """The squared MMD of two feature sets, (n, F) each, with k(a, b) = (a . b / F + 1)^3, by the U-statistic

        sum_{i != j} [k(x_i, x_j) + k(y_i, y_j) - 2 k(x_i, y_j)] / (n (n - 1)).

    Without bias, also where x_i and y_i belong together (one compound): 0 on average for sets of one distribution, so
    it can be slightly negative. Source: Gretton et al., JMLR 13 (2012), lemma 6; the kernel of KID, arXiv:1801.01401.
    Departure from KID: pairs i = j stay out of the cross terms too; with them matched sets come out below 0.

    Raises:
        ValueError: as for `frechet_distance`, or the sets differ in length.
    """
    from torchmetrics.image.kid import poly_kernel

    check_pair(features, real)
    n = len(features)
    if n != len(real):
        raise ValueError(f"need as many images as real images; got {n} and {len(real)}")
    x, y = features.double(), real.double()
    h = poly_kernel(x, x) + poly_kernel(y, y) - 2 * poly_kernel(x, y)  # (n, n)
    return float((h.sum() - h.trace()) / (n * (n - 1)))


def diversity(features: Tensor) -> float:
    """Mean Euclidean distance between two samples of one context; features (n, G, F). nan for G = 1."""
    n, size = features.shape[:2]
    if size < 2:
        return float("nan")
    distances = torch.cdist(features.double(), features.double())  # (n, G, G)
    return float(distances.sum() / (n * size * (size - 1)))


def _weighted_frechet(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Frechet distance of x and y, (n, F) each, in which row i counts weight[i] times."""
    (mu, root), (mu_real, root_real) = (_moments(values, weight) for values in (x, y))
    both = torch.linalg.svdvals(root @ root_real.T).sum()
    return (mu - mu_real).square().sum() + root.square().sum() + root_real.square().sum() - 2 * both


def _moments(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (F,) and a triangular root R of the covariance, R^T R."""
    mu = weight @ x / weight.sum()
    return mu, torch.linalg.qr((weight / (weight.sum() - 1)).sqrt()[:, None] * (x - mu), mode="r").R


def check_pair(features: Tensor, real: Tensor) -> None:
    """Raise ValueError if two feature sets cannot be compared."""
    if features.ndim != 2 or real.ndim != 2 or features.shape[1] != real.shape[1] or min(len(features), len(real)) < 2:
        raise ValueError(f"need two sets (n, F), n > 1, F equal; got {tuple(features.shape)} and {tuple(real.shape)}")
    if not (features.isfinite().all() and real.isfinite().all()):
        raise ValueError("need finite features; some are nan or infinite: look at the images that made them")

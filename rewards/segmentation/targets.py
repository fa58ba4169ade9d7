"""Cellpose's flows, the regression target of the embedded segmenter. B batch, H, W pixels."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cellenv.jit import compiled


@compiled
def _diffuse(inside: NDArray[np.bool_], y0: int, x0: int) -> NDArray[np.float64]:
    """Heat diffused from a source at (y0, x0) within an object, (h, w); 0 outside, and in a border of 1 px."""
    height, width = inside.shape
    heat, sums = np.zeros((height, width)), np.zeros((height, width))
    share = inside / 9.0
    for _ in range(2 * (height + width)):
        heat[y0, x0] += 1
        for y in range(height):
            for x in range(1, width - 1):
                sums[y, x] = heat[y, x - 1] + heat[y, x] + heat[y, x + 1]
        for y in range(1, height - 1):
            for x in range(1, width - 1):
                heat[y, x] = share[y, x] * (sums[y - 1, x] + sums[y, x] + sums[y + 1, x])
    return heat


@compiled
def _flows(labels: NDArray[np.int32], flows: NDArray[np.float32]) -> None:
    """Write the normalised heat gradient of each object into flows."""
    for b in range(len(labels)):
        for k in range(1, labels[b].max() + 1):
            ys, xs = np.nonzero(labels[b] == k)
            if len(ys) == 0:
                continue
            top, left = ys.min() - 1, xs.min() - 1  # bounding box with one pixel of background
            inside = np.zeros((ys.max() - top + 2, xs.max() - left + 2), np.bool_)
            for y, x in zip(ys, xs):
                inside[y - top, x - left] = True
            middle = ((ys - ys.mean()) ** 2 + (xs - xs.mean()) ** 2).argmin()
            heat = _diffuse(inside, ys[middle] - top, xs[middle] - left)
            for y, x in zip(ys, xs):
                dy = heat[y - top + 1, x - left] - heat[y - top - 1, x - left]
                dx = heat[y - top, x - left + 1] - heat[y - top, x - left - 1]
                length = np.sqrt(dy * dy + dx * dx)
                if length > 0:
                    flows[b, 0, y, x], flows[b, 1, y, x] = dy / length, dx / length


def unit_flows(labels: Tensor) -> Tensor:
    """Unit vectors (dy, dx) towards the centre of each object, 0 in the background. (B, H, W) -> (B, 2, H, W).

    The gradient of heat that diffuses from the pixel nearest to the centroid, as
    cellpose.dynamics.masks_to_flows (Stringer et al. 2021, doi:10.1038/s41592-020-01018-x). The networks
    predict 5 x this.
    """
    array = labels.cpu().numpy()
    flows = np.zeros((len(array), 2, *array.shape[1:]), np.float32)
    _flows(array, flows)
    return torch.from_numpy(flows).to(labels.device)

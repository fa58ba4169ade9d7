"""Flows and cell probability to labels, as Cellpose does with flow_threshold 0. B batch, H, W pixels.

Every pixel of the foreground walks along the flow; pixels that end in one place are one object (Stringer et al. 2021,
doi:10.1038/s41592-020-01018-x). Cellpose walks 200 steps. Here 8 steps are walked, which map the pixel grid to itself
(rounded), and that map is composed with itself five times: 8 x 2^5 = 256 steps.
"""

import numpy as np
import torch
from numba import njit
from torch import Tensor

FLOW_SCALE = 5.0  # networks predict 5 x the unit flow, as Cellpose's do
STEPS = 8  # walked
DOUBLINGS = 5  # 8 x 2^5 = 256 steps in all
SEED_PIXELS = 10  # more pixels than this end in the peak of an object
BASIN_PIXELS = 2  # more pixels than this end in every pixel that belongs to the peak
REACH = 5  # px, how far the peak may spread


@njit(cache=True, nogil=True)
def _walk(flows, foreground, ends):
    """The pixel, as flat index, where each pixel is after STEPS Euler steps of bilinear flow; background stays."""
    height, width = foreground.shape
    for y in range(height):
        for x in range(width):
            py, px = np.float32(y), np.float32(x)
            if foreground[y, x]:
                for _ in range(STEPS):
                    y0, x0 = int(py), int(px)
                    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
                    ay, ax = np.float32(py - y0), np.float32(px - x0)
                    by, bx = np.float32(1 - ay), np.float32(1 - ax)
                    dy, dx = np.float32(0), np.float32(0)
                    for yy, xx, share in (
                        (y0, x0, by * bx),
                        (y0, x1, by * ax),
                        (y1, x0, ay * bx),
                        (y1, x1, ay * ax),
                    ):
                        if foreground[yy, xx]:
                            dy += share * flows[0, yy, xx]
                            dx += share * flows[1, yy, xx]
                    py = min(max(py + dy / np.float32(FLOW_SCALE), np.float32(0)), np.float32(height - 1))
                    px = min(max(px + dx / np.float32(FLOW_SCALE), np.float32(0)), np.float32(width - 1))
            ends[y * width + x] = int(py + 0.5) * width + int(px + 0.5)


@njit(cache=True, nogil=True)
def _spread(seed, label, arrived, basin):
    """Label the peak around a seed: REACH dilations, 3 x 3, over the pixels where more than BASIN_PIXELS ended."""
    height, width = arrived.shape
    front = [seed]
    basin[seed] = label
    for _ in range(REACH):
        fresh = [seed]
        for y, x in front:
            for yy in range(max(y - 1, 0), min(y + 2, height)):
                for xx in range(max(x - 1, 0), min(x + 2, width)):
                    if basin[yy, xx] != label and arrived[yy, xx] > BASIN_PIXELS:
                        basin[yy, xx] = label
                        fresh.append((yy, xx))
        front = fresh[1:]
        if not front:
            break


@njit(cache=True, nogil=True)
def _peaks(arrived):
    """Pixels where more than SEED_PIXELS ended and nowhere more in 5 x 5, the largest last."""
    height, width = arrived.shape
    seeds, sizes = [(0, 0)], [0]
    for y in range(height):
        for x in range(width):
            if arrived[y, x] > SEED_PIXELS:
                window = arrived[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
                if arrived[y, x] == window.max():
                    seeds.append((y, x))
                    sizes.append(arrived[y, x])
    order = np.argsort(np.array(sizes), kind="mergesort")
    return [seeds[i] for i in order[1:]]


@njit(cache=True, nogil=True)
def _decode(flows, logits, labels):
    batch, height, width = logits.shape
    for b in range(batch):
        foreground = logits[b] > 0
        ends = np.empty(height * width, np.int32)
        _walk(flows[b], foreground, ends)
        for _ in range(DOUBLINGS):
            ends = ends[ends]
        arrived = np.zeros((height, width), np.int32)
        for i in range(height * width):
            if foreground[i // width, i % width]:
                arrived[ends[i] // width, ends[i] % width] += 1
        basin = np.zeros((height, width), np.int32)
        for label, seed in enumerate(_peaks(arrived)):
            _spread(seed, label + 1, arrived, basin)
        for i in range(height * width):
            if foreground[i // width, i % width]:
                labels[b, i // width, i % width] = basin[ends[i] // width, ends[i] % width]


@njit(cache=True, nogil=True)
def _components(labels, parts):
    """Number the 4-connected parts of the objects from 1, in `parts`. Returns the pixels and the label of each part."""
    height, width = labels.shape
    stack = np.empty(height * width, np.int32)
    pixels, owner = [0], [0]
    for start in range(height * width):
        k = labels[start // width, start % width]
        if k == 0 or parts[start // width, start % width]:
            continue
        part, found, top = len(pixels), 0, 1
        stack[0] = start
        parts[start // width, start % width] = part
        while top:
            top -= 1
            y, x = stack[top] // width, stack[top] % width
            found += 1
            for yy, xx in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= yy < height and 0 <= xx < width and labels[yy, xx] == k and parts[yy, xx] == 0:
                    parts[yy, xx] = part
                    stack[top] = yy * width + xx
                    top += 1
        pixels.append(found)
        owner.append(k)
    return np.array(pixels), np.array(owner)


@njit(cache=True, nogil=True)
def _fill(labels):
    """Give background that one object encloses to that object. A hole between two objects, or at the border, stays."""
    height, width = labels.shape
    holes = np.zeros((height, width), np.int32)
    background = (labels == 0).astype(np.int32)
    pixels, _ = _components(background, holes)
    keeper = np.zeros(len(pixels), np.int32)  # 0 unknown, -1 open, else the only neighbour
    for y in range(height):
        for x in range(width):
            hole = holes[y, x]
            if hole == 0:
                continue
            if y == 0 or x == 0 or y == height - 1 or x == width - 1:
                keeper[hole] = -1
                continue
            for yy, xx in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                k = labels[yy, xx]
                if k and keeper[hole] == 0:
                    keeper[hole] = k
                elif k and keeper[hole] != k:
                    keeper[hole] = -1
    for y in range(height):
        for x in range(width):
            if holes[y, x] and keeper[holes[y, x]] > 0:
                labels[y, x] = keeper[holes[y, x]]


@njit(cache=True, nogil=True)
def _tidy(labels, smallest):
    for b in range(len(labels)):
        parts = np.zeros(labels[b].shape, np.int32)
        pixels, owner = _components(labels[b], parts)
        largest = np.zeros(labels[b].max() + 1, np.int32)
        for part in range(1, len(pixels)):
            if pixels[part] > pixels[largest[owner[part]]]:
                largest[owner[part]] = part
        number, used = np.zeros(len(pixels), np.int32), 0
        for part in range(1, len(pixels)):
            if largest[owner[part]] == part and pixels[part] >= smallest:
                used += 1
                number[part] = used
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                labels[b, y, x] = number[parts[y, x]]
        _fill(labels[b])


def decode(flows: Tensor, logits: Tensor) -> Tensor:
    """Labels of the objects, (B, H, W) int32, 1..n in no particular order and not yet tidy.

    flows: (B, 2, H, W), 5 x the unit flow (dy, dx) to the centre of the object. logits: (B, H, W), > 0 in an object.
    """
    if flows.shape != (len(logits), 2, *logits.shape[1:]):
        raise ValueError(
            f"need flows (B, 2, H, W) and logits (B, H, W), got {tuple(flows.shape)}, {tuple(logits.shape)}"
        )
    labels = np.zeros(logits.shape, np.int32)
    _decode(flows.float().cpu().contiguous().numpy(), logits.float().cpu().contiguous().numpy(), labels)
    return torch.from_numpy(labels).to(logits.device)


def tidy(labels: Tensor, smallest: int) -> Tensor:
    """Only the largest part of each object, none under `smallest` px^2, no holes, labels 1..n. (B, H, W) int32."""
    tidied = labels.to("cpu", torch.int32, copy=True).contiguous().numpy()
    _tidy(tidied, smallest)
    return torch.from_numpy(tidied).to(labels.device)

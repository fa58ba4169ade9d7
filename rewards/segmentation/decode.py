"""Decode flows and cell probability into labels, as Cellpose does with flow_threshold 0.

B batch, H, W pixels.
Each foreground pixel follows the flow, and pixels that end at the same place form one object (Stringer et al.
2021, doi:10.1038/s41592-020-01018-x). Cellpose takes 200 Euler steps. Here 8 steps, rounded to pixels, give a
map of the pixel grid to itself; composing that map with itself five times gives 8 x 2^5 = 256 steps.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cellenv.jit import compiled

FLOW_SCALE = 5.0  # networks predict 5 x the unit flow, as Cellpose's do
STEPS = 8  # Euler steps
DOUBLINGS = 5  # compositions of the map with itself; 256 steps in all
SEED_COUNT = 10  # a seed is a pixel where more than this many pixels end
SINK_COUNT = 2  # the sink around a seed consists of pixels where more than this many pixels end
SINK_RADIUS = 5  # px, dilations from the seed to its sink


@compiled
def _follow_flow(flows: NDArray[np.float32], foreground: NDArray[np.bool_], ends: NDArray[np.int32]) -> None:
    """Write the flat index where each pixel ends after STEPS Euler steps of bilinear flow; background stays."""
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


@compiled
def _grow_sink(seed: tuple[int, int], label: int, counts: NDArray[np.int32], sinks: NDArray[np.int32]) -> None:
    """Label the sink around a seed: 3 x 3 dilations over pixels where more than SINK_COUNT pixels end."""
    height, width = counts.shape
    front = [seed]
    sinks[seed] = label
    for _ in range(SINK_RADIUS):
        added = [seed]  # numba infers the type of a list from its first element
        for y, x in front:
            for yy in range(max(y - 1, 0), min(y + 2, height)):
                for xx in range(max(x - 1, 0), min(x + 2, width)):
                    if sinks[yy, xx] != label and counts[yy, xx] > SINK_COUNT:
                        sinks[yy, xx] = label
                        added.append((yy, xx))
        front = added[1:]
        if not front:
            break


@compiled
def _find_seeds(counts: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Local maxima, within 5 x 5 px, of the number of pixels that end at a pixel; the largest last."""
    height, width = counts.shape
    seeds, sizes = [(0, 0)], [0]
    for y in range(height):
        for x in range(width):
            if counts[y, x] > SEED_COUNT:
                window = counts[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
                if counts[y, x] == window.max():
                    seeds.append((y, x))
                    sizes.append(counts[y, x])
    order = np.argsort(np.array(sizes), kind="mergesort")
    return [seeds[i] for i in order[1:]]


@compiled
def _decode(flows: NDArray[np.float32], logits: NDArray[np.float32], labels: NDArray[np.int32]) -> None:
    """Write the label of each foreground pixel: the sink where it ends."""
    batch, height, width = logits.shape
    for b in range(batch):
        foreground = logits[b] > 0
        ends = np.empty(height * width, np.int32)
        _follow_flow(flows[b], foreground, ends)
        for _ in range(DOUBLINGS):
            ends = ends[ends]
        counts = np.zeros((height, width), np.int32)
        for i in range(height * width):
            if foreground[i // width, i % width]:
                counts[ends[i] // width, ends[i] % width] += 1
        sinks = np.zeros((height, width), np.int32)
        for label, seed in enumerate(_find_seeds(counts)):
            _grow_sink(seed, label + 1, counts, sinks)
        for i in range(height * width):
            if foreground[i // width, i % width]:
                labels[b, i // width, i % width] = sinks[ends[i] // width, ends[i] % width]


@compiled
def _components(
    labels: NDArray[np.int32], components: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the 4-connected components of the objects from 1; return size and label of each component."""
    height, width = labels.shape
    stack = np.empty(height * width, np.int32)
    sizes, owners = [0], [0]
    for start in range(height * width):
        k = labels[start // width, start % width]
        if k == 0 or components[start // width, start % width]:
            continue
        component, size, top = len(sizes), 0, 1
        stack[0] = start
        components[start // width, start % width] = component
        while top:
            top -= 1
            y, x = stack[top] // width, stack[top] % width
            size += 1
            for yy, xx in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                inside = 0 <= yy < height and 0 <= xx < width
                if inside and labels[yy, xx] == k and components[yy, xx] == 0:
                    components[yy, xx] = component
                    stack[top] = yy * width + xx
                    top += 1
        sizes.append(size)
        owners.append(k)
    return np.array(sizes), np.array(owners)


@compiled
def _fill_holes(labels: NDArray[np.int32]) -> None:
    """Fill background that is enclosed by a single object; background that touches the border stays."""
    height, width = labels.shape
    holes = np.zeros((height, width), np.int32)
    background = (labels == 0).astype(np.int32)
    sizes, _ = _components(background, holes)
    fill = np.zeros(len(sizes), np.int32)  # of each hole: 0 unknown, -1 stays, else the only neighbour
    for y in range(height):
        for x in range(width):
            hole = holes[y, x]
            if hole == 0:
                continue
            if y == 0 or x == 0 or y == height - 1 or x == width - 1:
                fill[hole] = -1
                continue
            for yy, xx in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                k = labels[yy, xx]
                if k and fill[hole] == 0:
                    fill[hole] = k
                elif k and fill[hole] != k:
                    fill[hole] = -1
    for y in range(height):
        for x in range(width):
            if holes[y, x] and fill[holes[y, x]] > 0:
                labels[y, x] = fill[holes[y, x]]


@compiled
def _postprocess(labels: NDArray[np.int32], min_size: int) -> None:
    """`postprocess_labels` in place."""
    for b in range(len(labels)):
        components = np.zeros(labels[b].shape, np.int32)
        sizes, owners = _components(labels[b], components)
        largest = np.zeros(labels[b].max() + 1, np.int32)  # component of each label
        for component in range(1, len(sizes)):
            if sizes[component] > sizes[largest[owners[component]]]:
                largest[owners[component]] = component
        number, used = np.zeros(len(sizes), np.int32), 0
        for component in range(1, len(sizes)):
            if largest[owners[component]] == component and sizes[component] >= min_size:
                used += 1
                number[component] = used
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                labels[b, y, x] = number[components[y, x]]
        _fill_holes(labels[b])


def decode(flows: Tensor, logits: Tensor) -> Tensor:
    """Labels of the objects, (B, H, W) int32, 1..n in no particular order; `postprocess_labels` cleans them.

    Args:
        flows: (B, 2, H, W), 5 x the unit flow (dy, dx) towards the centre of the object.
        logits: (B, H, W), > 0 inside an object.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    if flows.shape != (len(logits), 2, *logits.shape[1:]):
        raise ValueError(
            f"need flows (B, 2, H, W) and logits (B, H, W), got {tuple(flows.shape)}, {tuple(logits.shape)}"
        )
    labels = np.zeros(logits.shape, np.int32)
    _decode(flows.float().cpu().contiguous().numpy(), logits.float().cpu().contiguous().numpy(), labels)
    return torch.from_numpy(labels).to(logits.device)


def postprocess_labels(labels: Tensor, min_size: int) -> Tensor:
    """Clean labels, (B, H, W) int32: the largest component of each object, without holes, renumbered from 1.

    min_size: px^2; smaller components are removed.
    """
    cleaned = labels.to("cpu", torch.int32, copy=True).contiguous().numpy()
    _postprocess(cleaned, min_size)
    return torch.from_numpy(cleaned).to(labels.device)


def remove_faint(labels: Tensor, light: Tensor, min_mean: float) -> Tensor:
    """Labels, (B, H, W) int32, without the objects whose mean of light, (B, H, W), is below min_mean; renumbered.

    On the CPU, in float64, which some devices lack.
    """
    index, device = labels.cpu().long(), labels.device
    count = int(index.max()) + 1 if len(index) else 1
    index = index + count * torch.arange(len(index), device=index.device).reshape(-1, 1, 1)
    sizes = torch.bincount(index.flatten(), minlength=count * len(index)).clamp(min=1)
    means = torch.bincount(index.flatten(), light.cpu().double().flatten(), minlength=len(sizes)) / sizes
    kept = (means >= min_mean).reshape(len(index), count)
    kept[:, 0] = False  # background
    return (kept.cumsum(1) * kept).int().flatten()[index].to(device)

"""The pictures of a training: what theta draws, beside the control and what it drew before."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from algorithms.rollouts import draw_groups
from cellenv.data.cells import CellData
from cellenv.generator import CellFlux
from cellenv.pictures import composite, grid

PICTURE_STREAM = 2**31 - 3  # of the seed; no rollout uses it


def sample_renderer(data: CellData, before: CellFlux, theta: CellFlux, *, seed: int) -> Callable[[], NDArray[np.uint8]]:
    """A function that draws eight contexts: the control, the image before and theta's, from the same noise."""
    contexts = draw_groups(data, range(8), 1, seed=seed, iteration=PICTURE_STREAM)

    def draw(model: CellFlux) -> NDArray[np.uint8]:
        td = contexts.to(next(model.parameters()).device)
        return composite(model.sample(td["x0"], td["condition"], td["seed"])[0], data.channels)

    def render() -> NDArray[np.uint8]:
        rows = [composite(contexts["x0"], data.channels), draw(before), draw(theta)]
        return grid(rows, ["control", "before", "now"], [name.split()[0] for name in data.class_names(contexts)])

    return render

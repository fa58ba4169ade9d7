import numpy as np
import torch

from algorithms.recipes.samples import sample_renderer
from cellenv.generator import CellFlux


def test_the_rows_are_controls_and_images_before_and_now(data, save_base):
    """While the weights are as before, the last two rows are equal; then only the last one changes."""
    folder = save_base()
    before, theta = CellFlux.from_pretrained(folder), CellFlux.from_pretrained(folder)
    render = sample_renderer(data, before, theta, seed=3)
    first = render()
    with torch.no_grad():
        next(theta.parameters()).mul_(3)
    second = render()
    changed = np.flatnonzero((first != second).any((1, 2)))  # lines of pixels
    assert len(changed) and changed.min() > len(first) * 2 // 3  # of three rows under the names
    assert first.dtype == np.uint8 and first.shape[2] == 3
    assert np.array_equal(second, sample_renderer(data, before, theta, seed=3)())
    assert not np.array_equal(second, sample_renderer(data, before, theta, seed=4)())

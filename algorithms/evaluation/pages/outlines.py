"""Outlines of segmented objects as SVG paths in half pixels of the image: short, and sharp at any size. H, W pixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import approximate_polygon, find_contours

TOLERANCE = 0.4  # px that a drawn outline may lie beside the true one


def outline_path(labels: NDArray[np.integer[Any]]) -> str:
    """The outlines of all objects of an image, (H, W) integer labels, 0 = background; "" if there are none.

    The border of the image is no outline, as in `cellenv.pictures.inner_edge`.
    """
    return "".join(_path(labels == label) for label in np.unique(labels[labels > 0]))


def area_path(mask: NDArray[np.bool_]) -> str:
    """Closed outlines of a mask (H, W), to be filled by the even-odd rule; "" if it is empty."""
    return _path(np.pad(mask, 1), shift=-1)


def outside_cells(nuclei: NDArray[np.integer[Any]], cells: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Pixels of nuclei that lie in no cell, where containment is lost; labels and result (H, W)."""
    return (nuclei > 0) & (cells == 0)


def _path(mask: NDArray[np.bool_], *, shift: int = 0) -> str:
    return "".join(_relative_path(line, shift) for line in find_contours(mask.astype(np.float64), 0.5))


def _relative_path(line: NDArray[np.float64], shift: int) -> str:
    """A contour (k, 2) of rows and columns, which lie on half pixels, as a start and steps in whole half pixels."""
    y, x = np.rint(2 * (approximate_polygon(line, TOLERANCE) + 0.5 + shift)).astype(int).T
    steps = "".join(f"{dx} {dy} " for dx, dy in zip(np.diff(x), np.diff(y)))
    return f"M{x[0]} {y[0]}l{steps.strip()}"

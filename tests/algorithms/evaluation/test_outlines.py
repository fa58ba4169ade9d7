import re

import numpy as np
from PIL import Image, ImageDraw

from algorithms.evaluation.pages.outlines import area_path, outline_path, outside_cells


def points(path: str) -> list[list[tuple[int, int]]]:
    """Absolute points, in half pixels, of each line of a path of M and l."""
    lines = []
    for part in filter(None, path.split("M")):
        start, steps = (np.array(re.findall(r"-?\d+", text), int).reshape(-1, 2) for text in part.split("l"))
        lines.append([tuple(point) for point in np.vstack([start, steps]).cumsum(0).tolist()])
    return lines


def test_a_filled_outline_is_the_object():
    y, x = np.mgrid[:40, :50]
    disk = (y - 18) ** 2 + (x - 27) ** 2 < 13**2
    (line,) = points(outline_path(disk.astype(int)))
    image = Image.new("L", (100, 80))
    ImageDraw.Draw(image).polygon(line, fill=1)
    filled = np.asarray(image)[::2, ::2] > 0
    assert (filled & disk).sum() / (filled | disk).sum() > 0.93


def test_touching_objects_have_an_outline_each_and_background_none():
    labels = np.zeros((10, 20), int)
    labels[3:7, 4:8], labels[3:7, 8:12] = 1, 5
    left, right = points(outline_path(labels))
    assert max(x for x, _ in left) == min(x for x, _ in right) == 16  # the border between them, in half pixels
    assert outline_path(np.zeros((4, 4), int)) == ""


def test_the_border_of_the_image_is_no_outline_but_closes_an_area():
    half = np.zeros((10, 10), bool)
    half[:, :4] = True
    (line,) = points(outline_path(half.astype(int)))
    assert {x for x, _ in line} == {8}
    (area,) = points(area_path(half))
    xs, ys = zip(*area)
    assert area[0] == area[-1] and (min(xs), max(xs), min(ys), max(ys)) == (0, 8, 0, 20)


def test_outside_are_nuclei_without_a_cell():
    nuclei, cells = np.array([[0, 1, 1, 2]]), np.array([[1, 1, 0, 0]])
    assert outside_cells(nuclei, cells).tolist() == [[False, False, True, True]]

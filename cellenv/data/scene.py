"""Geometry of one synthetic crop, or field of view: outlines of cells and nuclei, drawn from a phenotype.

An outline is star-shaped: `outline[a]` is the distance in px from the centre at angle 2 pi a / ANGLES.
"""

from dataclasses import dataclass
from functools import partial
from math import cos, pi, sin, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellenv.data.phenotypes import Phenotype

ANGLES = 128
THETA = 2 * pi * np.arange(ANGLES) / ANGLES

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """K cells and J nuclei of one crop; y, x in px.

    cell_centre (K, 2), cell_outline (K, ANGLES), cell_direction (K,) of the fibres in radians,
    cell_light (K, 2) brightness of actin and tubulin, cell_soft (K,) width in px over which the outline fades,
    cell_mitotic (K,);
    nucleus_cell (J,) index of the cell, nucleus_centre (J, 2), nucleus_outline (J, ANGLES), nucleus_light (J,).
    """

    cell_centre: NDArray[np.float32]
    cell_outline: NDArray[np.float32]
    cell_direction: NDArray[np.float32]
    cell_light: NDArray[np.float32]
    cell_soft: NDArray[np.float32]
    cell_mitotic: NDArray[np.bool_]
    nucleus_cell: NDArray[np.int64]
    nucleus_centre: NDArray[np.float32]
    nucleus_outline: NDArray[np.float32]
    nucleus_light: NDArray[np.float32]


@dataclass
class _Cell:
    nuclei: list[tuple[Floats, Floats]]  # (centre, outline) of each
    centre: Floats
    outline: Floats
    direction: float
    mitotic: bool

    def radius(self) -> float:
        return float(self.outline.mean())


def ellipse(radius: float, elongation: float, direction: float) -> Floats:
    """Outline of an ellipse of area pi radius^2, (ANGLES,). elongation: long axis / short axis."""
    long, short = radius * sqrt(elongation), radius / sqrt(elongation)
    angle = THETA - direction
    outline: Floats = long * short / np.sqrt((short * np.cos(angle)) ** 2 + (long * np.sin(angle)) ** 2)
    return outline


def bumpy(outline: Floats, size: float, rng: np.random.Generator) -> Floats:
    """The outline with random harmonics of order 2 to 5; size: their rms relative to the radius."""
    order = np.arange(2, 6)[:, None]
    weight = rng.standard_normal(order.shape) / order  # amplitude falls as 1 / order
    weight *= sqrt(2 / (1 / order**2).sum())
    wave = weight * np.cos(order * THETA + 2 * pi * rng.random(order.shape))
    return outline * np.clip(1 + size * wave.sum(0), 0.5, 1.6)


def spiky(outline: Floats, length: float, rng: np.random.Generator) -> Floats:
    """The outline with two to seven thin protrusions; length: their maximal length relative to the radius."""
    n = rng.integers(2, 8)
    distance = np.abs((THETA - 2 * pi * rng.random((n, 1)) + pi) % (2 * pi) - pi)
    peaks = rng.random((n, 1)) * np.exp(-((distance / rng.uniform(0.07, 0.2, (n, 1))) ** 2))
    spikes: Floats = outline * (1 + length * peaks.max(0))
    return spikes


def _lognormal(mean: float, spread: float, rng: np.random.Generator) -> float:
    return mean * float(np.exp(spread * rng.standard_normal()))


def _polar(distance: float, angle: float) -> Floats:
    """(y, x) of a point at a distance and angle from the origin."""
    return distance * np.array([sin(angle), cos(angle)])


def _draw_nuclei(phenotype: Phenotype, rng: np.random.Generator) -> list[tuple[Floats, Floats]]:
    """(centre, outline) of one to three separate nuclei around the origin."""
    n = min(1 + rng.poisson(phenotype.extra_nuclei), 3)
    radius = _lognormal(phenotype.nucleus_radius, 0.10, rng) * (1.0, 0.85, 0.75)[n - 1]
    turn = 2 * pi * rng.random()
    nuclei = []
    for k in range(n):
        size = radius * (rng.uniform(0.7, 1.1) if n > 1 else 1.0)
        elongation = 1 + (phenotype.nucleus_elongation - 1) * rng.uniform(0.4, 1.6)
        outline = bumpy(ellipse(size, elongation, pi * rng.random()), phenotype.nucleus_bumps, rng)
        distance = 0.0 if n == 1 else radius * (1.05, 1.25)[n - 2]
        nuclei.append((_polar(distance, turn + 2 * pi * k / n), outline))
    return nuclei


def _draw_mitotic_cell(rng: np.random.Generator) -> _Cell:
    """A round cell whose nucleus is a condensed metaphase plate."""
    size = rng.uniform(15, 21)
    body = bumpy(ellipse(size, rng.uniform(1, 1.15), pi * rng.random()), 0.02, rng)
    metaphase = bumpy(ellipse(size * rng.uniform(0.4, 0.55), rng.uniform(1, 2.2), pi * rng.random()), 0.12, rng)
    return _Cell([(np.zeros(2), metaphase)], np.zeros(2), body, pi * rng.random(), True)


def _draw_cell(phenotype: Phenotype, rng: np.random.Generator) -> _Cell:
    """A cell with its nuclei at the origin; the body encloses them and is off centre."""
    if rng.random() < phenotype.mitotic:
        return _draw_mitotic_cell(rng)
    nuclei = _draw_nuclei(phenotype, rng)
    extent = max(np.hypot(*centre) + outline.mean() for centre, outline in nuclei)  # of all nuclei, a radius
    direction = pi * rng.random()
    radius = max(_lognormal(phenotype.cell_radius, 0.13, rng), 1.05 * extent)
    elongation = 1 + (phenotype.cell_elongation - 1) * rng.uniform(0.4, 1.6)
    room = max(radius / sqrt(elongation) - extent, 0.0)
    angle = 2 * pi * rng.random()
    shift = _polar(phenotype.nucleus_offset * room * rng.uniform(0.8, 1.35), angle)
    body = bumpy(ellipse(radius, elongation, direction), phenotype.cell_bumps, rng)
    return _Cell(nuclei, shift, spiky(body, phenotype.spikes, rng), direction, False)


def _draw_dying_cell(rng: np.random.Generator) -> _Cell:
    """A shrunken cell, little more than its condensed nucleus."""
    radius = rng.uniform(6.5, 10)
    body = bumpy(ellipse(radius, rng.uniform(1, 1.4), pi * rng.random()), 0.08, rng)
    nucleus = bumpy(ellipse(radius - rng.uniform(1.2, 3), rng.uniform(1, 1.3), pi * rng.random()), 0.04, rng)
    return _Cell([(rng.normal(0, 0.7, 2), nucleus)], np.zeros(2), body, pi * rng.random(), False)


def _place_cells(phenotype: Phenotype, size: int, rng: np.random.Generator) -> tuple[list[_Cell], list[Floats]]:
    """Cells and their origins: one in the middle, then neighbours and dying cells where there is room."""
    cells, origins = [_draw_cell(phenotype, rng)], [size / 2 + rng.normal(0, 2.0, 2)]

    def add(cell: _Cell, origin: Floats, min_distance: float) -> None:
        """Add the cell unless another one is closer than min_distance, relative to the sum of their radii."""
        distances = [np.hypot(*(origin - other)) for other in origins]
        if all(d >= min_distance * (cell.radius() + c.radius()) for d, c in zip(distances, cells)):
            cells.append(cell)
            origins.append(origin)

    for _ in range(min(rng.poisson(1.1 * phenotype.neighbours), 12)):
        cell, angle = _draw_cell(phenotype, rng), 2 * pi * rng.random()
        distance = (cells[0].radius() + cell.radius()) * rng.uniform(0.78, 1.08)
        origin = origins[0] + _polar(distance, angle)
        if (np.abs(origin - size / 2) < size / 2 + 0.7 * cell.radius()).all():  # partly inside the crop
            add(cell, origin, min_distance=0.72)
    for _ in range(rng.poisson(phenotype.dying)):
        add(_draw_dying_cell(rng), rng.uniform(0, size, 2), min_distance=0.9)
    return cells, origins


def draw_scene(phenotype: Phenotype, size: int, rng: np.random.Generator) -> Scene:
    """One cell with its nuclei in the middle of a crop of size x size px, and other cells around it."""
    return _to_scene(*_place_cells(phenotype, size, rng), rng)


def draw_field_scene(phenotype: Phenotype, shape: tuple[int, int], rng: np.random.Generator) -> Scene:
    """Cells all over a field of view of this (height, width) in px, as dense as the phenotype says."""
    crops = shape[0] * shape[1] / 96**2
    cells: list[_Cell] = []
    origins: list[Floats] = []
    for draw, count, min_distance in (
        (partial(_draw_cell, phenotype, rng), 0.25 * (1 + phenotype.neighbours) * crops, 0.78),
        (partial(_draw_dying_cell, rng), 0.1 * phenotype.dying * crops, 1.0),
    ):
        for _ in range(rng.poisson(count)):
            cell, origin = draw(), rng.uniform(0, shape, 2)
            distances = [np.hypot(*(origin - other)) for other in origins]
            if all(d >= min_distance * (cell.radius() + c.radius()) for d, c in zip(distances, cells)):
                cells.append(cell)
                origins.append(origin)
    return _to_scene(cells or [_draw_cell(phenotype, rng)], origins or [np.array(shape) / 2], rng)


def _to_scene(cells: list[_Cell], origins: list[Floats], rng: np.random.Generator) -> Scene:
    """Scene of cells at their origins, with random brightness."""
    nuclei = [(k, origin + at, line) for k, (c, origin) in enumerate(zip(cells, origins)) for at, line in c.nuclei]
    mitotic = np.array([c.mitotic for c in cells])
    light = np.exp(0.7 * rng.standard_normal((len(cells), 1)) + 0.2 * rng.standard_normal((len(cells), 2)))
    light *= np.where(mitotic, 1.5, 1.0)[:, None]
    owner = np.array([k for k, *_ in nuclei])
    nucleus_light = np.exp(0.15 * rng.standard_normal(len(nuclei))) * np.where(mitotic[owner], 1.7, 1.0)
    return Scene(
        cell_centre=_float32([origin + c.centre for c, origin in zip(cells, origins)]),
        cell_outline=_float32([c.outline for c in cells]),
        cell_direction=_float32([c.direction for c in cells]),
        cell_light=_float32(light),
        cell_soft=_float32(np.where(mitotic, 0.6, rng.uniform(0.5, 2.5, len(cells)))),
        cell_mitotic=mitotic,
        nucleus_cell=owner,
        nucleus_centre=_float32([at for _, at, _ in nuclei]),
        nucleus_outline=_float32([line for *_, line in nuclei]),
        nucleus_light=_float32(nucleus_light),
    )


def _float32(values: ArrayLike | list[Any]) -> NDArray[np.float32]:
    return np.array(values, np.float32)

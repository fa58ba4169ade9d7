"""Where the cells and nuclei of one synthetic crop lie: geometry, drawn from a phenotype, before any pixel.

An outline is star-shaped: `outline[a]` is its radius in px at angle a / ANGLES of a turn around its centre.
"""

from dataclasses import dataclass
from math import cos, pi, sin, sqrt

import numpy as np

from cellenv.data.phenotypes import Phenotype

ANGLES = 128
THETA = 2 * pi * np.arange(ANGLES) / ANGLES


@dataclass(frozen=True)
class Scene:
    """K cells and J nuclei of one crop; y, x in px. Arrays are float32 unless said otherwise.

    cell_centre (K, 2), cell_outline (K, ANGLES), cell_direction (K,) radians of its fibres, cell_light (K, 2)
    brightness of actin and tubulin, cell_soft (K,) width in px over which its outline fades, cell_mitotic (K,) bool;
    nucleus_cell (J,) int64, nucleus_centre (J, 2), nucleus_outline (J, ANGLES), nucleus_light (J,).
    """

    cell_centre: np.ndarray
    cell_outline: np.ndarray
    cell_direction: np.ndarray
    cell_light: np.ndarray
    cell_soft: np.ndarray
    cell_mitotic: np.ndarray
    nucleus_cell: np.ndarray
    nucleus_centre: np.ndarray
    nucleus_outline: np.ndarray
    nucleus_light: np.ndarray


@dataclass
class _Cell:
    nuclei: list[tuple[np.ndarray, np.ndarray]]  # (centre, outline) of each
    centre: np.ndarray
    outline: np.ndarray
    direction: float
    mitotic: bool

    def reach(self) -> float:
        return float(self.outline.mean())


def ellipse(radius: float, elongation: float, direction: float) -> np.ndarray:
    """Outline of an ellipse of area pi radius^2, (ANGLES,)."""
    long, short = radius * sqrt(elongation), radius / sqrt(elongation)
    turned = THETA - direction
    return long * short / np.sqrt((short * np.cos(turned)) ** 2 + (long * np.sin(turned)) ** 2)


def bumpy(outline: np.ndarray, size: float, rng: np.random.Generator) -> np.ndarray:
    """The outline with random harmonics 2 to 5; `size` is their rms as a share of the radius."""
    order = np.arange(2, 6)[:, None]
    weight = rng.standard_normal(order.shape) / order  # the higher, the weaker: outlines wave, they do not blossom
    weight *= sqrt(2 / (1 / order**2).sum())
    wave = weight * np.cos(order * THETA + 2 * pi * rng.random(order.shape))
    return outline * np.clip(1 + size * wave.sum(0), 0.5, 1.6)


def spiky(outline: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """The outline with two to seven thin protrusions of up to `length` of the radius."""
    n = rng.integers(2, 8)
    apart = np.abs((THETA - 2 * pi * rng.random((n, 1)) + pi) % (2 * pi) - pi)
    peaks = rng.random((n, 1)) * np.exp(-((apart / rng.uniform(0.07, 0.2, (n, 1))) ** 2))
    return outline * (1 + length * peaks.max(0))


def _lognormal(mean: float, spread: float, rng: np.random.Generator) -> float:
    return mean * float(np.exp(spread * rng.standard_normal()))


def _nuclei(look: Phenotype, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """One to three nuclei around the origin, apart from each other."""
    n = min(1 + rng.poisson(look.extra_nuclei), 3)
    radius = _lognormal(look.nucleus_radius, 0.10, rng) * (1.0, 0.85, 0.75)[n - 1]
    turn, nuclei = 2 * pi * rng.random(), []
    for k in range(n):
        size = radius * (rng.uniform(0.7, 1.1) if n > 1 else 1.0)
        elongation = 1 + (look.nucleus_elongation - 1) * rng.uniform(0.4, 1.6)
        outline = bumpy(ellipse(size, elongation, pi * rng.random()), look.nucleus_bumps, rng)
        away = 0.0 if n == 1 else radius * (1.05, 1.25)[n - 2]
        angle = turn + 2 * pi * k / n
        nuclei.append((away * np.array([sin(angle), cos(angle)]), outline))
    return nuclei


def _cell(look: Phenotype, rng: np.random.Generator) -> _Cell:
    """A cell around its nuclei, which lie at the origin: the body is wide enough to hold them, and off centre."""
    if rng.random() < look.mitotic:
        size = rng.uniform(15, 21)
        body = bumpy(ellipse(size, rng.uniform(1, 1.15), pi * rng.random()), 0.02, rng)
        plate = bumpy(ellipse(size * rng.uniform(0.4, 0.55), rng.uniform(1, 2.2), pi * rng.random()), 0.12, rng)
        return _Cell([(np.zeros(2), plate)], np.zeros(2), body, pi * rng.random(), True)
    nuclei = _nuclei(look, rng)
    extent = max(np.hypot(*centre) + outline.mean() for centre, outline in nuclei)  # radius of the nuclear region
    direction = pi * rng.random()
    radius = max(_lognormal(look.cell_radius, 0.13, rng), 1.05 * extent)
    elongation = 1 + (look.cell_elongation - 1) * rng.uniform(0.4, 1.6)
    room = max(radius / sqrt(elongation) - extent, 0.0)
    angle = 2 * pi * rng.random()
    shift = look.nucleus_offset * room * rng.uniform(0.8, 1.35) * np.array([sin(angle), cos(angle)])
    outline = spiky(bumpy(ellipse(radius, elongation, direction), look.cell_bumps, rng), look.spikes, rng)
    return _Cell(nuclei, shift, outline, direction, False)


def _dying(rng: np.random.Generator) -> _Cell:
    """A shrunken cell, little more than its condensed nucleus."""
    radius = rng.uniform(6.5, 10)
    body = bumpy(ellipse(radius, rng.uniform(1, 1.4), pi * rng.random()), 0.08, rng)
    nucleus = bumpy(ellipse(radius - rng.uniform(1.2, 3), rng.uniform(1, 1.3), pi * rng.random()), 0.04, rng)
    return _Cell([(rng.normal(0, 0.7, 2), nucleus)], np.zeros(2), body, pi * rng.random(), False)


def draw_scene(look: Phenotype, size: int, rng: np.random.Generator) -> Scene:
    """One cell with its nuclei in the middle of a crop of size x size px, others around it, touching or apart."""
    cells, origins = [_cell(look, rng)], [size / 2 + rng.normal(0, 2.0, 2)]

    def add(cell: _Cell, origin: np.ndarray, apart: float) -> None:
        """Give the place up if it is taken: other nuclei closer than `apart` of the two radii."""
        near = [np.hypot(*(origin - other)) < apart * (cell.reach() + c.reach()) for c, other in zip(cells, origins)]
        if not any(near):
            cells.append(cell)
            origins.append(origin)

    for _ in range(min(rng.poisson(1.1 * look.neighbours), 12)):
        cell, angle = _cell(look, rng), 2 * pi * rng.random()
        away = (cells[0].reach() + cell.reach()) * rng.uniform(0.78, 1.08)
        origin = origins[0] + away * np.array([sin(angle), cos(angle)])
        if (np.abs(origin - size / 2) < size / 2 + 0.7 * cell.reach()).all():  # some of it is seen
            add(cell, origin, apart=0.72)
    for _ in range(rng.poisson(look.dying)):
        add(_dying(rng), rng.uniform(0, size, 2), apart=0.9)
    nuclei = [(k, origin + at, line) for k, (c, origin) in enumerate(zip(cells, origins)) for at, line in c.nuclei]
    mitotic = np.array([c.mitotic for c in cells])
    light = np.exp(0.7 * rng.standard_normal((len(cells), 1)) + 0.2 * rng.standard_normal((len(cells), 2)))
    light *= np.where(mitotic, 1.5, 1.0)[:, None]
    owner = np.array([k for k, *_ in nuclei])
    nucleus_light = np.exp(0.15 * rng.standard_normal(len(nuclei))) * np.where(mitotic[owner], 1.7, 1.0)
    return Scene(
        cell_centre=np.float32([origin + c.centre for c, origin in zip(cells, origins)]),
        cell_outline=np.float32([c.outline for c in cells]),
        cell_direction=np.float32([c.direction for c in cells]),
        cell_light=np.float32(light),
        cell_soft=np.float32(np.where(mitotic, 0.6, rng.uniform(0.5, 2.5, len(cells)))),
        cell_mitotic=mitotic,
        nucleus_cell=owner,
        nucleus_centre=np.float32([at for _, at, _ in nuclei]),
        nucleus_outline=np.float32([line for *_, line in nuclei]),
        nucleus_light=np.float32(nucleus_light),
    )

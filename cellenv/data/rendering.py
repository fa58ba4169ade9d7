"""Rendering of a synthetic crop, or field, from its geometry: labels, then stains, then the microscope.

H, W pixels, size of a square crop; channels as in `cellenv.images.CHANNELS`. Inner loops are compiled with numba.
Randomness comes from arguments and from hashes of lattice points.
"""

from dataclasses import dataclass
from math import atan2, cos, exp, floor, pi, sin, sqrt

import numpy as np
from numpy.typing import NDArray

from cellenv.data.phenotypes import Phenotype
from cellenv.data.scene import ANGLES, Scene
from cellenv.jit import compiled

FAR = 1e4  # px, beyond any crop

Floats = NDArray[np.float32]
Labels = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Optics:
    """Optical effects of a plate and its microscope; stretching a channel to 0..255 does not undo them."""

    blur: float = 0.8  # sigma of the point spread function, px
    noise: float = 0.02  # read noise, relative to the brightest pixel
    shot: float = 0.03  # shot noise at full brightness
    gamma: float = 1.0
    haze: float = 0.1  # out-of-focus light relative to the light in focus
    slope: tuple[float, float] = (0.0, 0.0)  # background gradient along y and x


@compiled
def _hash(i: int, j: int, seed: int) -> float:
    """Uniform hash in [0, 1) of the lattice point (i, j)."""
    h = (i * 374761393 + j * 668265263 + seed * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 16)) * 2246822519) & 0xFFFFFFFF
    return ((h ^ (h >> 15)) & 0xFFFFFF) / 16777216.0


@compiled
def _noise(y: float, x: float, seed: int) -> float:
    """Smooth value noise in [0, 1) with correlation length 1."""
    i, j = int(floor(y)), int(floor(x))
    v, u = y - i, x - j
    v, u = v * v * (3 - 2 * v), u * u * (3 - 2 * u)
    top = _hash(i, j, seed) * (1 - u) + _hash(i, j + 1, seed) * u
    low = _hash(i + 1, j, seed) * (1 - u) + _hash(i + 1, j + 1, seed) * u
    return top * (1 - v) + low * v


@compiled
def _fibre(y: float, x: float, direction: float, scale: float, seed: int) -> float:
    """Web of filaments along `direction`, `scale` px apart, in [0, 1]."""
    bend = 6.0 * (_noise(y / 17, x / 17, seed + 7) - 0.5)
    along = (x * cos(direction) + y * sin(direction)) / (4.5 * scale)
    across = (y * cos(direction) - x * sin(direction) + bend) / scale
    ridge = 1 - abs(2 * _noise(across, along, seed) - 1)
    return ridge**4


@compiled
def _depth(y: float, x: float, centre: Floats, outline: Floats, reach: float) -> tuple[float, float]:
    """(rho, radius in px at that angle): rho = distance / radius, below 1 inside, 9 beyond `reach` px."""
    dy, dx = y - centre[0], x - centre[1]
    if dy * dy + dx * dx > reach * reach:
        return 9.0, reach
    turn = atan2(dy, dx) / (2 * pi) * ANGLES
    a = int(floor(turn))
    part = turn - a
    radius = outline[a % ANGLES] * (1 - part) + outline[(a + 1) % ANGLES] * part
    return sqrt(dy * dy + dx * dx) / radius, radius


@compiled
def _label_pixels(
    height: int,
    width: int,
    cell_centre: Floats,
    cell_outline: Floats,
    nucleus_cell: NDArray[np.int64],
    nucleus_centre: Floats,
    nucleus_outline: Floats,
) -> tuple[Labels, Labels, Floats, Floats, Floats]:
    """(cells, nuclei, rho, edge, nucleus_edge) of every pixel, (H, W) each.

    cells, nuclei: labels, 0 = background. rho: depth in the cell, see `_depth`. edge, nucleus_edge: distance
    in px to the edge, positive inside. A pixel belongs to the cell in which it lies deepest; a nucleus never
    leaves its own cell.
    """
    cells, nuclei = np.zeros((height, width), np.int32), np.zeros((height, width), np.int32)
    cell_rho, cell_edge = np.full((height, width), 9.0, np.float32), np.zeros((height, width), np.float32)
    nucleus_edge = np.full((height, width), -99.0, np.float32)
    reach = np.array([line.max() for line in cell_outline])
    for i in range(height):
        row_cells = np.nonzero(np.abs(i + 0.5 - cell_centre[:, 0]) <= reach)[0]  # in a crop most, in a field few
        is_near = np.abs(i + 0.5 - cell_centre[nucleus_cell, 0]) <= reach[nucleus_cell]
        row_nuclei = np.nonzero(is_near)[0]
        for j in range(width):
            y, x = i + 0.5, j + 0.5
            second = 9.0
            for k in row_cells:
                rho, radius = _depth(y, x, cell_centre[k], cell_outline[k], reach[k])
                if rho < cell_rho[i, j]:
                    second = cell_rho[i, j]
                    cell_rho[i, j], cell_edge[i, j] = rho, (1 - rho) * radius
                    cells[i, j] = k + 1 if rho < 1 else 0
                elif rho < second:
                    second = rho
                if cells[i, j] == k + 1 and rho < 1:
                    cell_edge[i, j] = (1 - rho) * radius
            if second < 1:  # cells overlap here: their border is an edge too
                cell_edge[i, j] = min(cell_edge[i, j], 14 * (second - cell_rho[i, j]))
            for n in row_nuclei:
                if nucleus_cell[n] + 1 != cells[i, j]:
                    continue
                rho, radius = _depth(y, x, nucleus_centre[n], nucleus_outline[n], FAR)
                edge = min((1 - rho) * radius, cell_edge[i, j] - 1)
                if edge > nucleus_edge[i, j]:
                    nucleus_edge[i, j] = edge
                    nuclei[i, j] = n + 1 if edge > 0 else 0
    return cells, nuclei, cell_rho, cell_edge, nucleus_edge


@compiled
def _stain(
    labels: tuple[Labels, Labels, Floats, Floats, Floats],
    cell_properties: tuple[Floats, Floats, Floats, NDArray[np.bool_]],
    nucleus_light: Floats,
    textures: tuple[float, ...],
    seed: int,
) -> Floats:
    """Actin, tubulin and DNA before the microscope, (3, H, W) float32.

    labels: as from `_label_pixels`. cell_properties: direction, light, soft and mitotic of a `Scene`.
    """
    cells, nuclei, rho, edge, nucleus_edge = labels
    direction, light, soft, mitotic = cell_properties
    dna_texture, cortex, fibres, puncta, web, scale, extent, perinuclear, vacuoles, shade = textures
    height, width = cells.shape
    out = np.zeros((3, height, width), np.float32)
    for i in range(height):
        for j in range(width):
            k = cells[i, j] - 1
            if k < 0:
                continue
            y, x, own = i + 0.5, j + 0.5, seed + 31 * k
            rise = 1 / (1 + exp(1.0 - edge[i, j] / soft[k]))  # the outline
            thick = sqrt(max(1 - rho[i, j] ** 2, 0.0))
            cloud = _noise(y / 9, x / 9, own + 1)
            within = 1 / (1 + exp(-1.2 * nucleus_edge[i, j]))
            hole = 1 - vacuoles * (_noise(y / 5, x / 5, own + 2) > 0.68) * (1 - within)
            around = exp(-max(-nucleus_edge[i, j], 0.0) / 5.0)

            patch = _noise(y / 13, x / 13, own + 10)
            rim = exp(-(((edge[i, j] - 1.0 - soft[k]) / (1.2 + soft[k])) ** 2)) * (0.1 + 1.6 * patch * patch)
            spot = max(_noise(y / 2.6, x / 2.6, own + 3) - 0.72, 0.0) / 0.28
            cable = _fibre(y, x, direction[k], 5.0, own + 4)
            actin = (
                0.24 * (0.4 + 1.2 * cloud) * (0.7 + 0.3 * thick)
                + 0.8 * cortex * rim
                + 0.55 * fibres * cable
                + puncta * spot
            )
            if mitotic[k]:
                actin += 0.5 * rim + 0.4 * thick
            out[0, i, j] = light[k, 0] * rise * hole * actin * (1 - shade * within)

            spread = max(rho[i, j] / extent, 1e-3)
            reach = sqrt(max(1 - spread**2, 0.0)) if not mitotic[k] else thick
            one = _fibre(y, x, direction[k] + 0.5, scale, own + 5)
            other = _fibre(y, x, direction[k] - 0.6, scale, own + 6)
            net = 0.25 + 0.9 * web * max(one, other) * (0.4 + cloud) + perinuclear * around * (0.5 + 0.5 * cloud)
            tubulin = 0.06 + reach * (0.6 + 0.4 * reach) * net
            if mitotic[k]:
                tubulin += 0.8 * around * thick
            out[1, i, j] = light[k, 1] * rise * hole * tubulin * (1 - shade * within)

            if nuclei[i, j] > 0:
                grain = _noise(y / 3.2, x / 3.2, own + 8) + 0.5 * _noise(y / 1.7, x / 1.7, own + 9) - 0.75
                clump = 1 + 2.2 * dna_texture * grain
                solid = 1 / (1 + exp(-1.5 * (nucleus_edge[i, j] - 0.8)))
                out[2, i, j] = nucleus_light[nuclei[i, j] - 1] * solid * max(clump, 0.15)
    return out


@compiled
def _blur(image: Floats, sigma: float) -> Floats:
    """Gaussian blur of (3, H, W), reflected at the border."""
    reach = int(3 * sigma + 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    _, height, width = image.shape
    rows, out = np.zeros_like(image), np.zeros_like(image)
    for d in range(-reach, reach + 1):
        w = kernel[d + reach]
        for i in range(height):
            p = i + d
            p = -p - 1 if p < 0 else 2 * height - 1 - p if p >= height else p
            rows[:, i] += w * image[:, p]
    for d in range(-reach, reach + 1):
        w = kernel[d + reach]
        for j in range(width):
            p = j + d
            p = -p - 1 if p < 0 else 2 * width - 1 - p if p >= width else p
            out[:, :, j] += w * rows[:, :, p]
    return out


def _glow(image: Floats) -> Floats:
    """The image (C, H, W) blurred by 12 px, computed at a quarter of the resolution; H and W are multiples of 4."""
    channels, height, width = image.shape
    small = image.reshape(channels, height // 4, 4, width // 4, 4).mean(axis=(2, 4))
    glow: Floats = _linear(height) @ _blur(small, 3.0) @ _linear(width).T
    return glow


def _linear(size: int) -> Floats:
    """Linear interpolation from a quarter of the resolution, (size, size / 4)."""
    at, knots = np.arange(size) + 0.5, 4 * np.arange(size // 4) + 2.0
    hats = [np.interp(at, knots, row) for row in np.eye(size // 4)]
    return np.array(hats, np.float32).T


def render_stains(
    scene: Scene, phenotype: Phenotype, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[Floats, Labels, Labels]:
    """What a perfect microscope sees of a scene, and true masks: (stains, nuclei, cells).

    stains: (3, H, W) float32, 0 where there is no cell. nuclei, cells: (H, W) labels, 0 = background.
    """
    labels = _label_pixels(
        *shape, scene.cell_centre, scene.cell_outline, scene.nucleus_cell, scene.nucleus_centre, scene.nucleus_outline
    )
    cell_properties = scene.cell_direction, scene.cell_light, scene.cell_soft, scene.cell_mitotic
    textures = _textures(phenotype, shade=rng.uniform(0.75, 1.0))
    stains = _stain(labels, cell_properties, scene.nucleus_light, textures, int(rng.integers(2**31)))
    cells, nuclei, *_ = labels
    return stains, nuclei, cells


def focus(stains: Floats, optics: Optics) -> Floats:
    """The stains (3, H, W) as blurred and hazed by the optics."""
    image = _blur(stains, optics.blur)
    image += optics.haze * _glow(image)
    return image


def render(
    scene: Scene, phenotype: Phenotype, optics: Optics, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Labels, Labels]:
    """Image and true masks (image, nuclei, cells) of a crop.

    image: (3, size, size) uint8, each channel stretched to 0..255 as in the published data. nuclei, cells:
    (size, size) labels, 0 = background.
    """
    stains, nuclei, cells = render_stains(scene, phenotype, (size, size), rng)
    return _photograph(stains, optics, rng), nuclei, cells


def _textures(phenotype: Phenotype, shade: float) -> tuple[float, ...]:
    """Textures in the order in which `_stain` takes them, within the range that it can draw."""
    return (
        phenotype.dna_texture,
        phenotype.actin_cortex,
        phenotype.actin_fibres,
        phenotype.actin_puncta,
        phenotype.tubulin_fibres,
        max(phenotype.tubulin_scale, 2.0),
        max(phenotype.tubulin_extent, 0.3),
        phenotype.perinuclear,
        min(phenotype.vacuoles, 0.9),
        shade,
    )


def _photograph(stained: Floats, optics: Optics, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Image of the stains (3, size, size) through the microscope, each channel stretched to 0..255."""
    image = focus(stained, optics)
    image /= image.max(axis=(1, 2), keepdims=True) + 1e-6
    ramp = np.linspace(-0.5, 0.5, image.shape[1], dtype=np.float32)
    image += optics.slope[0] * ramp[:, None] + optics.slope[1] * ramp
    grain = rng.standard_normal((2, *image.shape), dtype=np.float32)
    image += optics.noise * grain[0] + optics.shot * np.sqrt(np.maximum(image, 0)) * grain[1]
    low, high = image.min(axis=(1, 2), keepdims=True), image.max(axis=(1, 2), keepdims=True)
    stretched = ((image - low) / (high - low)) ** np.float32(optics.gamma)
    return np.rint(255 * stretched).astype(np.uint8)

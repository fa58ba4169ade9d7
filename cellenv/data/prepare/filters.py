"""Which nuclei become cells, and why the others do not.

H, W pixels.
"""

from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
from scipy.ndimage import gaussian_gradient_magnitude

from cellenv.data.prepare.nuclei import FoundNuclei
from cellenv.data.prepare.planes import Pixels

ACCEPTED = "accepted"
REASONS = ("border", "small", "large", "blurred")  # in the order in which they are looked for
MARGIN = 12  # px around a nucleus where its background is seen
GRADIENT_SIGMA = 1.0  # px, of the Gaussian whose gradient is taken


@dataclass(frozen=True, kw_only=True)
class FilterRules:
    """Limits of a nucleus, in px of the crop.

    min_area, max_area: px^2. max_blur: sigma in px of the blur of its edge, out of focus beyond it.
    """

    min_area: float
    max_area: float
    max_blur: float


def judge_nuclei(nuclei: FoundNuclei, dna: Pixels, crop: int, rules: FilterRules) -> list[str]:
    """For every nucleus "accepted", or the first of `REASONS` that rules it out.

    dna: (H, W). crop: side of the crop around the centre in px; it must lie in the field.
    """
    height, width = dna.shape
    blurs = edge_blurs(nuclei, dna)
    verdicts = []
    for (y, x), area, blur in zip(nuclei.centres, nuclei.areas, blurs):
        top, left = corner(y, x, crop)
        checks = {
            "border": top < 0 or left < 0 or top + crop > height or left + crop > width,
            "small": area < rules.min_area,
            "large": area > rules.max_area,
            "blurred": blur > rules.max_blur,
        }
        verdicts.append(next((reason for reason in REASONS if checks[reason]), ACCEPTED))
    return verdicts


def corner(y: float, x: float, crop: int) -> tuple[int, int]:
    """First row and column of the crop around a centre."""
    return round(y - crop / 2), round(x - crop / 2)


def edge_blurs(nuclei: FoundNuclei, dna: Pixels) -> list[float]:
    """Sigma in px of the Gaussian blur of every nucleus's edge.

    An edge of contrast c under a blur of sigma has the gradient c / (sqrt(2 pi) sigma) in its middle. The gradient is
    the steepest 5 % of the nucleus, the contrast that of its median to the dark around it.
    """
    gradient = gaussian_gradient_magnitude(dna, GRADIENT_SIGMA)
    blurs = []
    for label, box in enumerate(nuclei.boxes, 1):
        window = tuple(slice(max(side.start - MARGIN, 0), side.stop + MARGIN) for side in box)
        mask, light = nuclei.labels[window] == label, dna[window]
        outside = light[nuclei.labels[window] == 0]
        contrast = np.median(light[mask]) - (np.percentile(outside, 10) if outside.size else 0.0)
        steepest = np.percentile(gradient[window][mask], 95)
        seen = max(contrast, 0.0) / (sqrt(2 * pi) * max(steepest, 1e-6))
        blurs.append(sqrt(max(seen**2 - GRADIENT_SIGMA**2, 0.0)))
    return blurs

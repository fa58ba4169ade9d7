"""Plates of the embedded world as a microscope writes them: a TIFF for each stain of each field, and BBBC021's tables.

    FOLDER/BBBC021_v1_image.csv    one row a field: files, plate, well, compound, concentration
    FOLDER/BBBC021_v1_moa.csv      compound and concentration -> mechanism of action (MoA)
    FOLDER/emb_synthetic.csv       conditions of the compounds
    FOLDER/truth.csv               every nucleus: field, centre, area
    FOLDER/Week1/Week1_22000/B02_s1_w1ABC.tif     uint16 (H, W): w1 is DNA, w2 tubulin, w4 actin

Known cells under uneven light and another brightness of each plate and stain. H, W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray
from tqdm import tqdm

from cellenv.csv_io import write_rows
from cellenv.data.phenotypes import MECHANISMS, UNTREATED, blend
from cellenv.data.prepare.nuclei import measure_nuclei
from cellenv.data.rendering import Floats, Optics, focus, render_stains
from cellenv.data.scene import draw_field_scene
from cellenv.data.synthetic import SyntheticCells, draw_optics, refocus
from cellenv.images import CHANNELS
from cellenv.weights_io import write_atomically

OFFSET, LIGHT = 300.0, 6000.0  # grey values: of the dark camera, of stains of brightness 1
DOSES = {0.1: 0.8, 1.0: 1.1}  # concentration -> fraction of the full effect
WAVELENGTHS = {"DNA": 1, "tubulin": 2, "actin": 4}  # number in the file name
STAINS = {"DNA": "DAPI", "tubulin": "Tubulin", "actin": "Actin"}  # name in the table
DEFAULT_COMPOUNDS = ("taxol", "etoposide", "PP-2", "emetine")


@dataclass(frozen=True)
class Camera:
    """Light and camera of one plate.

    gain: brightness of each channel. centre: where each channel is brightest, (3, 2) in units of the field. falloff:
    share of the light that is missing in the farthest corner.
    """

    gain: NDArray[np.float64]
    centre: NDArray[np.float64]
    falloff: float

    def light(self, shape: tuple[int, int]) -> Floats:
        """Share of the light that reaches each pixel, (3, H, W), 1 where it is brightest."""
        y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
        squared = [(y - cy) ** 2 + (x - cx) ** 2 for cy, cx in self.centre]
        return np.stack([1 - self.falloff * s / s.max() for s in squared]).astype(np.float32)


class Well(NamedTuple):
    """What stands in a well; no compound: DMSO."""

    name: str
    compound: str | None
    dose: float


def draw_camera(rng: np.random.Generator) -> Camera:
    """Random camera of one plate."""
    return Camera(
        gain=rng.uniform(0.6, 1.6, 3), centre=rng.uniform(0.35, 0.65, (3, 2)), falloff=rng.uniform(0.25, 0.45)
    )


def photograph(stains: Floats, optics: Optics, camera: Camera, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Grey values of the stains (3, H, W): optics, uneven light, shot and read noise, dark level."""
    shape = stains.shape[1], stains.shape[2]
    signal = LIGHT * camera.gain[:, None, None].astype(np.float32) * camera.light(shape) * focus(stains, optics)
    noise = rng.standard_normal((2, *signal.shape), dtype=np.float32)
    noisy = signal + 2 * np.sqrt(signal) * noise[0] + 15 * noise[1] + OFFSET
    return np.rint(noisy.clip(0, 65535)).astype(np.uint16)


def write_tiff(file: Path, pixels: NDArray[np.uint16]) -> None:
    """Write grey values (H, W), atomically, and the folder they lie in."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = BytesIO()
    tifffile.imwrite(content, pixels)
    write_atomically(file, content.getvalue())


def plate_wells(compounds: Sequence[str], controls: int, replicates: int) -> list[Well]:
    """Wells of a plate, row by row from B02: those of DMSO first, then every compound at each dose in turn."""
    doses = list(DOSES)
    contents: list[tuple[str | None, float]] = [(None, 0.0)] * controls
    contents += [(name, doses[k % len(doses)]) for k in range(replicates) for name in compounds]
    return [Well(f"{'BCDEFG'[i // 10 % 6]}{2 + i % 10:02d}", *content) for i, content in enumerate(contents)]


def write_plates(
    folder: str | Path,
    *,
    compounds: Sequence[str] = DEFAULT_COMPOUNDS,
    plates: int = 2,
    controls: int = 4,
    replicates: int = 2,
    sites: int = 2,
    shape: tuple[int, int] = (1024, 1280),
    seed: int = 0,
) -> None:
    """Draw plates and write files, tables and truth; the same arguments write the same files again.

    compounds: of the embedded world. controls, replicates: wells a plate of DMSO, and of each compound. sites: fields
    a well. shape: (H, W), multiples of 4.

    Raises:
        ValueError: if a compound is unknown, or a number does not fit a plate.
    """
    folder, world = Path(folder), SyntheticCells("test", seed=seed)
    ids = [world.compound_id(name) for name in compounds]
    wells = plate_wells(compounds, controls, replicates)
    if not 1 <= len(wells) <= 60 or min(plates, sites, controls) < 1 or shape[0] % 4 or shape[1] % 4:
        raise ValueError("need 1 to 60 wells a plate, at least one plate, site and control, and sides that 4 divides")
    moa_of = {name: world.moas[world.compound_moa[i]] for name, i in zip(compounds, ids)}
    rows: list[dict[str, object]] = []
    truth: list[tuple[object, ...]] = []
    jobs = [(plate, well, site) for plate in range(plates) for well in wells for site in range(1, sites + 1)]
    for number, (plate, well, site) in enumerate(tqdm(jobs, desc="draw fields", unit="field"), 1):
        place = f"Week{1 + plate % 10}/Week{1 + plate % 10}_{22000 + plate}"
        rng = np.random.default_rng((seed, 3, number))
        phenotype = UNTREATED if well.compound is None else blend(MECHANISMS[moa_of[well.compound]], DOSES[well.dose])
        stains, nuclei, _ = render_stains(draw_field_scene(phenotype, shape, rng), phenotype, shape, rng)
        of_plate = np.random.default_rng((seed, 4, plate))
        optics, camera = refocus(draw_optics(of_plate), rng), draw_camera(of_plate)
        pixels = photograph(stains, optics, camera, rng)
        row: dict[str, object] = {"TableNumber": 1 + plate, "ImageNumber": number}
        for channel, wavelength in WAVELENGTHS.items():
            name = f"{well.name}_s{site}_w{wavelength}{rng.integers(2**32):08X}.tif"
            write_tiff(folder / place / name, pixels[CHANNELS.index(channel)])
            row |= {f"Image_FileName_{STAINS[channel]}": name, f"Image_PathName_{STAINS[channel]}": place}
        row |= {
            "Image_Metadata_Plate_DAPI": place.split("/")[1],
            "Image_Metadata_Well_DAPI": well.name,
            "Replicate": 1 + plate,
            "Image_Metadata_Compound": well.compound or "DMSO",
            "Image_Metadata_Concentration": well.dose,
        }
        rows.append(row)
        found = measure_nuclei(nuclei)
        truth += [
            (place.split("/")[1], well.name, site, *centre, area)
            for centre, area in zip(found.centres.tolist(), found.areas.tolist())
        ]
    mechanisms = [(name, dose, moa_of[name]) for name in compounds for dose in DOSES] + [("DMSO", 0, "DMSO")]
    conditions = [(name, *world.conditions[i].tolist()) for name, i in zip(compounds, ids)]
    write_rows(folder / "truth.csv", [("plate", "well", "site", "y", "x", "area"), *truth])
    write_rows(folder / "BBBC021_v1_moa.csv", [("compound", "concentration", "moa"), *mechanisms])
    write_rows(folder / "emb_synthetic.csv", [("", *range(len(conditions[0]) - 1)), *conditions])
    write_rows(folder / "BBBC021_v1_image.csv", [tuple(rows[0]), *(tuple(row.values()) for row in rows)])

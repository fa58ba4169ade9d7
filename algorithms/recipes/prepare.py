"""From a microscope's plates to a folder of single cells that every other command takes as --data.

    cellfluxrl prepare FIELDS --out CELLS --embeddings FIELDS/embeddings.csv
    cellfluxrl prepare FIELDS --preset cellprofiler --images load_data.csv --wells wells.csv --compounds smiles.csv
    cellfluxrl prepare FIELDS --preset pattern --pattern '{plate}/{well}_s{site}_w{channel}*.tif' --wells wells.csv

Nuclei are found in whole fields under even light and on one scale of each plate and stain; each becomes a crop, unless
it is at the border, too small, too large or out of focus. CELLS holds the crops, cells_df_all.csv, emb_compounds.csv,
manifest.json and contact_sheets/. A run that was stopped goes on where it was; another split of finished cells takes
seconds. docs/own_plates.md shows the whole path.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from algorithms.config import NucleusConfig

if TYPE_CHECKING:
    from algorithms.estimate import Estimate


@dataclass(frozen=True, kw_only=True)
class FieldsConfig:
    """Which file shows which stain of which well. A table's path is relative to FIELDS, or to the current folder."""

    images: Path | None = Path("BBBC021_v1_image.csv")  # table of fields; None: --pattern
    pattern: str | None = None  # of file names, with {plate}, {well}, {site}, {channel}, {batch} and *
    # channels of the output, and what the columns or files call them; for files of several planes their numbers from 0
    stains: tuple[str, ...] = ("actin=Actin", "tubulin=Tubulin", "DNA=DAPI")
    nucleus: str = "DNA"  # the channel in which nuclei are found
    file_column: str = "Image_FileName_{stain}"
    folder_column: str = "Image_PathName_{stain}"
    batch_column: str = ""
    plate_column: str = "Image_Metadata_Plate_DAPI"
    well_column: str = "Image_Metadata_Well_DAPI"
    site_column: str = ""  # without one, the fields of a well are numbered
    plates: tuple[str, ...] = ()  # only these; none: all
    skip_bad: bool = False  # leave out fields that are missing or damaged; otherwise the first one is an error


@dataclass(frozen=True, kw_only=True)
class TreatmentsConfig:
    """What the wells were treated with. Columns are those of the table of fields; "" if it has none."""

    compound_column: str = "Image_Metadata_Compound"
    dose_column: str = "Image_Metadata_Concentration"
    moa_column: str = ""
    smiles_column: str = ""
    wells: Path | None = None  # table of (plate,) well and compound, and if known concentration, moa, smiles
    moa: Path | None = Path("BBBC021_v1_moa.csv")  # table of compound (, concentration) and moa
    compounds: Path | None = None  # table of compound and smiles
    embeddings: Path | None = None  # table of compound and its numbers; None: Morgan counts of the SMILES
    control: tuple[str, ...] = ("DMSO",)  # compounds that are the control
    unlabelled: Literal["drop", "compound"] = "drop"  # without a moa: left out, or the compound is its own


@dataclass(frozen=True, kw_only=True)
class ScaleConfig:
    """Light and brightness."""

    illumination: bool = True  # divide by the uneven light of the plate
    smoothing: float = 0.15  # of the light: sigma of the Gaussian, as a share of the shorter side of a field
    background: bool = True  # subtract the camera's dark level: the darkest 0.1 % of the plate
    low: float = 0.1  # percentile of the plate that becomes 0
    high: float = 99.9  # percentile of the plate that becomes 255
    stretch: Literal["plate", "crop"] = "plate"  # crop: each channel of each crop to 0..255, as published


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """Size of the crops, and which nuclei become one. Lengths in px of the crop."""

    crop: int = 96  # px
    pixel_size: float | None = None  # um a px of the fields, for --resolution
    resolution: float | None = None  # px of the crop a um; None: by the size of nuclei
    nucleus_diameter: float | None = None  # px of the fields, of a usual nucleus; None: measured
    crop_nucleus: float = 36.0  # px, what it becomes: the size that the embedded segmenter expects
    min_area: float = 250.0  # px^2, of a nucleus
    max_area: float = 6000.0
    max_blur: float = 3.0  # px, sigma of the blur of a nucleus's edge
    neighbours: Literal["keep", "mask"] = "keep"  # mask: blacken what is nearer to another nucleus


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Which cells are tested."""

    split_by: Literal["well", "plate", "compound"] = "well"
    test: float = 0.2  # share that is tested
    unseen: tuple[str, ...] | None = None  # held out (`evaluate --unseen`); None: CellFlux's eight, if there
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """From a microscope's fields of view to a folder of single cells."""

    folder: Positional[Path] = field(default_factory=lambda: Path("."))  # FIELDS, the folder of the images
    out: Path = Path("runs/cells")
    cache: Path | None = None  # folder for one packed copy of the cells, as other commands take it
    workers: int | None = None  # processes; None: one a core
    fields: FieldsConfig = FieldsConfig()
    treatments: TreatmentsConfig = TreatmentsConfig()
    scale: ScaleConfig = ScaleConfig()
    crops: CropConfig = CropConfig()
    split: SplitConfig = SplitConfig()
    segmenter: NucleusConfig = NucleusConfig()

    def __post_init__(self) -> None:
        fields, scale, crops = self.fields, self.scale, self.crops
        if (fields.images is None) == (fields.pattern is None):
            raise ValueError("need a table of fields (--images) or a --pattern of file names, and not both")
        if fields.nucleus not in {stain.partition("=")[0] for stain in fields.stains}:
            raise ValueError(f"--nucleus {fields.nucleus} is none of the stains {' '.join(fields.stains)}")
        if not 0 <= scale.low < scale.high <= 100 or scale.smoothing <= 0:
            raise ValueError(f"need percentiles 0 <= low < high <= 100 and smoothing > 0; got {scale}")
        if (crops.resolution is None) != (crops.pixel_size is None):
            raise ValueError("--resolution and --pixel-size go together: px of the crop a um, um a px of the fields")
        if crops.resolution is not None and crops.nucleus_diameter is not None:
            raise ValueError("--resolution and --nucleus-diameter both set the size of the cells: give one")
        optional = (crops.pixel_size, crops.resolution, crops.nucleus_diameter, self.workers)
        given = [value for value in optional if value is not None]
        if (
            min(crops.crop, crops.crop_nucleus, crops.max_area, crops.max_blur, *given) <= 0
            or crops.crop < 16
            or not 0 < self.split.test < 1
        ):
            raise ValueError("need lengths and workers above 0, a crop of at least 16 px, and a share --test in (0, 1)")


CELLPROFILER = PrepareConfig(
    fields=FieldsConfig(
        images=Path("load_data.csv"),
        stains=("actin=Actin", "tubulin=Tubulin", "DNA=DNA"),
        file_column="Image_FileName_{stain}",
        folder_column="Image_PathName_{stain}",
        plate_column="Metadata_Plate",
        well_column="Metadata_Well",
        site_column="Metadata_Site",
    ),
    treatments=TreatmentsConfig(compound_column="", dose_column="", moa=None),
)
JUMP = PrepareConfig(
    fields=replace(
        CELLPROFILER.fields,
        stains=("actin=OrigAGP", "tubulin=OrigER", "DNA=OrigDNA"),
        file_column="FileName_{stain}",
        folder_column="PathName_{stain}",
    ),
    treatments=replace(CELLPROFILER.treatments, control=("DMSO", "JCP2022_033924"), unlabelled="compound"),
)
PATTERN = PrepareConfig(
    fields=FieldsConfig(
        images=None,
        pattern="{plate}/{well}_s{site}_w{channel}*.tif",
        stains=("actin=3", "tubulin=2", "DNA=1"),
    ),
    treatments=TreatmentsConfig(compound_column="", dose_column="", moa=None),
)
PRESETS = {"bbbc021": PrepareConfig(), "cellprofiler": CELLPROFILER, "jump-loaddata": JUMP, "pattern": PATTERN}


def main(config: PrepareConfig) -> None:
    """Prepare the cells, write the tables and the manifest, print what became of every plate."""
    from algorithms.recipes.preparing import prepare

    prepare(config)


def estimate(config: PrepareConfig) -> Estimate:
    """Estimate the time of all fields from that of one."""
    from algorithms.recipes.preparing import estimate_preparing

    return estimate_preparing(config)


if __name__ == "__main__":
    from algorithms.cli import run

    run("prepare")

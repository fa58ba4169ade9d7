"""Phenotypes of the embedded world: shapes, densities and textures of cells per mechanism of action.

Twelve mechanisms with the compound names of BBBC021. The numbers follow the microscopy literature
qualitatively (large nuclei and few cells after DNA damage, small round monoasters under Eg5 inhibitors, ...);
they make a benchmark, not biology.
"""

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Phenotype:
    """Mean appearance of cells. Lengths in px, counts per cell or crop, intensities in arbitrary units."""

    nucleus_radius: float = 18.0
    nucleus_elongation: float = 1.2  # long axis / short axis
    nucleus_bumps: float = 0.03  # rms of the lobes of the outline / radius
    nucleus_offset: float = 0.9  # distance of nucleus and cell centre / free room in the cell
    extra_nuclei: float = 0.04  # mean number of nuclei beyond the first per cell
    cell_radius: float = 27.0
    cell_elongation: float = 1.25
    cell_bumps: float = 0.10
    spikes: float = 0.10  # length of protrusions / radius
    neighbours: float = 3.6  # mean number of other cells in the crop
    mitotic: float = 0.04  # probability that a cell is rounded up with condensed DNA
    dying: float = 2.0  # mean number of shrunken cells with condensed nuclei, if there is room
    dna_texture: float = 0.25
    actin_cortex: float = 0.9
    actin_fibres: float = 0.6
    actin_puncta: float = 0.10
    tubulin_fibres: float = 0.9
    tubulin_scale: float = 3.0  # distance of neighbouring filaments
    tubulin_extent: float = 1.0  # radius of the tubulin network / cell radius
    perinuclear: float = 0.5  # tubulin around the nucleus
    vacuoles: float = 0.0  # dark holes in the cytoplasm


UNTREATED = Phenotype()

MECHANISMS: dict[str, Phenotype] = {
    "Actin disruptors": Phenotype(
        cell_radius=21, cell_elongation=1.05, spikes=0.45, extra_nuclei=0.4, neighbours=2.2, dying=3.0,
        actin_cortex=0.25, actin_fibres=0.05, actin_puncta=1.4, vacuoles=0.5,
    ),
    "Aurora kinase inhibitors": Phenotype(
        nucleus_radius=25, nucleus_bumps=0.15, extra_nuclei=0.35, cell_radius=34, neighbours=0.9, dying=2.4,
        dna_texture=0.45,
    ),
    "Cholesterol-lowering": Phenotype(
        nucleus_radius=15.5, nucleus_elongation=1.55, cell_radius=21, cell_elongation=2.3, spikes=0.5, neighbours=2.2,
        actin_fibres=0.3, perinuclear=0.9,
    ),
    "DNA damage": Phenotype(
        nucleus_radius=24, nucleus_elongation=1.3, cell_radius=35, cell_bumps=0.13, neighbours=0.6, dying=3.5,
        dna_texture=0.12, actin_fibres=1.0,
    ),
    "DNA replication": Phenotype(
        nucleus_radius=22, nucleus_elongation=1.4, nucleus_bumps=0.06, cell_radius=26, neighbours=1.2, dying=2.8,
        dna_texture=0.6, actin_cortex=0.7,
    ),
    "Eg5 inhibitors": Phenotype(
        nucleus_radius=14.5, cell_radius=20, neighbours=1.8, mitotic=0.85, dying=2.4, spikes=0.2, actin_cortex=1.2,
        perinuclear=1.0,
    ),
    "Epithelial": Phenotype(
        nucleus_radius=15.5, nucleus_elongation=1.1, cell_radius=21, cell_elongation=1.05, cell_bumps=0.05, spikes=0.0,
        neighbours=6.0, dying=1.2, actin_cortex=2.0, actin_fibres=0.2,
    ),
    "Kinase inhibitors": Phenotype(
        nucleus_radius=17, cell_radius=25, cell_bumps=0.16, spikes=0.8, neighbours=2.4, actin_fibres=1.3,
        perinuclear=0.1, tubulin_fibres=0.6,
    ),
    "Microtubule destabilizers": Phenotype(
        nucleus_radius=12.5, nucleus_bumps=0.08, extra_nuclei=1.7, cell_radius=23, neighbours=1.5, mitotic=0.15,
        dying=3.2, tubulin_fibres=0.05, tubulin_extent=0.72, perinuclear=0.3, actin_puncta=0.3,
    ),
    "Microtubule stabilizers": Phenotype(
        nucleus_radius=15, nucleus_bumps=0.12, extra_nuclei=1.0, cell_radius=28, neighbours=1.5, tubulin_fibres=2.2,
        tubulin_scale=6.5, perinuclear=0.2, actin_cortex=0.6,
    ),
    "Protein degradation": Phenotype(
        nucleus_radius=17, cell_radius=18, cell_elongation=1.4, spikes=0.3, neighbours=1.0,
        mitotic=0.1, dying=4.5, perinuclear=2.0, tubulin_fibres=0.4, vacuoles=0.2,
    ),
    "Protein synthesis": Phenotype(
        nucleus_radius=15.5, nucleus_elongation=1.15, cell_radius=20, cell_bumps=0.06, spikes=0.05, neighbours=3.4,
        dying=3.0, dna_texture=0.05, actin_cortex=0.5, actin_fibres=0.2, tubulin_fibres=0.35, perinuclear=0.7,
    ),
}  # fmt: skip

SEEN: dict[str, tuple[str, ...]] = {
    "Actin disruptors": ("cytochalasin B",),
    "Aurora kinase inhibitors": ("AZ258",),
    "Cholesterol-lowering": ("mevinolin/lovastatin",),
    "DNA damage": ("chlorambucil", "cisplatin", "etoposide", "mitomycin C"),
    "DNA replication": ("camptothecin", "floxuridine", "methotrexate", "mitoxantrone"),
    "Eg5 inhibitors": ("AZ138",),
    "Epithelial": ("PP-2",),
    "Kinase inhibitors": ("PD-169316", "alsterpaullone", "bryostatin"),
    "Microtubule destabilizers": ("colchicine", "demecolcine", "nocodazole", "vincristine"),
    "Microtubule stabilizers": ("taxol",),
    "Protein degradation": ("ALLN", "MG-132", "proteasome inhibitor I"),
    "Protein synthesis": ("anisomycin", "emetine"),
}
UNSEEN: dict[str, tuple[str, ...]] = {
    "Actin disruptors": ("cytochalasin D", "latrunculin B"),
    "Aurora kinase inhibitors": ("AZ841",),
    "Cholesterol-lowering": ("simvastatin",),
    "Microtubule stabilizers": ("docetaxel", "epothilone B"),
    "Protein degradation": ("lactacystin",),
    "Protein synthesis": ("cyclohexamide",),
}


def blend(phenotype: Phenotype, strength: float) -> Phenotype:
    """UNTREATED + strength (phenotype - UNTREATED) per field, clipped at 0; strength 1 is the full effect."""

    def mix(name: str) -> float:
        start = getattr(UNTREATED, name)
        return start + strength * (getattr(phenotype, name) - start)

    return Phenotype(**{field.name: max(mix(field.name), 0.0) for field in fields(Phenotype)})

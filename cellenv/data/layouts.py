"""Layouts of the data sets of IMPA and CellFlux: files, columns, channels and the matching network.

ImagingCells(DATA, "train", layout=RXRX1)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from cellenv.images import CHANNELS
from cellenv.networks import PRESETS as NETWORKS
from cellenv.networks import UNetConfig

BBBC021_UNSEEN = (
    *("AZ841", "cyclohexamide", "cytochalasin D", "docetaxel"),
    *("epothilone B", "lactacystin", "latrunculin B", "simvastatin"),
)  # held out by CellFlux
STATES = {"1": True, "trt": True, "0": False, "control": False}  # value of the state column -> treated
STATE_NAMES = {"treated": True, "control": False, "ignored": None}  # of `rename_values`


def week_plate_name(key: str) -> str:
    """Week6_31661_6_246_80.0 -> Week6/31661/6_246_80.0.npy"""
    week, plate, name = key.split("_", 2)
    return f"{week}/{plate}/{name}.npy"


def cell_plate_well_name(key: str) -> str:
    """U2OS-01_2_B03_1_7 -> 01_2/B03/1_7.npy (batch and plate, well, name)"""
    _, location = key.split("-", 1)
    batch, plate, well, name = location.split("_", 3)
    return f"{batch}_{plate}/{well}/{name}.npy"


def plate_well_name(key: str) -> str:
    """BR00116991_A01_s1_4_2 -> BR00116991/A01_s1/A01_s1_4_2.npy"""
    plate, name = key.split("_", 1)
    well, site, *_ = name.split("_")
    return f"{plate}/{well}_{site}/{name}.npy"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Names that a data set on disk uses.

    index, embedding: the two CSV files: glob patterns in the folder itself or in its subfolder `metadata`, or absolute
        paths.
    file: SAMPLE_KEY -> path in the folder; ValueError for a malformed key. Errors show the function's name.
    compound: column of the compound. state: column of treated or control.
    pairing: column that a treated image shares with its controls, the plate or batch.
    label: column of the mechanism of action (MoA), None if there is none.
    states: value of the state column -> treated; images with None are dropped.
    splits: value of the column SPLIT -> train or test, where it has other names.
    stains: the image channels, in order.
    nucleus: stain that shows nuclei. cytoplasm: one or two stains that show cells, used as actin and tubulin.
    unseen: held-out compounds.
    network: name of the network in `cellenv.networks.PRESETS`.
    """

    index: str
    embedding: str
    file: Callable[[str], str]
    compound: str = "CPD_NAME"
    pairing: str
    state: str = "STATE"
    label: str | None
    states: Mapping[str, bool | None]
    splits: Mapping[str, str] = field(default_factory=dict)
    stains: tuple[str, ...]
    nucleus: str
    cytoplasm: tuple[str, ...]
    unseen: tuple[str, ...] = ()
    network: str

    @property
    def channels(self) -> tuple[str, ...]:
        """Channel names: the stains, with those in the roles of DNA, actin and tubulin renamed to these.

        A stain of such a name without its role is called "actin stain", so that it segments nothing.
        """
        roles = {self.nucleus: "DNA"} | dict(zip(self.cytoplasm, ("actin", "tubulin")))
        idle = {name: f"{name} stain" for name in CHANNELS}
        return tuple((roles if stain in roles else idle).get(stain, stain) for stain in self.stains)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the table must have."""
        label = () if self.label is None else (self.label,)
        return ("SAMPLE_KEY", "SPLIT", self.compound, self.pairing, self.state, *label)

    @property
    def unet(self) -> UNetConfig:
        """Config of the published network, with its image size and condition size."""
        return NETWORKS[self.network]


BBBC021 = Layout(
    index="*_df_all.csv",
    embedding="emb_*.csv",
    file=week_plate_name,
    pairing="BATCH",
    label="ANNOT",
    states=STATES,
    stains=("actin", "tubulin", "DNA"),
    nucleus="DNA",
    cytoplasm=("actin", "tubulin"),
    unseen=BBBC021_UNSEEN,
    network="cellflux-bbbc021",
)
RXRX1 = Layout(
    index="rxrx1_df*.csv",
    embedding="*embeddings.csv",
    file=cell_plate_well_name,
    pairing="BATCH",
    state="ANNOT",
    label=None,
    states={"treated": True, "negative_control": False, "positive_control": None},
    stains=("DNA", "ER", "actin", "RNA", "mitochondria", "Golgi"),
    nucleus="DNA",
    cytoplasm=("actin", "ER"),
    network="cellflux-rxrx1",
)
JUMP = Layout(  # cpg0000; the published crops do not name their channels: the order of its microscope is assumed
    index="metadata*.csv",
    embedding="*embeddings.csv",
    file=plate_well_name,
    compound="BROAD_SAMPLE",
    pairing="PLATE",
    label=None,
    states=STATES,
    stains=("mitochondria", "AGP", "RNA", "ER", "DNA"),
    nucleus="DNA",
    cytoplasm=("AGP", "ER"),
    network="cellflux-jump",
)
LAYOUTS = {"bbbc021": BBBC021, "rxrx1": RXRX1, "jump": JUMP}


def rename_values(layout: Layout, splits: str | None = None, states: str | None = None) -> Layout:
    """The layout of a table with other values in the columns of split and state.

    splits: as "train=iid,test=ood". states: as "treated=compound,control=negcon,ignored=poscon".

    Raises:
        ValueError: an entry has another form, or names something else than train and test, or these three states.
    """
    return replace(
        layout,
        splits=dict(layout.splits) | {value: name for name, value in _entries(splits, ("train", "test"))},
        states=dict(layout.states) | {value: STATE_NAMES[name] for name, value in _entries(states, tuple(STATE_NAMES))},
    )


def _entries(text: str | None, names: tuple[str, ...]) -> list[tuple[str, str]]:
    """(NAME, VALUE) of each entry of "NAME=VALUE,NAME=VALUE"."""
    found = [(name, value) for name, _, value in (entry.partition("=") for entry in (text or "").split(",") if entry)]
    if any(name not in names or not value for name, value in found):
        raise ValueError(f"need entries NAME=VALUE, by commas, with a name of {', '.join(names)}; got {text!r}")
    return found

"""The embedded world: the pretrained generator shipped with the library, and its synthetic cells."""

from cellenv.data.synthetic import Split, SyntheticCells
from cellenv.generator import CellFlux


def load_embedded(split: Split = "train", *, unseen: bool = False) -> tuple[CellFlux, SyntheticCells]:
    """(generator, data): the shipped base generator, and one split of the world that it was trained on.

    split, unseen: as in `SyntheticCells`. The generator saw neither the test split nor the unseen compounds.
    """
    return CellFlux.from_pretrained("embedded"), SyntheticCells(split, unseen=unseen)

"""The embedded world in one call: its small pretrained generator and its cells."""

from cellenv.data.synthetic import Split, SyntheticCells
from cellenv.generator import CellFlux


def load_embedded(split: Split = "train", *, unseen: bool = False) -> tuple[CellFlux, SyntheticCells]:
    """(generator, data): the base generator shipped with the library and one split of the world it was trained on.

    split, unseen: as in `SyntheticCells`. The generator never saw the test split or the unseen compounds.
    """
    return CellFlux.from_pretrained("embedded"), SyntheticCells(split, unseen=unseen)

"""Train and test split of wells: a cell's neighbours, and its well, are never on both sides.

Every plate that has treated cells of a split needs controls of that split too.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np

By = Literal["well", "plate", "compound"]
T = TypeVar("T")
HOW_TO_TEST = "`prepare` needs a plate with two wells of the control, or two plates and --split-by plate"


class Well(NamedTuple):
    """A well with cells: its plate, name and compound."""

    plate: str
    name: str
    compound: str
    is_control: bool


def split_wells(
    wells: Sequence[Well], by: By, test: float, unseen: Collection[str], seed: int
) -> dict[tuple[str, str], str]:
    """{(plate, well): "train" or "test"}.

    by: "well": of every compound a share of its wells is tested, at least one if there are two; "plate": a share of the
    plates; "compound": a share of the compounds, whole. test: that share. unseen: compounds that are tested whole.
    Controls follow their plate for "plate", otherwise a share of every plate's control wells is tested; a plate with
    one control well has no test, and trains on all its wells but those of compounds that are tested whole.

    Raises:
        ValueError: if there is nothing to choose from: one plate for "plate", one compound for "compound".
    """
    rng = np.random.default_rng((seed, 5))
    plates = sorted({well.plate for well in wells})
    if by == "plate":
        tested = _choose(plates, test, rng, "plates")
        return {(well.plate, well.name): _side(well.plate in tested) for well in wells}
    tested_controls: set[tuple[str, str]] = set()
    single = set()
    for plate in plates:
        controls = sorted(well.name for well in wells if well.plate == plate and well.is_control)
        if len(controls) < 2:
            single.add(plate)
        else:
            tested_controls |= {(plate, name) for name in _choose(controls, test, rng, "control wells")}
    treated = [well for well in wells if not well.is_control and well.plate not in single]
    compounds = sorted({well.compound for well in treated} - set(unseen))
    whole = {*unseen, *(_choose(compounds, test, rng, "compounds") if by == "compound" else ())}
    tested_wells = {(well.plate, well.name) for well in wells if not well.is_control and well.compound in whole}
    if by == "well":
        for compound in compounds:
            own = sorted((well.plate, well.name) for well in treated if well.compound == compound)
            if len(own) > 1:
                tested_wells |= _choose(own, test, rng, "wells")
    tested_all = tested_controls | tested_wells
    return {(well.plate, well.name): _side((well.plate, well.name) in tested_all) for well in wells}


def without_controls(wells: Iterable[Well], split: dict[tuple[str, str], str]) -> set[tuple[str, str]]:
    """Treated wells whose plate holds no control of their split: their cells cannot be paired."""
    wells = list(wells)
    paired = {(well.plate, split[well.plate, well.name]) for well in wells if well.is_control}
    return {(well.plate, well.name) for well in wells if (well.plate, split[well.plate, well.name]) not in paired}


def _choose(items: Sequence[T], share: float, rng: np.random.Generator, what: str) -> set[T]:
    """A random share of the items, at least one and not all."""
    if len(items) < 2:
        raise ValueError(f"need at least two {what} to split them; got {len(items)}: choose another --split-by")
    count = min(max(1, round(share * len(items))), len(items) - 1)
    return {items[i] for i in rng.permutation(len(items))[:count]}


def _side(is_tested: bool) -> str:
    return "test" if is_tested else "train"

"""The contexts that a page shows: pictures of all rows, and what is far off in each."""

from collections.abc import Mapping
from typing import NamedTuple

from algorithms.evaluation.evaluated_cells import CellPicture, EvaluatedCells, Group, ShownContext
from algorithms.evaluation.headline import shown_pairs
from algorithms.evaluation.pages.violations import far_off, limits
from algorithms.evaluation.report import number
from algorithms.evaluation.statistics import Figures

GROUPS: tuple[Group, ...] = ("largest gain", "random", "largest loss")


class Picture(NamedTuple):
    """A picture of a card: its row, alternative text, total, and the rewards that are far off."""

    row: str
    picture: CellPicture
    text: str
    total: str
    far_off: list[str]


class Card(NamedTuple):
    """A context: its pictures, and a table of its rewards in all rows (text, whether it is far off).

    gain: in total, of the first trained row, as text.
    """

    mechanism: str
    compound: str
    group: Group
    gain: str
    pictures: list[Picture]
    rewards: list[tuple[str, list[tuple[str, bool]]]]


def cards(cells: EvaluatedCells, evaluation: Figures) -> list[Card]:
    """The contexts that are shown, by class in the order of the alphabet, once for each group they stand in."""
    limit = limits(cells, evaluation["rewards"])
    found = [_card(cells, shown, group, evaluation, limit) for shown in cells.shown for group in shown.groups]
    return sorted(found, key=lambda card: (GROUPS.index(card.group) == 2, card.mechanism, GROUPS.index(card.group)))


def _card(
    cells: EvaluatedCells, shown: ShownContext, group: Group, evaluation: Figures, limit: Mapping[str, float]
) -> Card:
    i, rows = shown.context, [row for row in shown.pictures if row in cells.values]
    compound, mechanism = cells.compounds[i], cells.classes[i]
    weights = {reward["name"]: (reward["label"], reward["weight"]) for reward in evaluation["rewards"]}
    first = {row: {name: values[i][0] for name, values in cells.values[row].items()} for row in rows}
    worse = {
        row: [n for n, (_, weight) in weights.items() if n in limit and far_off(first[row].get(n), limit[n], weight)]
        for row in rows
    }
    table = [
        (label, [(number(first[row].get(name), decimals=2), name in worse[row]) for row in rows])
        for name, (label, _) in {"total": ("total", 1.0), **weights}.items()
    ]
    pictures = []
    for row, picture in shown.pictures.items():
        total = number(first[row]["total"], decimals=2) if row in first else ""
        off = [weights[name][0] for name in worse.get(row, ())]
        texts = [f"{row}, {compound}", *([f"total {total}"] if total else []), *(f"{name} far off" for name in off)]
        pictures.append(Picture(row, picture, "; ".join(texts), total, off))
    trained = [pair.row for pair in shown_pairs(evaluation) if pair.baseline == "base" and pair.row in first]
    values = [first[row]["total"] for row in (*trained[:1], "base") if row in first]
    known = len(values) == 2 and None not in values
    whose = f"{trained[0]} " if len(trained) > 1 else ""
    gain = f"{whose}gain {number(values[0] - values[1], sign=True, decimals=2)}" if known else ""  # type: ignore[operator]
    return Card(mechanism, compound, group, gain, pictures, table)

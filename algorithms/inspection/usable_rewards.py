"""Which rewards a folder of cells allows, what they are conditioned on there, and why others cannot be used."""

from collections.abc import Sequence
from dataclasses import dataclass

from cellenv.data.inspection.findings import Inspection
from rewards.suite.spec import SUITE, RewardSpec


@dataclass(frozen=True, kw_only=True)
class RewardRow:
    """A reward. conditioned_on: "MoA", "compound", "controls" or "nothing"; why: what it needs, or lacks."""

    label: str
    usable: bool
    conditioned_on: str
    why: str


def reward_rows(inspection: Inspection, suite: Sequence[RewardSpec] = SUITE) -> list[RewardRow]:
    """One row for each reward of the suite."""
    return [_reward_row(spec, inspection) for spec in suite]


def _reward_row(spec: RewardSpec, inspection: Inspection) -> RewardRow:
    few = sum(row.cells.get("train", 0) < inspection.min_cells for row in inspection.classes)
    enough = f"{len(inspection.classes) - few} of {len(inspection.classes)} have {inspection.min_cells} images"
    usable, condition, why = True, "nothing", "needs the segmenter alone"
    if "classifier" in spec.needs:
        usable, condition = inspection.labelled, "MoA"
        why = "--classifier, by `fit classifier`" if usable else "the table names no mechanisms of action"
    elif "reference" in spec.needs and inspection.labelled:
        condition, why = "MoA", f"--reference, by `fit reference`; {enough}"
    elif "reference" in spec.needs and few < len(inspection.classes):
        condition, why = "compound", f"--reference, by `fit reference --by compound`; {enough}"
    elif "reference" in spec.needs:
        condition, why = "controls", "--reference, by `fit reference --by controls`, as no compound has images enough"
    return RewardRow(label=spec.label, usable=usable, conditioned_on=condition, why=why)

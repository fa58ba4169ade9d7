"""What the table of rewards says is what `build_rewards` makes of such cells."""

from dataclasses import replace

from algorithms.inspection.usable_rewards import reward_rows
from cellenv.data.inspection.inspect_folder import CellFolder, inspect_folder
from cellenv.data.layouts import BBBC021
from rewards.reference import Reference
from rewards.suite.spec import SUITE, condition_on, without_moa
from tests.cellenv.data.inspection.folders import write_sound


def rows_of(folder, **options):
    return reward_rows(inspect_folder(CellFolder.read(folder, **options)))


def test_rewards_are_conditioned_on_what_the_cells_allow(tmp_path):
    write_sound(tmp_path)
    labelled = rows_of(tmp_path)
    assert all(row.usable for row in labelled)
    assert {row.conditioned_on for row in labelled} == {"MoA", "nothing"} and "0 of 2 have 30" in labelled[-1].why
    bare = replace(BBBC021, label=None)
    by_compound = rows_of(tmp_path, layout=bare, min_cells=2)
    usable = without_moa(condition_on(SUITE, replace(Reference.load(), by="compound")))
    assert [row.label for row in by_compound if row.usable] == [spec.label for spec in usable]
    assert [row.conditioned_on for row in by_compound if row.usable] == [spec.conditioned_on for spec in usable]
    assert {row.conditioned_on for row in rows_of(tmp_path, layout=bare) if row.usable} == {"nothing", "controls"}

from collections import Counter

import pytest

from cellenv.data.prepare.splits import Well, split_wells, without_controls


def plate(name, compounds=("a", "b", "c"), controls=4, replicates=5):
    wells = [Well(name, f"Z{k}", "DMSO", True) for k in range(controls)]
    return wells + [Well(name, f"{c}{k}", c, False) for c in compounds for k in range(replicates)]


WELLS = [*plate("p"), *plate("q")]


def sides(wells, split):
    return Counter((well.plate if well.is_control else well.compound, split[well.plate, well.name]) for well in wells)


def test_by_well_every_compound_and_the_controls_of_every_plate_are_on_both_sides():
    split = split_wells(WELLS, "well", 0.2, (), seed=0)
    assert sides(WELLS, split) == {
        **{(c, "train"): 8 for c in "abc"},
        **{(c, "test"): 2 for c in "abc"},
        **{(p, "train"): 3 for p in "pq"},
        **{(p, "test"): 1 for p in "pq"},
    }
    assert split == split_wells(WELLS[::-1], "well", 0.2, (), seed=0) != split_wells(WELLS, "well", 0.2, (), seed=1)
    assert without_controls(WELLS, split) == set()


def test_unseen_compounds_are_tested_whole():
    split = split_wells(WELLS, "well", 0.2, ("b",), seed=0)
    assert sides(WELLS, split)["b", "test"] == 10 and sides(WELLS, split)["a", "test"] == 2


def test_by_plate_and_by_compound():
    split = split_wells(WELLS, "plate", 0.2, (), seed=0)
    assert len({split[well.plate, well.name] for well in WELLS if well.plate == "p"}) == 1
    assert set(split.values()) == {"train", "test"}
    split = split_wells(WELLS, "compound", 0.2, ("c",), seed=0)
    counts = sides(WELLS, split)
    assert counts["c", "test"] == 10 and {counts["a", "test"], counts["b", "test"]} == {0, 10}
    assert counts["p", "test"] == 1
    for by in ("plate", "compound"):
        with pytest.raises(ValueError, match=f"at least two {by}s"):
            split_wells(plate("p", compounds=("a",)), by, 0.2, (), seed=0)


def test_a_plate_with_one_control_well_is_trained_on():
    wells = [*WELLS, *plate("r", controls=1), *plate("s", controls=0)]
    split = split_wells(wells, "well", 0.5, ("b",), seed=0)
    assert {split[well.plate, well.name] for well in wells if well.plate in "rs" and well.compound != "b"} == {"train"}
    on_r = {("r", f"b{k}") for k in range(5)}
    assert without_controls(wells, split) == {(w.plate, w.name) for w in plate("s", controls=0)} | on_r


@pytest.mark.parametrize(("by", "unseen"), [("compound", ()), ("well", ("b",)), ("compound", ("c",))])
def test_a_compound_that_is_tested_whole_is_trained_on_nowhere(by, unseen):
    wells = [*WELLS, *plate("r", controls=1)]
    split = split_wells(wells, by, 0.3, unseen, seed=0)
    of = {c: {split[well.plate, well.name] for well in wells if well.compound == c} for c in "abc"}
    whole = {c for c, found in of.items() if found == {"test"}}
    assert whole > set(unseen) if by == "compound" else whole == set(unseen)
    assert all(found == {"train"} for c, found in of.items() if c not in whole and by == "compound")


def test_a_compound_of_one_well_is_trained_on():
    wells = [*WELLS, Well("p", "d0", "d", False)]
    assert split_wells(wells, "well", 0.9, (), seed=0)["p", "d0"] == "train"

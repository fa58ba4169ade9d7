import pytest
import torch

from tests.cellenv.toy_cells import ToyCells, UnlabelledCells


@pytest.fixture
def cells():
    return ToyCells()


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_every_control_of_the_plate_is_drawn_and_no_other(cells):
    for plate in range(5):
        drawn = cells.draw_controls(torch.full((300,), plate), rng())
        expected = [i for i in range(60) if i % 6 < 2 and i % 5 == plate]
        assert sorted(set(drawn.tolist())) == expected


def test_controls_are_drawn_for_each_entry(cells):
    plate = torch.tensor([4, 0, 0, 3, 1, 2, 4])
    assert torch.equal(cells.plate[cells.draw_controls(plate, rng())], plate)


def test_every_treated_row_is_drawn_and_no_control(cells):
    drawn = cells.draw_treated(2000, rng())
    assert sorted(set(drawn.tolist())) == [i for i in range(60) if i % 6 >= 2]


def test_contexts_of_controls_alone_are_refused_when_they_are_drawn(cells):
    cells.perturbation = torch.full((60,), -1)
    with pytest.raises(ValueError, match=r"need treated images .* these 60 images are controls"):
        cells.draw_contexts(2, rng())


def test_contexts_apply_the_compounds_to_controls_of_the_same_plates(cells):
    treated = cells.treated[[3, 17, 8, 30]]
    td = cells.contexts(treated, rng())
    assert torch.equal(td["perturbation"], cells.perturbation[treated])
    assert torch.equal(td["condition"], cells.conditions[td["perturbation"]])
    assert torch.equal(td["moa"], cells.compound_moa[td["perturbation"]])
    assert torch.equal(td["plate"], cells.plate[treated])
    for x0, plate in zip(td["x0"], td["plate"], strict=True):
        row = int((cells.pixels == x0).flatten(1).all(1).nonzero())
        assert cells.perturbation[row] == -1 and cells.plate[row] == plate
    assert len(td["seed"].unique()) == 4


def test_same_stream_same_contexts(cells):
    assert (cells.draw_contexts(20, rng(1)) == cells.draw_contexts(20, rng(1))).all()
    assert not torch.equal(cells.draw_contexts(20, rng(1))["seed"], cells.draw_contexts(20, rng(2))["seed"])


def test_without_mechanisms_contexts_have_no_moa(cells):
    cells.moas = ()
    assert "moa" not in cells.draw_contexts(2, rng()).keys()


def test_contexts_of_controls_are_refused(cells):
    with pytest.raises(ValueError, match="these hold a control"):
        cells.contexts(torch.tensor([2, 0]), rng())


def test_a_plate_without_controls_is_named(cells):
    with pytest.raises(ValueError, match="plate 5 holds no control"):
        cells.draw_controls(torch.tensor([0, 5]), rng())
    cells = ToyCells()
    cells.plate = torch.where(torch.isin(torch.arange(60), torch.tensor([2, 9])), 7, cells.plate)
    with pytest.raises(ValueError, match=r"image cell2: its plate holds no control.* 1 other treated"):
        cells.draw_contexts(1, rng())


def test_compounds_are_found_by_name(cells):
    assert cells.compound_id("d/e") == 3
    with pytest.raises(ValueError, match="unknown compound 'aspirin'; this data set has a, b, c, d/e"):
        cells.compound_id("aspirin")


def test_an_unknown_mechanism_is_called_so():
    cells = ToyCells()
    cells.compound_moa = torch.tensor([0, -1, 1, 0])
    contexts = cells.contexts_of(torch.tensor([1, 2, 0]), cells.controls[:3], rng())
    assert cells.moa_names(contexts["perturbation"]) == cells.class_names(contexts) == ["unknown", "q", "p"]


def test_cells_without_mechanisms_are_named_by_their_compounds():
    cells = UnlabelledCells()
    contexts = cells.contexts_of(torch.tensor([3, 0]), cells.controls[:2], rng())
    assert cells.moa_names(contexts["perturbation"]) == ["unknown"] * 2 and cells.class_names(contexts) == ["d/e", "a"]

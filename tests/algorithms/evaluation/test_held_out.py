import pytest
import torch

from algorithms.evaluation.held_out import count_pairs, held_out, split_pairs
from tests.algorithms.nft_toys import DATA


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_references_are_other_images_of_the_same_compounds():
    compound = torch.randint(5, (100,), generator=rng())
    rows, references = split_pairs(compound, 40, rng(1))
    assert torch.equal(compound[rows], compound[references])
    assert len(set(rows.tolist()) | set(references.tolist())) == 80


def test_compounds_share_the_contexts_equally_as_far_as_their_images_go():
    compound = torch.cat([torch.zeros(1000), torch.ones(21), torch.full((7,), 2)]).long()
    shares = torch.bincount(compound[split_pairs(compound, 9, rng())[0]])
    assert shares.tolist() == [3, 3, 3]
    shares = torch.bincount(compound[split_pairs(compound, 30, rng())[0]])
    assert shares.tolist() == [17, 10, 3]  # compound 2 has three pairs, compound 1 ten


def test_pairs_depend_on_the_generator_alone_and_their_order_on_no_compound():
    compound = torch.arange(12).repeat_interleave(4)
    assert torch.equal(split_pairs(compound, 24, rng(1))[0], split_pairs(compound, 24, rng(1))[0])
    first = [int(compound[split_pairs(compound, 1, rng(seed))[0]]) for seed in range(30)]
    assert len(set(first)) > 6
    order = compound[split_pairs(compound, 24, rng())[0]]
    assert (torch.bincount(order, minlength=12) == 2).all()
    assert len(order[:12].unique()) < 12  # not dealt round by round
    assert not order.equal(order.sort().values)


@pytest.mark.parametrize("n", [0, 5])
def test_wrong_number_of_contexts_is_refused_with_what_there_is(n):
    with pytest.raises(ValueError, match=f"need {n} pairs of treated images of one compound, there are 4"):
        split_pairs(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1]), n, rng())


def test_contexts_are_those_of_the_rows_with_a_control_of_the_same_plate():
    n = count_pairs(DATA)
    contexts, rows, references = held_out(DATA, n, seed=3)
    assert (DATA.perturbation[rows] >= 0).all() and len(set(rows.tolist()) | set(references.tolist())) == 2 * n
    assert contexts["perturbation"].equal(DATA.perturbation[rows])
    assert contexts["perturbation"].equal(DATA.perturbation[references])
    assert contexts["plate"].equal(DATA.plate[rows]) and contexts["plate"].equal(DATA.plate[contexts["control"]])
    assert (DATA.perturbation[contexts["control"]] < 0).all()
    assert contexts["x0"].equal(DATA.images(contexts["control"]))


def test_all_pairs_can_be_drawn_and_the_seed_decides_which_come_first():
    n = count_pairs(DATA)
    with pytest.raises(ValueError, match=f"need {n + 1} pairs"):
        held_out(DATA, n + 1, seed=0)
    first, again, other = (held_out(DATA, 5, seed=seed) for seed in (0, 0, 1))
    assert (first[0] == again[0]).all() and first[1].equal(again[1]) and not first[1].equal(other[1])

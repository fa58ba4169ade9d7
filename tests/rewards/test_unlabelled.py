"""Data whose table names no mechanism of action: what asks for it says which column is needed."""

import pytest
import torch
from tensordict import TensorDict
from torch import nn

from rewards.classifier import MoAClassifier
from rewards.reference import Reference
from rewards.suite import CellCount, MoAProbability, NucleusInCytoplasm, NucleusSize, Roundness
from rewards.transforms import CELLS, NUCLEI

REFERENCE = Reference(moas=("p",), count=torch.tensor([9]), mean={}, std={}, about={})


@pytest.fixture
def scored():
    labels = torch.ones(2, 16, 16, dtype=torch.int32)
    return TensorDict({"action": torch.zeros(2, 3, 16, 16), NUCLEI: labels, CELLS: labels}, [2])


@pytest.mark.parametrize(
    "reward", [MoAProbability(nn.Identity()), Roundness(REFERENCE), NucleusSize(REFERENCE), CellCount(REFERENCE)]
)
def test_rewards_that_ask_for_the_moa_name_the_column(reward, scored):
    with pytest.raises(ValueError, match=f"reward '{reward.out_keys[0][1]}' needs 'moa'.*column.*ANNOT"):
        reward(scored)


def test_containment_needs_no_moa(scored):
    assert NucleusInCytoplasm()(scored)["rewards", "containment"].tolist() == [[1], [1]]


def test_what_is_fitted_on_labels_names_the_column():
    with pytest.raises(ValueError, match=r"column.*ANNOT"):
        Reference.fit({"roundness": torch.rand(4)}, torch.full((4,), -1), ())
    with pytest.raises(ValueError, match=r"column.*ANNOT"):
        MoAClassifier(())

import doctest

import pytest
import torch
from tensordict import TensorDict

import rewards.suite.count
from rewards.shaping import square
from rewards.suite.count import CellCount, NucleusCount
from tests.rewards.reward_toys import REFERENCE, z_score


@pytest.mark.parametrize(("build", "name"), [(NucleusCount, "nucleus_count"), (CellCount, "cell_count")])
def test_each_count_is_judged_by_its_own_measure_and_moa(build, name):
    counts = {"nucleus_count": torch.full((3,), 9.0), "cell_count": torch.full((3,), 9.0)}
    counts[name] = torch.tensor([0.0, 1.0, 2.0])
    td = TensorDict({"measures": TensorDict(counts, [3]), "moa": torch.tensor([0, 0, 5])}, [3])
    found = build(REFERENCE, square)(td)["rewards", name].squeeze(1)
    expected = [-(z_score(name, value, moa) ** 2) for value, moa in ((0, 0), (1, 0), (2, 5))]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_a_population_that_the_reference_does_not_know_is_not_scored():
    measures = TensorDict({"cell_count": torch.tensor([0.0, 1.0])}, [2])
    reference = REFERENCE.arrange(("new", *REFERENCE.populations))
    td = CellCount(reference)(TensorDict({"measures": measures, "moa": torch.tensor([0, 1])}, [2]))
    assert td["rewards", "cell_count"].isnan().tolist() == [[True], [False]]


def test_the_example_of_the_documentation():
    assert doctest.testmod(rewards.suite.count).failed == 0

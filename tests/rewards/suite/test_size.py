import doctest

import pytest
import torch
from tensordict import TensorDict

import rewards.suite.size
from rewards.shaping import dead_zone, square
from rewards.suite.size import CellSize, NucleusSize
from tests.rewards.reward_toys import REFERENCE, z_score

NAN = torch.nan


def reward_of(reward, **measures):
    measures = TensorDict({name: torch.tensor(value) for name, value in measures.items()}, [3])
    return reward(TensorDict({"measures": measures, "moa": torch.tensor([0, 4, 0])}, [3]))["rewards"]


@pytest.mark.parametrize(
    ("build", "name", "measure", "areas"),
    [
        (NucleusSize, "nucleus_size", "nucleus_area_max", [350.0, 500.0, NAN]),
        (CellSize, "cell_size", "cell_area_max", [1900.0, 3000.0, NAN]),
    ],
)
def test_each_size_is_judged_by_its_own_measure_and_moa(build, name, measure, areas):
    others = {"nucleus_area_max": [1.0] * 3, "cell_area_max": [1.0] * 3}
    found = reward_of(build(REFERENCE, square), **others | {measure: areas})[name].squeeze(1)
    expected = [-(z_score(measure, areas[0], 0) ** 2), -(z_score(measure, areas[1], 4) ** 2), -25.0]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_another_shaping():
    found = reward_of(CellSize(REFERENCE, dead_zone), cell_area_max=[2100.0, NAN, 2600.0])["cell_size"]
    torch.testing.assert_close(found, torch.tensor([[0.0], [-16.0], [-1.0]]))


def test_a_population_that_the_reference_does_not_know_is_not_scored_with_an_object_or_without():
    reference = REFERENCE.arrange(("new", *REFERENCE.populations))
    found = reward_of(NucleusSize(reference), nucleus_area_max=[NAN, NAN, 400.0])["nucleus_size"].squeeze(1)
    assert found.isnan().tolist() == [True, False, True] and found[1] == -25


def test_the_example_of_the_documentation():
    assert doctest.testmod(rewards.suite.size).failed == 0

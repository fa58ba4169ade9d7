import doctest

import pytest
import torch
from tensordict import TensorDict

import rewards.suite.roundness
from rewards.shaping import dead_zone, square
from rewards.suite.roundness import Roundness
from tests.rewards.reward_toys import REFERENCE, z_score


def reward_of(roundness, nucleus_count, moa, reference=REFERENCE, **options):
    n = len(roundness)
    measures = {"roundness": torch.tensor(roundness), "nucleus_count": torch.tensor(nucleus_count)}
    td = TensorDict({"measures": TensorDict(measures, [n]), "moa": torch.tensor(moa)}, [n])
    return Roundness(reference, **options)(td)["rewards", "roundness"].squeeze(1)


def test_measured_nuclei_earn_their_z_score_among_their_moa():
    found = reward_of([0.9, 0.8, 0.8], [1.0, 2.0, 1.0], [0, 0, 3], shaping=square)
    expected = [-(z_score("roundness", value, moa) ** 2) for value, moa in ((0.9, 0), (0.8, 0), (0.8, 3))]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"shaping": square}])
def test_no_nucleus_is_worth_five_sigma_and_nuclei_on_the_border_one(options):
    found = reward_of([torch.nan, torch.nan], [0.0, 3.0], [1, 1], **options)
    assert found.tolist() == [-25.0, -1.0]


def test_nuclei_on_the_border_are_shaped_as_any_others():
    assert reward_of([torch.nan, torch.nan], [0.0, 3.0], [1, 1], shaping=dead_zone).tolist() == [-16.0, 0.0]


def test_a_population_that_the_reference_does_not_know_is_not_scored_whatever_its_nuclei():
    reference = REFERENCE.arrange(("new", *REFERENCE.populations))
    found = reward_of([torch.nan, torch.nan, 0.9, torch.nan], [0.0, 3.0, 1.0, 0.0], [0, 0, 0, 1], reference)
    assert found.isnan().tolist() == [True, True, True, False] and found[3] == -25


def test_the_example_of_the_documentation():
    assert doctest.testmod(rewards.suite.roundness).failed == 0

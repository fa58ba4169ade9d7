import doctest

import torch
from tensordict import TensorDict

import rewards.suite.containment
from rewards.suite.containment import NucleusInCytoplasm


def test_the_share_is_the_reward_and_none_is_0():
    measures = {"containment": torch.tensor([1.0, 0.3, torch.nan])}
    td = NucleusInCytoplasm()(TensorDict({"measures": measures}, [3]))  # no moa: it needs none
    torch.testing.assert_close(td["rewards", "containment"], torch.tensor([[1.0], [0.3], [0.0]]))


def test_the_example_of_the_documentation():
    assert doctest.testmod(rewards.suite.containment).failed == 0

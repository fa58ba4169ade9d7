import doctest

import pytest
import torch
from tensordict import TensorDict
from torch import nn

import rewards.suite.moa
from rewards.classifier import MoAClassifier
from rewards.suite.moa import MoAProbability, moa_probability
from tests.rewards.reward_toys import MOAS, Brightness, M, drawn_images


@pytest.mark.parametrize("moa", [0, 3, M - 1])
def test_probability_of_the_true_moa(moa):
    images = drawn_images()
    logits = images[:, 1].mean((1, 2)).unsqueeze(1) * 4 * torch.arange(M)
    found = moa_probability(images, torch.full((5,), moa), classifier=Brightness())
    torch.testing.assert_close(found, logits.softmax(1)[:, moa])


def test_each_image_has_its_own_moa():
    logits = torch.tensor([[0.0, 3.0], [0.0, 3.0]])
    found = moa_probability(torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]), classifier=lambda images: logits)
    assert found.sum() == pytest.approx(1) and found[1] > 0.9


def test_the_classifier_is_frozen():
    classifier = MoAClassifier(MOAS).train()
    MoAProbability(classifier)
    assert not classifier.training
    assert not any(p.requires_grad for p in classifier.parameters())


def test_the_classifier_moves_with_the_reward():
    assert MoAProbability(nn.Linear(2, 3)).double().classifier.weight.dtype == torch.float64


def test_ids_of_no_moa_are_refused():
    reward = MoAProbability(Brightness())
    with pytest.raises(ValueError, match=r"0\.\.11, got 12"):
        reward(TensorDict({"action": drawn_images(), "moa": torch.full((5,), 12)}, [5]))
    with pytest.raises(ValueError, match=r"'moa' needs 'moa'.*column.*ANNOT"):
        reward(TensorDict({"action": drawn_images()}, [5]))


def test_the_example_of_the_documentation():
    assert doctest.testmod(rewards.suite.moa).failed == 0

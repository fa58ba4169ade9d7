import pytest

from algorithms.recipes import rft
from algorithms.train_config import OptimConfig
from cellenv.generator import Sampling
from tests.algorithms.recipes.recipe_toys import check_flags, check_training, moves_without_reward

SAMPLING = Sampling(steps=2, noise_level=0.5)


def test_it_trains_and_resumes(runner):
    check_training(runner(rft, SAMPLING), "loss_rft", "--groups 1")


def test_flags_reach_the_training(runner):
    check_flags(
        runner(rft, SAMPLING),
        ["--keep 1", "--kl-weight 3", "--kl-share 0.3", "--kl-weighting velocity", "--weighting velocity"],
    )


def test_without_a_reward_it_learns_from_its_own_images(runner):
    assert moves_without_reward(runner(rft, SAMPLING))


def test_rows_of_an_optimizer_step_are_those_of_the_kept_images():
    rft.RFTConfig(loss=rft.RFTLossConfig(keep=2), optim=OptimConfig(optimizer_steps=4))
    with pytest.raises(ValueError, match="optimizer_steps must be at most 4, the rows of a group; got 5"):
        rft.RFTConfig(loss=rft.RFTLossConfig(keep=2), optim=OptimConfig(optimizer_steps=5))

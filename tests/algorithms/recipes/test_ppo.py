import torch

from algorithms.recipes import ppo
from cellenv.generator import Sampling
from tests.algorithms.recipes.recipe_toys import check_flags, check_ratio, check_training

SAMPLING = Sampling(steps=4)


def test_it_trains_and_resumes(runner):
    check_training(runner(ppo, SAMPLING), "loss_ppo")


def test_flags_reach_the_training(runner):
    check_flags(runner(ppo, SAMPLING), ["--clip-epsilon 1e-6", "--critic-weight 5", "--lmbda 0", "--eta 0.2"])


def test_before_the_first_update_the_ratio_is_one_in_low_precision(runner, fresh_accelerate):
    check_ratio(runner(ppo, SAMPLING))


def test_the_critic_has_a_learning_rate_of_its_own(runner):
    ppo_runner = runner(ppo, SAMPLING)
    fast, slow = (ppo_runner.run("run", f"--critic-learning-rate-factor {factor}") for factor in (10.0, 0.1))
    assert not torch.equal(fast, slow)  # the second iteration subtracts what the critic learned in the first

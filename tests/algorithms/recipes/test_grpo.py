from algorithms.recipes import grpo
from cellenv.generator import Sampling
from tests.algorithms.recipes.recipe_toys import check_flags, check_ratio, check_training

SAMPLING = Sampling(steps=4)


def test_it_trains_and_resumes(runner):
    check_training(runner(grpo, SAMPLING), "loss_grpo")


def test_flags_reach_the_training(runner):
    check_flags(runner(grpo, SAMPLING), ["--clip-epsilon 1e-6", "--loss.kl-weight 30", "--sde-window 0 1", "--eta 0.2"])


def test_before_the_first_update_the_ratio_is_one_in_low_precision(runner, fresh_accelerate):
    check_ratio(runner(grpo, SAMPLING))

from algorithms.recipes import flowawr
from cellenv.generator import Sampling
from tests.algorithms.recipes.recipe_toys import check_flags, check_training, moves_without_reward

SAMPLING = Sampling(steps=2, noise_level=0.5)


def test_it_trains_and_resumes(runner):
    check_training(runner(flowawr, SAMPLING), "loss_flowawr", "--groups 1")


def test_flags_reach_the_training(runner):
    check_flags(runner(flowawr, SAMPLING), ["--kl-weight 30", "--kl-share 0.3", "--kl-weighting velocity"])


def test_without_a_reward_nothing_is_learned(runner):
    assert not moves_without_reward(runner(flowawr, SAMPLING))

from algorithms.recipes import ram
from cellenv.generator import Sampling
from tests.algorithms.recipes.recipe_toys import check_flags, check_training, moves_without_reward

SAMPLING = Sampling(steps=2, noise_level=0.5)


def test_it_trains_and_resumes(runner):
    check_training(runner(ram, SAMPLING), "loss_ram", "--groups 1")


def test_flags_reach_the_training(runner):
    check_flags(runner(ram, SAMPLING), ["--c 1", "--weighting velocity"])


def test_without_a_reward_nothing_is_learned(runner):
    assert not moves_without_reward(runner(ram, SAMPLING))


def test_every_rollout_is_by_the_present_weights():
    rollout = ram.PRESETS["default"].rollout
    assert rollout.decay_slope == rollout.decay_most == 0

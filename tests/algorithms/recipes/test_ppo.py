import pytest

from algorithms.recipes import ppo
from cellenv.generator import Sampling
from tests.algorithms.recipes.recipe_toys import check_flags, check_ratio, check_training

SAMPLING = Sampling(steps=4)
ONE_STEP = "--critic-warmup 0 --epochs 1 --optimizer-steps 1"


def test_it_trains_and_resumes(runner):
    check_training(runner(ppo, SAMPLING), "loss_ppo", "--critic-warmup 0")


def test_flags_reach_the_training(runner):
    flags = ["--clip-epsilon 1e-6", "--lmbda 0", "--eta 0.2", "--loss.kl-weight 30", "--statistics-per all"]
    flags += ["--critic-epochs 0", "--critic-learning-rate 1e-4"]
    usual = "--critic-warmup 0 --epochs 2 --optimizer-steps 2"
    check_flags(runner(ppo, SAMPLING), flags, f"--iterations 2 {usual}")
    enough = 6  # iterations of 8 images, until there are more images than compounds
    check_flags(runner(ppo, SAMPLING), ["--statistics-memory 1"], f"--iterations {enough} --statistics-per all {usual}")


def test_before_the_first_update_the_ratio_is_one_in_low_precision(runner, fresh_accelerate):
    check_ratio(runner(ppo, SAMPLING), ONE_STEP)


def test_in_the_warmup_the_critic_learns_and_theta_stays(runner):
    ppo_runner = runner(ppo, SAMPLING)
    ppo_runner.run("warm", "--iterations 3 --critic-warmup 2")
    assert ["loss_ppo" in line for line in ppo_runner.log("warm")] == [False, False, True]
    assert all("explained_variance" in line for line in ppo_runner.log("warm"))
    with pytest.raises(ValueError, match="need more iterations than the critic's warm-up, 2; got 2"):
        ppo_runner.run("short", "--iterations 2 --critic-warmup 2")


def test_wrong_settings_raise():
    with pytest.raises(ValueError, match="got -1, 5 and 64"):
        ppo.PPOConfig(loss=ppo.PPOLossConfig(critic_epochs=-1))

import pytest

from algorithms.launch import start_accelerator
from algorithms.recipes import ppo
from algorithms.recipes.post_training import build_components
from cellenv.generator import Sampling
from tests.algorithms.recipes.recipe_toys import check_flags, check_ratio, check_training

SAMPLING = Sampling(steps=4)
ONE_STEP = "--critic-warmup 0 --epochs 1 --optimizer-steps 1"


def test_it_trains_and_resumes(runner):
    check_training(runner(ppo, SAMPLING), "loss_ppo", "--critic-warmup 0")


def test_flags_reach_the_training(runner):
    flags = ["--clip-epsilon 1e-6", "--lmbda 0", "--eta 0.2", "--loss.kl-weight 30", "--statistics-per all"]
    flags += ["--critic-epochs 0", "--critic-learning-rate 1e-4"]
    check_flags(runner(ppo, SAMPLING), flags, "--iterations 2 --critic-warmup 0 --epochs 2 --optimizer-steps 2")


def test_statistics_follow_the_config(runner):
    ppo_runner = runner(ppo, SAMPLING)

    def moments(flags):
        components = build_components(ppo_runner.config("any", flags), start_accelerator(threads=1))
        return ppo.build(components).loss.returns.moments, len(components.data.compounds)

    per_compound, compounds = moments("--statistics-memory 7")
    assert (len(per_compound.mean), per_compound.memory) == (compounds, 7) and compounds > 1
    over_all, _ = moments("--statistics-memory 7 --statistics-per all")
    assert (len(over_all.mean), over_all.memory) == (1, 7 * compounds)


def test_returns_and_advantages_are_of_all_ranks(runner):
    accelerator = start_accelerator(threads=1)
    algorithm = ppo.build(build_components(runner(ppo, SAMPLING).config("any"), accelerator))
    assert algorithm.build_batch.keywords["gather"] == algorithm.loss.returns.gather == accelerator.gather


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

from algorithms.recipes import nft
from cellenv.generator import Sampling
from tests.algorithms.recipes.recipe_toys import check_flags, check_training

SAMPLING = Sampling(steps=2, noise_level=0.5)


def test_it_trains_and_resumes(runner):
    check_training(runner(nft, SAMPLING), "loss_nft")


def test_flags_reach_the_training(runner):
    check_flags(
        runner(nft, SAMPLING),
        [
            *("--form plain", "--beta 0.5", "--kl-weight 30", "--kl-share 0.3", "--normalise total"),
            "--kl-weighting velocity",
        ],
    )

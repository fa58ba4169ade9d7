"""Rewards one step at a time equal the transform in one go; a step that is left out makes nan of what needs it."""

import pytest
import torch
from tensordict import TensorDict

from rewards.steps import RewardSteps
from rewards.suite import SUITE, cellflux_rewards, configure
from tests.rewards.reward_toys import MOAS, REFERENCE, Brightness, drawn_images, toy_segmenter


def mean_of_control(x0):
    return x0.mean((1, 2, 3))


def transform(suite=SUITE):
    return cellflux_rewards(toy_segmenter, Brightness(), REFERENCE, suite=suite, extra=[mean_of_control])


def batch():
    images = drawn_images()
    return TensorDict(
        {"action": images, "moa": torch.arange(5) % len(MOAS), "x0": -images, "seed": torch.arange(5)}, [5]
    )


def score(steps, td, skip=()):
    steps.begin(td)
    for name in steps.names:
        steps.skip(name) if name in skip else steps.run(name)
    return steps.finish()


def test_all_steps_equal_the_transform():
    steps = RewardSteps(transform())
    found, expected = score(steps, batch()), transform()(batch())
    assert steps.names == ("segment images", "measure masks", *(spec.name for spec in SUITE), "mean_of_control")
    assert set(found.keys()) == {"rewards", "reward"} and set(found["rewards"].keys()) == set(
        expected["rewards"].keys()
    )
    for key in found.keys(True, True):
        assert torch.equal(found[key], expected[key]), key


def test_only_what_the_rewards_read_is_asked_for():
    assert RewardSteps(transform()).inputs == {"action", "moa", "x0"}
    assert RewardSteps(transform(configure(["moa=0"], SUITE[:2]))).inputs == {"action", "x0"}


@pytest.mark.parametrize(
    ("skipped", "finite"),
    [
        (["moa"], {spec.name for spec in SUITE[1:]} | {"mean_of_control"}),
        (["segment images"], {"moa", "mean_of_control"}),
        (["measure masks"], {"moa", "mean_of_control"}),
    ],
)
def test_a_skipped_step_makes_nan_of_what_needs_it_and_of_the_total(skipped, finite):
    scored = score(RewardSteps(transform()), batch(), skipped)
    assert {name for name, value in scored["rewards"].items() if value.isfinite().all()} == finite
    assert all(value.isnan().all() for name, value in scored["rewards"].items() if name not in finite)
    assert scored["reward"].isnan().all() and scored["reward"].shape == (5, 1)

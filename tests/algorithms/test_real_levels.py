"""Levels up to which rewards teach: means over real images."""

import pytest

from algorithms.build import build_cells, build_rewards
from algorithms.config import DataConfig, RewardConfig
from algorithms.real_levels import real_levels
from algorithms.workers.scorer import RewardError

REWARDS = """
import torch

def brightness(images):
    dark = images.mean((1, 2, 3)) < DARK
    return torch.where(dark, torch.nan, images.mean((1, 2, 3)))

def broken(images):
    raise ZeroDivisionError("no cells")
"""


@pytest.fixture(scope="module")
def cells():
    return build_cells(DataConfig(), "train")


def suite_of(cells, *terms):
    only = [f"{name}=0" for name in ("roundness", "nucleus_size", "cell_size", "nucleus_count", "cell_count")]
    return build_rewards(RewardConfig(terms=(*only, *terms)), "cpu", cells)


def levels_of(cells, suite, **options):
    return real_levels(cells, suite, **{"device": "cpu", "n": 12, "seed": 3, "batch_size": 5, **options})


def test_levels_are_the_means_of_real_images_whatever_the_batches(cells):
    suite = suite_of(cells)
    levels = levels_of(cells, suite)
    assert levels == pytest.approx(levels_of(cells, suite, batch_size=12), abs=1e-6)
    assert levels != levels_of(cells, suite, seed=4)
    assert levels.keys() == {"moa", "containment"} and levels["moa"] > 0.3 and levels["containment"] > 0.9


def test_images_that_a_reward_cannot_score_do_not_count(cells, tmp_path):
    file = tmp_path / "levels_toys.py"
    file.write_text(REWARDS.replace("DARK", "-2"))
    terms = ("containment=0", f"brightness={file}:brightness")
    everything = levels_of(cells, suite_of(cells, *terms))
    assert everything.keys() == {"moa", "brightness"}
    file.write_text(REWARDS.replace("DARK", str(everything["brightness"])))
    assert levels_of(cells, suite_of(cells, *terms))["brightness"] > everything["brightness"]


def test_a_reward_that_fails_is_named_or_has_no_level(cells, tmp_path):
    file = tmp_path / "levels_toys.py"
    file.write_text(REWARDS)
    suite = suite_of(cells, "containment=0", f"broken={file}:broken")
    with pytest.raises(RewardError, match="'broken' failed on real images: no cells"):
        levels_of(cells, suite)
    assert levels_of(cells, suite, on_failure="nan").keys() == {"moa"}

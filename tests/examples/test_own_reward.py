"""The tutorial on own rewards: its functions, and that Python and the command line take them."""

from pathlib import Path

import pytest
import torch

from examples import own_reward
from examples.own_reward import coverage, sharpness
from rewards import configure

FILE = Path(own_reward.__file__)


def test_sharpness_is_the_mean_step_between_neighbours():
    ramp = torch.linspace(-1, 1, 5).expand(2, 3, 4, 5) * torch.tensor([1.0, 0.5]).reshape(2, 1, 1, 1)
    torch.testing.assert_close(sharpness(ramp), torch.tensor([0.5, 0.25]))


def test_coverage_is_the_share_of_labelled_pixels_and_undefined_without_cells():
    cells = torch.zeros(2, 4, 5, dtype=torch.int32)
    cells[0, 0], cells[0, 1, :2] = 1, 2
    covered, empty = coverage(cells)
    assert covered == pytest.approx(7 / 20) and empty.isnan()


def test_the_documented_terms_are_rewards():
    documented = [word for word in own_reward.__doc__.split() if "=" in word and "own_reward.py" in word]
    specs = configure([word.replace("examples/own_reward.py", str(FILE)) for word in documented if "NAME" not in word])
    assert [(spec.name, spec.weight) for spec in specs[-2:]] == [("sharpness", 0.5), ("coverage", 1.0)]


def test_both_rewards_enter_the_sum(capsys):
    own_reward.main(own_reward.PRESETS["smoke"])
    printed = {name: float(value) for name, value in map(str.split, capsys.readouterr().out.splitlines())}
    weights = {"moa": 5, "containment": 2, "sharpness": 0.5}
    total = sum(weights.get(name, 1) * value for name, value in printed.items() if name != "reward")
    assert printed["reward"] == pytest.approx(total, abs=0.01) and printed["coverage"] > 0

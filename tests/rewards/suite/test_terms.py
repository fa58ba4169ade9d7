import doctest
import sys

import pytest
import torch

import rewards.suite.terms
from rewards.suite.spec import SUITE
from rewards.suite.terms import configure
from tests.rewards.reward_toys import drawn_images, scored


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a module of rewards."""
    text = "def sharpness(images):\n    return images.diff(dim=3).abs().mean((1, 2, 3))\n\nNUMBER = 3\n"
    (tmp_path / "my_rewards.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("my_rewards", None)


@pytest.mark.parametrize("source", ["my_rewards", "my_rewards.py", "{folder}/my_rewards.py"])
@pytest.mark.parametrize(("suffix", "weight"), [("", 1.0), (":0.5", 0.5), (":-1e-1", -0.1)])
def test_own_rewards_come_last(folder, source, suffix, weight):
    suite = configure([f"sharp={source.format(folder=folder)}:sharpness{suffix}", "moa=2", "roundness=0"])
    expected = {spec.name: spec.weight for spec in SUITE if spec.name != "roundness"} | {"moa": 2.0, "sharp": weight}
    assert [(spec.name, spec.weight) for spec in suite] == list(expected.items())
    torch.testing.assert_close(scored(suite[-1]), drawn_images().diff(dim=3).abs().mean((1, 2, 3)))


def test_no_terms_leave_the_suite_as_it_is():
    assert configure([]) == SUITE
    assert configure(["moa=3"], SUITE[:1])[0].weight == 3


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (["sharp=0.5"], "unknown reward 'sharp'; there are moa, containment, .*MODULE:FUNCTION"),
        (["roundness"], "need NAME=WEIGHT.*got 'roundness'"),
        (["=0.5"], "unknown reward ''"),
        (["roundness="], "need NAME=WEIGHT.*got 'roundness='"),
        (["roundness=big"], "need NAME=WEIGHT.*got 'roundness=big'"),
        (["sharp=absent.module:f"], "cannot import the module 'absent.module': .*current folder"),
        (["sharp=my_rewards:absent"], "my_rewards has no function 'absent'"),
        (["sharp=my_rewards:NUMBER"], "'sharp' needs a function, got a int"),
        (["sharp=my_rewards:sharpness:much"], "weight of the reward 'sharp' needs to be a number, got 'much'"),
        (["sharp=my_rewards:sharpness:nan"], "'sharp' needs a finite weight, got nan"),
        (["moa=inf"], "'moa' needs a finite weight, got inf"),
        (["moa=1", "moa=2"], "two terms for the reward 'moa'"),
        (["sharp=my_rewards:sharpness", "sharp=my_rewards.py:sharpness"], "two terms for the reward 'sharp'"),
        (["moa=my_rewards:sharpness"], "the suite has a reward 'moa'"),
        (["a-b=my_rewards:sharpness"], "needs a name such as"),
        ([f"{spec.name}=0" for spec in SUITE], "no reward is left of moa, containment"),
    ],
)
def test_terms_that_cannot_be_met_are_explained(folder, terms, message):
    with pytest.raises(ValueError, match=message):
        configure(terms)


def test_a_string_is_no_list_of_terms():
    with pytest.raises(ValueError, match="need several terms"):
        configure("roundness=0")


def test_the_example_of_the_documentation():
    assert doctest.testmod(rewards.suite.terms).failed == 0

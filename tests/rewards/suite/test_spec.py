import doctest
import pickle
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from tensordict import TensorDict
from torch import nn

import rewards.suite.spec
from rewards.measures import MEASURES
from rewards.suite.spec import (
    SUITE,
    WEIGHTS,
    RewardParts,
    RewardSpec,
    condition_on,
    configure,
    custom_reward,
    without_moa,
)
from rewards.transforms import CELLS, NUCLEI
from tests.rewards.reward_toys import REFERENCE, Brightness, drawn_images, toy_segmenter

PARTS = RewardParts(classifier=Brightness(), reference=REFERENCE)


@pytest.mark.parametrize("spec", SUITE, ids=lambda spec: spec.name)
def test_what_a_spec_says_is_true_of_its_reward(spec):
    reward = spec.build(PARTS)
    assert reward.out_keys == [("rewards", spec.name)]
    if spec.measure is not None:
        assert spec.measure in MEASURES and spec.measure in REFERENCE.mean
        assert ("measures", spec.measure) in reward.in_keys
    for part in spec.needs:
        kept = {"classifier": PARTS.classifier, "reference": PARTS.reference} | {part: None}
        with pytest.raises(ValueError, match=part):
            spec.build(RewardParts(**kept))
    needed = {name: getattr(PARTS, name) for name in spec.needs}
    spec.build(RewardParts(**needed))


def brightness(images):
    return images.mean((1, 2, 3))


def test_specs_can_be_pickled():
    specs = [*SUITE, custom_reward(brightness)]
    again = pickle.loads(pickle.dumps(specs))
    assert [spec.build(PARTS).out_keys for spec in again] == [spec.build(PARTS).out_keys for spec in specs]


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_weight_is_finite(weight):
    with pytest.raises(ValueError, match="'flat' needs a finite weight"):
        RewardSpec(name="flat", label="flat", weight=weight, unit="", build=lambda parts: None)


def scored(spec):
    masks = toy_segmenter(drawn_images())
    context = {"action": drawn_images(), "x0": drawn_images() / 2, "moa": torch.arange(5)}
    td = TensorDict({**context, NUCLEI: masks.nuclei, CELLS: masks.cells}, [5])
    return spec.build(RewardParts())(td)["rewards", spec.name].squeeze(1)


def test_parameter_names_choose_the_inputs_in_any_order():
    def mixture(x0, cells, *, moa, nuclei, images, scale=1.0, **_):
        sums = [value.flatten(1).float().sum(1) for value in (images, x0, nuclei, cells)]
        return scale * (sums[0] + 2 * sums[1] + 3 * sums[2] + 5 * sums[3] + 7 * moa)

    masks, images = toy_segmenter(drawn_images()), drawn_images()
    expected = (images + images).sum((1, 2, 3)) + 3 * masks.nuclei.sum((1, 2)) + 5 * masks.cells.sum((1, 2))
    torch.testing.assert_close(scored(custom_reward(mixture)), expected + 7 * torch.arange(5))


def test_names_and_weights_of_custom_rewards():
    def cell_contrast(images):
        return images.std((1, 2, 3))

    spec = custom_reward(cell_contrast)
    assert (spec.name, spec.label, spec.weight, spec.measure, spec.has_judge) == (
        *("cell_contrast", "cell contrast", 1.0, None, False),
    )
    assert custom_reward(cell_contrast, name="other", weight=-2).weight == -2
    bound = custom_reward(partial(cell_contrast), name="bound")
    torch.testing.assert_close(scored(bound), cell_contrast(drawn_images()))


def test_a_network_is_frozen_and_moves_with_the_rewards():
    class Critic(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 1)

        def forward(self, images):
            return self.linear(images.to(self.linear.weight.dtype).mean((2, 3))).squeeze(1)

    critic = Critic()
    spec = custom_reward(critic, name="critic")
    expected = critic(drawn_images()).detach()
    torch.testing.assert_close(scored(spec), expected)
    assert not critic.training and not critic.linear.weight.requires_grad
    reward = spec.build(RewardParts()).double()
    assert critic.linear.weight.dtype == torch.float64
    torch.testing.assert_close(reward(TensorDict({"action": drawn_images()}, [5]))["rewards", "critic"][:, 0], expected)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda images, radius: None, "images, nuclei, cells, moa, compound, x0, others need a default; got radius"),
        (lambda scale=1: None, "images, nuclei, cells, moa, compound, x0, .*there is none"),
        (lambda *args: None, "there is none"),
        (3.0, "'mine' needs a function, got a float"),
        (type, "wrap it in a function of images, nuclei"),
    ],
)
def test_functions_of_something_else_are_refused(function, message):
    with pytest.raises(ValueError, match=message):
        custom_reward(function, name="mine")


def test_a_function_without_a_name_needs_one():
    with pytest.raises(ValueError, match="got '<lambda>': give name="):
        custom_reward(lambda images: images)
    with pytest.raises(ValueError, match="got '': give name="):
        custom_reward(partial(lambda images: images))


def test_each_reward_says_what_it_is_conditioned_on():
    said = {spec.name: spec.conditioned_on for spec in SUITE}
    assert said.pop("containment") == "nothing" and set(said.values()) == {"moa"}
    assert custom_reward(lambda images, compound: None, name="mine").conditioned_on == "compound"
    assert custom_reward(lambda images, moa, compound: None, name="mine").conditioned_on == "moa"
    assert custom_reward(lambda images, x0: None, name="mine").conditioned_on == "nothing"
    for by, expected in {"moa": "moa", "compound": "compound", "controls": "nothing"}.items():
        conditioned = condition_on(SUITE, replace(REFERENCE, by=by))
        assert {s.conditioned_on for s in conditioned if "reference" in s.needs} == {expected}
        for spec in conditioned:
            reads = spec.build(RewardParts(classifier=Brightness(), reference=replace(REFERENCE, by=by))).in_keys
            keys = {"moa", "perturbation"} & {key for key in reads if isinstance(key, str)}
            assert keys == {"moa": {"moa"}, "compound": {"perturbation"}, "nothing": set()}[spec.conditioned_on]


def test_cells_without_mechanisms_keep_the_rewards_that_need_none():
    by_compound = condition_on(SUITE, replace(REFERENCE, by="compound"))
    assert [spec.name for spec in without_moa(by_compound)] == [name for name in WEIGHTS if name != "moa"]
    with pytest.raises(ValueError, match="on which moa is conditioned"):
        without_moa(by_compound, ["moa"])
    with pytest.raises(ValueError, match=r"the reference of roundness, .* is fitted: .* --by compound"):
        without_moa(SUITE)
    with pytest.raises(ValueError, match="no other reward is left"):
        without_moa(by_compound[:1])


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


def test_the_examples_of_the_documentation():
    assert doctest.testmod(rewards.suite.spec).failed == 0


def test_what_is_learned_from_has_weights_of_its_own_until_a_term_sets_both():
    specs = {spec.name: spec for spec in configure(["moa=3"])}
    assert (specs["moa"].weight, specs["moa"].signal_weight) == (3.0, 3.0)
    specs = {spec.name: spec for spec in SUITE}
    assert specs["moa"].weight != specs["moa"].signal_weight == specs["moa"].emphasis
    assert specs["cell_count"].emphasis is None and specs["cell_count"].signal_weight == specs["cell_count"].weight
    assert custom_reward(lambda images: images.mean((1, 2, 3)), name="own", weight=0.5).signal_weight == 0.5


def test_a_string_is_no_list_of_terms():
    with pytest.raises(ValueError, match="need several terms"):
        configure("roundness=0")


@pytest.mark.parametrize("name", ["total", "reward", "diversity", "judge_moa", "w1_size"])
def test_a_name_of_another_figure_is_refused(name):
    with pytest.raises(ValueError, match="another figure of an evaluation"):
        custom_reward(lambda images: images.mean((1, 2, 3)), name=name)

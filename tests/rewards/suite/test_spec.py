import doctest
import pickle
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
    custom_reward,
    without_moa,
)
from rewards.suite.terms import configure
from tests.rewards.reward_toys import REFERENCE, Brightness, drawn_images, scored, toy_segmenter

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
        (
            lambda images, /, moa: None,
            "inputs are given by name, but images can only be given by position: remove the /",
        ),
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


def test_the_examples_of_the_documentation():
    assert doctest.testmod(rewards.suite.spec).failed == 0


def test_what_is_learned_from_has_weights_of_its_own_until_a_term_sets_both():
    specs = {spec.name: spec for spec in configure(["moa=3"])}
    assert (specs["moa"].weight, specs["moa"].signal_weight) == (3.0, 3.0)
    specs = {spec.name: spec for spec in SUITE}
    assert specs["moa"].weight != specs["moa"].signal_weight == specs["moa"].emphasis
    assert specs["cell_count"].emphasis is None and specs["cell_count"].signal_weight == specs["cell_count"].weight
    assert custom_reward(lambda images: images.mean((1, 2, 3)), name="own", weight=0.5).signal_weight == 0.5


@pytest.mark.parametrize("name", ["total", "reward", "diversity", "judge_moa", "w1_size"])
def test_a_name_of_another_figure_is_refused(name):
    with pytest.raises(ValueError, match="another figure of an evaluation"):
        custom_reward(lambda images: images.mean((1, 2, 3)), name=name)

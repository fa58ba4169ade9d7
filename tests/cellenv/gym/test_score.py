"""The score: its two ends, its contexts, and that a scale of another generator, data set or suite is refused."""

import json

import numpy as np
import pytest
import torch
from torchrl.envs import Compose

from cellenv.data.synthetic import SyntheticCells
from cellenv.gym import Paint, Scale, Select, Steer, World, evaluate
from cellenv.gym.score import Fingerprint, fixed_contexts, play
from rewards.transforms import ImageReward, WeightedSum
from tests.cellenv.toy_bandit import brightness, toy_generator, toy_suite, toy_world
from tests.cellenv.toy_cells import ToyCells

N = 40


@pytest.fixture(scope="module")
def task():
    return Select(toy_world(), candidates=4)


@pytest.fixture(scope="module")
def contexts():
    return fixed_contexts(ToyCells(), N)


@pytest.fixture
def scale(task, contexts):
    return Scale.fit(task, contexts)


def test_score_is_a_ratio_of_means(scale):
    three = Scale(fingerprint=scale.fingerprint, untouched=(0.0, 2.0, -1.0), oracle=(1.0, 2.5, 9.0))
    assert three.score(three.untouched) == 0 and three.score(three.oracle) == 1
    assert three.score([1.0, 2.0, 3.0]) == pytest.approx((1 + 0 + 4) / 11.5)
    np.testing.assert_allclose(three.score([three.oracle, [0, 2, -2]]), [1, -1 / 11.5])
    assert three.head(2).score([1.0, 2.0]) == pytest.approx(1 / 1.5)
    with pytest.raises(ValueError, match=r"each of 3 contexts, got shape \(2,\)"):
        three.score([0.0, 1.0])
    with pytest.raises(ValueError, match="1 of 3 rewards are nan"):
        three.score([0.0, np.nan, 1.0])


def test_an_oracle_that_earns_no_more_makes_no_scale(scale):
    flat = Scale(fingerprint=scale.fingerprint, untouched=(0.0, 2.0), oracle=(2.0, 0.0))
    with pytest.raises(ValueError, match=r"both earn 1\.0000 in 2 contexts"):
        flat.score([1.0, 2.0])
    worse = Scale(fingerprint=scale.fingerprint, untouched=(1.0, 2.0), oracle=(1.0, 1.0))
    with pytest.raises(ValueError, match=r"it earns 1\.0000, the generator 1\.5000, in 2 contexts"):
        worse.score([1.0, 2.0])


def test_contexts_are_fixed_and_a_few_are_the_first_of_many(contexts):
    few = fixed_contexts(ToyCells(), 3)
    assert (few == contexts[:3]).all() and len(contexts["seed"].unique()) == N
    assert contexts["seed"][:2].tolist() == [1492830813229920299, 3928535416247762620]  # a change is a new VERSION


def test_the_ends_of_the_scale_are_what_agents_get(task, scale):
    def best(seen):  # reads off the pixels what the toy rewards
        x = seen["candidates"].astype(float) / 127.5 - 1
        compound = (seen["condition"][:, None] == task.world.data.conditions.numpy()).all(2).argmax(1)
        moa = task.world.data.compound_moa.numpy()[compound]
        x = x.reshape(*x.shape[:2], -1)
        return (x.mean(2) + 0.5 * x.std(2, ddof=1) * (moa[:, None] + 1)).argmax(1)

    assert evaluate(task, best, scale=scale).score == pytest.approx(1, abs=0.01)
    each = [evaluate(task, lambda seen, k=k: [k] * len(seen["condition"]), scale=scale) for k in range(4)]
    assert np.mean([result.score for result in each]) == pytest.approx(0, abs=1e-3)
    assert each[0].rewards.shape == (N,) and each[0].score == pytest.approx(float(scale.score(each[0].rewards)))


def test_play_keeps_the_order_of_contexts(task, contexts):
    whole = play(task, lambda seen: [2] * len(seen["control"]), contexts)  # in batches of 32
    one = task.score(task.prepare(contexts[33:34]), np.array([2]))["reward"]
    assert whole[33] == pytest.approx(one.item(), abs=1e-6)


def test_a_stored_scale_is_found_again(task, contexts, scale, tmp_path):
    other = Select(task.world, candidates=2)
    Scale.fit(other, contexts).save(tmp_path / "new" / "gym.json")
    scale.save(tmp_path / "new" / "gym.json")
    assert Scale.load(task, contexts, tmp_path / "new" / "gym.json") == scale
    stored = json.loads((tmp_path / "new" / "gym.json").read_text())
    assert list(stored) == ["Select(candidates=2)", "Select(candidates=4)"]
    assert stored["Select(candidates=4)"]["command"] == "python -m examples.studies.fit_gym"


class Elsewhere(ToyCells):
    def __init__(self):
        super().__init__()
        self.conditions = self.conditions + 0.1


def other_weights():
    generator = toy_generator()
    with torch.no_grad():
        generator.network.gain.mul_(1.001)
    return {"generator": generator}


def other_sampling():
    generator = toy_generator()
    generator.steps = 3
    return {"generator": generator}


def other_rewards():
    return {"suite": Compose(ImageReward("bright", lambda x: brightness(x) + 0.1), WeightedSum({"bright": 1.0}))}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (other_weights, "generator"),
        (other_sampling, "generator"),
        (other_rewards, "rewards"),
        (lambda: {"data": Elsewhere()}, "contexts"),
    ],
)
def test_a_scale_of_something_else_is_refused(task, contexts, scale, tmp_path, changes, named):
    scale.save(tmp_path / "gym.json")
    world = toy_world(**changes())
    with pytest.raises(ValueError, match=rf"stale, other now: {named}; run `python -m examples.studies.fit_gym`"):
        Scale.load(Select(world, candidates=4), fixed_contexts(world.data, N), tmp_path / "gym.json")
    with pytest.raises(ValueError, match=rf"the one given is of Select\(candidates=4\), other: {named}: measure"):
        evaluate(Select(world, candidates=4), lambda seen: [0] * len(seen["condition"]), scale=scale)


def test_when_and_how_guidance_would_act_is_of_no_effect_without_it(contexts):
    def found(**settings):
        generator = toy_generator()
        for name, value in settings.items():
            setattr(generator, name, value)
        return Fingerprint.of(Select(toy_world(generator=generator), candidates=4), contexts).generator

    assert found(guidance_from=0.3, guidance_power=2.0) == found()
    guided = [{}, {"guidance_from": 0.3}, {"guidance_power": 2.0}]
    assert len({found(), *(found(guidance=0.2, **when) for when in guided)}) == 4


def test_a_scale_of_another_task_is_refused(task, scale):
    with pytest.raises(ValueError, match=r"need a scale of Select\(candidates=2\).*given.*=4\), other: task"):
        evaluate(Select(task.world, candidates=2), lambda seen: [0] * len(seen["condition"]), scale=scale)


def test_a_scale_of_the_first_contexts_scores_these(task, scale):
    for n in (3, 20):
        result = evaluate(task, lambda seen: [0] * len(seen["condition"]), scale=scale.head(n))
        assert result.score == pytest.approx(float(scale.head(n).score(result.rewards)))


def test_scores_need_a_world_of_fp32(contexts, scale):
    fast = Select(toy_world(precision="bf16"), candidates=4)
    with pytest.raises(ValueError, match=r'need World\(precision="fp32"\); that of .* has bf16'):
        Scale.fit(fast, contexts)
    with pytest.raises(ValueError, match="has bf16"):
        evaluate(fast, lambda seen: [0] * len(seen["condition"]), scale=scale)


def test_absent_and_shorter_scales_are_refused(task, contexts, scale, tmp_path):
    with pytest.raises(ValueError, match=r"need the scale of Select\(candidates=4\).*none: run"):
        Scale.load(task, contexts, tmp_path / "gym.json")
    scale.save(tmp_path / "gym.json")
    with pytest.raises(ValueError, match=r"has .*candidates=4.*run"):
        Scale.load(Select(task.world, candidates=3), contexts, tmp_path / "gym.json")
    with pytest.raises(ValueError, match="other now: contexts"):
        Scale.load(task, contexts[:20], tmp_path / "gym.json")


def test_fingerprint_leaves_room_for_one_pixel(task, contexts):
    a = Fingerprint.of(task, contexts)
    near = Fingerprint(**vars(a) | {"rewards": tuple(r + 0.04 for r in a.rewards)})
    far = Fingerprint(**vars(a) | {"rewards": (*a.rewards[:-1], a.rewards[-1] + 0.06)})
    assert a.differences(a) == a.differences(near) == [] and a.differences(far) == ["rewards"]
    same = Fingerprint.of(Select(toy_world(suite=toy_suite()), candidates=4), contexts)
    assert a == same


@pytest.mark.slow
def test_the_shipped_scale_is_what_the_shipped_generator_earns():
    """Of the first four contexts; another processor may move a mask by a pixel."""
    world = World(data=SyntheticCells("test"))
    contexts = fixed_contexts(world.data)
    select, paint, steer = (Scale.load(task(world), contexts) for task in (Select, Paint, Steer))
    few, task = contexts[:4], Select(world)
    untouched, oracle = task.bounds(task.prepare(few))
    assert np.median(np.abs(untouched.numpy() - select.untouched[:4])) < 0.05
    assert np.median(np.abs(oracle.numpy() - select.oracle[:4])) < 0.05
    assert (paint.untouched, paint.oracle) == (select.untouched, select.oracle)
    drafts = Steer(world).prepare(few)["rated", "reward"].mean(1)
    assert np.median(np.abs(drafts.numpy() - steer.untouched[:4])) < 0.05
    assert np.mean(steer.untouched) == pytest.approx(np.mean(select.untouched), abs=0.5)  # four draws, and eight
    assert np.mean(steer.oracle) > np.mean(steer.untouched) + 1


@pytest.mark.slow
def test_the_shipped_scale_is_refused_with_other_rewards():
    world = World(data=SyntheticCells("test"), rewards=("roundness=0",))
    with pytest.raises(ValueError, match="stale, other now: rewards"):
        Scale.load(Select(world), fixed_contexts(world.data))

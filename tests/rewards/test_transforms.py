"""The transforms alone, in torchrl's environments, and in batched environments and collectors."""

import doctest
from functools import partial

import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torchrl.envs import Compose, ParallelEnv, RewardScaling, SerialEnv, TransformedEnv
from torchrl.envs.utils import check_env_specs

import rewards.transforms
from cellenv.env import VirtualCellEnv
from rewards.measures import MEASURES, measure
from rewards.segmentation.protocol import CHANNELS
from rewards.transforms import CELLS, NUCLEI, Discard, ImageReward, Measure, ReferenceReward, Segment, WeightedSum
from tests.cellenv.toy_cells import ToyCells
from tests.rewards.reward_toys import REFERENCE, CountingSegmenter, toy_segmenter


def images(n, seed=0):
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def area(labels):
    return (labels > 0).flatten(1).sum(1).float()


def brightness(images):
    return images.mean((1, 2, 3))


def suite(segmenter=toy_segmenter):
    """One reward of each kind of input, their sum, and nothing transient."""
    return Compose(
        Segment(segmenter),
        Measure(),
        ImageReward("nuclear", area, [NUCLEI]),
        ImageReward("size", torch.nan_to_num, [("measures", "cell_area_max")]),
        ImageReward("change", lambda image, x0: (image - x0).flatten(1).mean(1), ["action", "x0"]),
        WeightedSum({"nuclear": 2.0, "size": -1.0, "change": 3.0}),
        Discard(),
    )


def numpy_segmenter(images, channels):
    """A segmenter that cannot take images with a gradient."""
    return toy_segmenter(torch.from_numpy(images.numpy()), channels)


def bandit(batch_size, transform=None, group_size=1):
    env = VirtualCellEnv(ToyCells(), batch_size=batch_size, group_size=group_size, seed=None)
    return TransformedEnv(env, suite() if transform is None else transform)


ALONE = {
    "suite": suite,
    "masks": lambda: Segment(toy_segmenter),
    "measures": lambda: Compose(Segment(toy_segmenter), Measure()),
    "reward": lambda: ImageReward("bright", brightness),
    "scaled": lambda: Compose(*suite().transforms, RewardScaling(0.0, 2.0, in_keys=["reward"])),
}


@pytest.mark.parametrize("batch", [None, 3, (2, 3)])
@pytest.mark.parametrize("name", ALONE)
def test_specs_hold(name, batch):
    check_env_specs(bandit(batch, ALONE[name]()))


def test_a_step_segments_and_measures_once(monkeypatch):
    segmenter, measured = CountingSegmenter(), []
    monkeypatch.setattr("rewards.transforms.measure", lambda masks: measured.append(masks) or measure(masks))
    env = bandit(6, suite(segmenter))
    x1 = images(6)
    td = env.step(env.reset().set("x0", images(6, 1)).set("action", x1))
    assert segmenter.calls == [((6, 3, 8, 8), CHANNELS)]
    assert len(measured) == 1
    nuclear, size = area(x1[:, 2] > 0), area(x1[:, 0] > 0)
    change = (x1 - td["x0"]).mean((1, 2, 3))
    found = td["next", "rewards"]
    assert set(found.keys()) == {"nuclear", "size", "change"}
    torch.testing.assert_close(found["nuclear"], nuclear.unsqueeze(1))
    torch.testing.assert_close(found["size"], size.unsqueeze(1))
    torch.testing.assert_close(td["next", "reward"], (2 * nuclear - size + 3 * change).unsqueeze(1))
    assert "masks" not in td["next"].keys() and "measures" not in td["next"].keys()


@pytest.mark.parametrize("batch", [(), (6,), (2, 3)])
def test_measures_are_those_of_the_masks(batch):
    td = TensorDict({"action": images(6)[: torch.Size(batch).numel()].reshape(*batch, 3, 8, 8)}, batch)
    measured = Compose(Segment(toy_segmenter), Measure())(td)["measures"]
    expected = measure(toy_segmenter(td["action"].reshape(-1, 3, 8, 8)))
    assert set(measured.keys()) == set(MEASURES)
    for name, value in expected.items():
        torch.testing.assert_close(measured[name], value.reshape(batch), equal_nan=True)


def test_offline_equals_the_step_in_any_batch_shape():
    x1, x0 = images(6), images(6, 1)
    env = bandit(6)
    stepped = env.step(env.reset().update({"x0": x0, "action": x1}))["next", "reward"]  # (6, 1)
    plain = TensorDict({"action": x1, "x0": x0}, [6])
    torch.testing.assert_close(suite()(plain.clone())["reward"], stepped)
    torch.testing.assert_close(suite()(plain.reshape(2, 3))["reward"], stepped.reshape(2, 3, 1))
    torch.testing.assert_close(suite()(plain[4])["reward"], stepped[4])


@pytest.mark.parametrize("batch", [5, 0])
def test_an_unlocked_environment_takes_any_batch_also_an_empty_one(batch):
    env = bandit(None)
    td = env.step(env.reset(TensorDict(batch_size=[batch])).set("action", images(batch)))
    assert td["next", "reward"].shape == (batch, 1)


def test_an_empty_batch_does_not_reach_the_function():
    def fails(image):
        raise AssertionError("called")

    td = ImageReward("fails", fails)(TensorDict({"action": images(0)}, [0]))
    assert td["rewards", "fails"].shape == (0, 1) and td["rewards", "fails"].dtype == torch.float32


@pytest.mark.parametrize(("batched", "options"), [(SerialEnv, {}), (ParallelEnv, {"mp_start_method": "fork"})])
def test_batched_environments_keep_the_groups_of_their_workers_apart(batched, options):
    env = batched(2, partial(bandit, 4, group_size=2), **options)
    td = env.rollout(1)  # (2, 4, 1)
    env.close()
    assert td["next", "reward"].shape == (2, 4, 1, 1)
    assert set(td["next", "rewards"].keys()) == {"nuclear", "size", "change"}
    assert len(td["group"].unique()) == 4


@pytest.mark.filterwarnings("ignore:.*WeightUpdaterBase is deprecated:DeprecationWarning")  # by the import
def test_a_collector_keeps_the_groups_of_its_steps_apart():
    from torchrl.collectors import Collector

    collector = Collector(partial(bandit, 4, group_size=2), policy=None, frames_per_batch=12, total_frames=24)
    batches = [td["group"] for td in collector]  # 2 times (4, 3)
    collector.shutdown()
    ids, members = torch.stack(batches).unique(return_counts=True)
    assert len(ids) == 12 and (members == 2).all()


def test_a_reward_that_is_nan_for_all_images_warns():
    td = TensorDict({"action": torch.zeros(2, 3, 96, 96)}, [2])
    with pytest.warns(UserWarning, match="reward 'none' is nan for all images of a batch"):
        ImageReward("none", lambda images: images.mean((1, 2, 3)) * torch.nan)(td)
    ImageReward("none", lambda images: images.mean((1, 2, 3)) * torch.nan)(td[:1])  # one image may have no measure


def test_nan_stays_with_its_image():
    def broken(image):
        return torch.where(torch.arange(len(image)) == 1, torch.nan, brightness(image))

    compose = Compose(ImageReward("broken", broken), ImageReward("fine", area), WeightedSum({"broken": 1, "fine": 1}))
    x1 = images(3)
    td = compose(TensorDict({"action": x1}, [3]))
    assert td["reward"].isnan().squeeze(1).tolist() == [False, True, False]
    torch.testing.assert_close(td["reward"][::2, 0], (brightness(x1) + area(x1))[::2])


def test_a_gradient_flows_to_images_that_want_one_and_else_nothing_is_recorded():
    network = nn.Linear(3, 1)
    reward = ImageReward("linear", lambda image: network(image.mean((2, 3))).squeeze(1))
    x1 = images(3)
    assert not reward(TensorDict({"action": x1}, [3]))["rewards", "linear"].requires_grad
    td = suite(numpy_segmenter)(TensorDict({"action": x1.requires_grad_(), "x0": images(3, 1)}, [3]))
    td["reward"].sum().backward()
    torch.testing.assert_close(x1.grad, torch.full_like(x1, 3 / x1[0].numel()))


def test_numbers_of_another_type_become_float32():
    td = ImageReward("count", lambda image: (image > 0).flatten(1).sum(1))(TensorDict({"action": images(3)}, [3]))
    assert td["rewards", "count"].dtype == torch.float32 and (td["rewards", "count"] > 0).all()


@pytest.mark.parametrize(
    ("function", "came"),
    [
        (lambda image: [0.0] * len(image), "got a list"),
        (lambda image: None, "got a NoneType"),
        (lambda image: 1.0, "got a float"),
        (lambda image: image.mean(), r"got \(\)"),
        (lambda image: image.mean((1, 2, 3)).unsqueeze(1), r"got \(3, 1\)"),
    ],
)
def test_a_function_that_returns_something_else_is_named(function, came):
    with pytest.raises(ValueError, match=rf"reward 'mine': need a tensor of shape \(3,\), {came}"):
        ImageReward("mine", function)(TensorDict({"action": images(3)}, [3]))


def test_absent_inputs_are_named_with_a_hint():
    td = TensorDict({"action": images(3)}, [3])
    with pytest.raises(ValueError, match=r"'nuclear' needs .*masks.*put Segment\(segmenter\) before"):
        ImageReward("nuclear", area, [NUCLEI])(td)
    with pytest.raises(ValueError, match=r"'size' needs .*measures.*Segment\(segmenter\) and Measure\(\)"):
        ImageReward("size", torch.nan_to_num, [("measures", "cell_area_max")])(td)
    with pytest.raises(ValueError, match=r"Measure needs masks.*put Segment\(segmenter\) before"):
        Measure()(td)
    with pytest.raises(ValueError, match="'change' needs 'x0'"):
        ImageReward("change", area, ["x0"])(td)
    with pytest.raises(ValueError, match=r"'known' needs 'moa'.*column.*ANNOT"):
        ImageReward("known", area, ["moa"])(td)
    with pytest.raises(ValueError, match="needs the rewards nuclear; there are bright"):
        Compose(ImageReward("bright", brightness), WeightedSum({"bright": 1, "nuclear": 1}))(td)


def test_a_reward_with_a_reference_reads_its_measures_and_the_population():
    def ratio(area, count, moa, *, reference, shaping):
        return shaping(area / reference.mean["cell_area_max"][moa] * count)

    measures = {"cell_area_max": torch.tensor([2000.0, 4400.0]), "cell_count": torch.tensor([1.0, 2.0])}
    td = TensorDict({"measures": TensorDict(measures, [2]), "moa": torch.tensor([0, 1])}, [2])
    reward = ReferenceReward("ratio", ratio, ["cell_area_max", "cell_count"], REFERENCE)
    torch.testing.assert_close(reward(td)["rewards", "ratio"], torch.tensor([[-1.0], [-16.0]]))
    assert reward.clone().reference is REFERENCE


def test_each_mask_has_its_key():
    td = Segment(toy_segmenter)(TensorDict({"action": images(3)}, [3]))
    assert torch.equal(td[NUCLEI] > 0, images(3)[:, 2] > 0)
    assert torch.equal(td[CELLS] > 0, images(3)[:, 0] > 0)


def test_the_examples_of_the_documentation():
    assert doctest.testmod(rewards.transforms).failed == 0

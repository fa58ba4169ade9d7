from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from torchrl.envs import Compose, TransformedEnv

from cellenv.data.synthetic import SyntheticCells
from cellenv.env import VirtualCellEnv
from cellenv.gym import Steer, World
from cellenv.streams import rng_at
from rewards import AveragedOverOrientations, MoAClassifier, Reference
from rewards.segmentation import Masks
from rewards.suite import CellCount, MoAProbability
from rewards.transforms import Segment, WeightedSum
from tests.cellenv.toy_bandit import toy_generator, toy_suite, toy_world
from tests.cellenv.toy_cells import ToyCells


@pytest.fixture(scope="module")
def world():
    return toy_world()


@pytest.fixture(scope="module")
def contexts():
    return ToyCells().draw_contexts(5, rng_at(0))


def test_a_world_is_frozen_and_shared():
    generator = toy_generator().train()
    world = toy_world(generator=generator)
    assert deepcopy(world) is world and generator.training and not world.generator.training
    with torch.no_grad():
        generator.network.gain.add_(1)
    assert world.generator.network.gain.item() == pytest.approx(0.2)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_world_generates_in_its_precision(contexts, precision):
    generator, seen = toy_generator(), []

    class Noted(type(generator.network)):
        def forward(self, x_t, t, condition):
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(x_t, t, condition)

    generator.network = Noted()
    world = toy_world(generator=generator, precision=precision)
    task = Steer(world)
    outcome = task.score(task.prepare(contexts), np.zeros((5, 6), np.float32))
    assert set(seen) == {precision == "bf16"} and outcome["image"].dtype == torch.float32


def test_contexts_depend_on_their_own_stream_alone(world):
    streams = [np.random.default_rng(i) for i in range(3)]
    together = world.draw(streams)
    alone = torch.cat([world.draw([np.random.default_rng(i)]) for i in range(3)])
    assert (together == alone).all() and len(together["seed"].unique()) == 3
    assert not (world.draw(streams)["seed"] == together["seed"]).any()


def test_rewards_belong_to_their_context_and_image(world, contexts):
    images = torch.rand(5, 2, 3, 8, 8, generator=rng_at(4)) * 2 - 1
    rated = world.rate_each(contexts, images)
    torch.testing.assert_close(rated["rewards", "bright"], images.mean((2, 3, 4)))
    contrast = images.flatten(2).std(2) * (contexts["moa"] + 1)[:, None]
    torch.testing.assert_close(rated["rewards", "contrast"], contrast)
    assert world.rewards == ("bright", "contrast")


def test_no_contexts_give_no_images_and_no_rewards(world, contexts):
    assert world.candidates(contexts[:0], 2).shape == (0, 2, 3, 8, 8)
    none, some = (world.rate(part, part["x0"]) for part in (contexts[:0], contexts))
    assert none.batch_size == (0,) and none["reward"].shape == (0,)
    assert set(none.keys(True, True)) == set(some.keys(True, True))


def test_an_image_that_cannot_be_scored_is_nan_and_its_neighbour_is_not(contexts):
    world = toy_world(suite=toy_suite(lambda images: images[:, 0, 0, 0].where(images[:, 0, 0, 0] > 0, torch.nan)))
    images = torch.ones(2, 3, 8, 8)
    images[1, 0, 0, 0] = -1
    assert world.rate(contexts[:2], images)["reward"].isnan().tolist() == [False, True]


def test_masks_come_from_the_segmenter_of_the_suite(world):
    def segment(images, channels):
        return Masks((images[:, 2] > 0).int(), (images[:, 0] > 0).int())

    images = world.data.pixels[:4]
    nuclei, cells = toy_world(suite=Compose(Segment(segment), toy_suite())).masks(images)
    assert (nuclei == (images[:, 2] > 0)).all() and (cells == (images[:, 0] > 0)).all()
    assert world.masks(images) is None


def test_rewards_change_the_default_suite(monkeypatch, tmp_path):
    (tmp_path / "lab.py").write_text("def sharpness(images):\n    return images.flatten(1).std(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    data = SyntheticCells("test")
    world = World(toy_generator(), data, rewards=("roundness=0", "moa=2", "sharpness=lab:sharpness:0.5"))
    default = ("moa", "containment", "nucleus_size", "cell_size", "nucleus_count", "cell_count")
    assert world.rewards == (*default, "sharpness")
    contexts = data.draw_contexts(2, rng_at(0))
    rated = world.rate(contexts, contexts["x0"])
    torch.testing.assert_close(rated["rewards", "sharpness"], contexts["x0"].flatten(1).std(1))
    weights = {"moa": 2, "containment": 2, "sharpness": 0.5}
    total = sum(weights.get(name, 1) * rated["rewards", name] for name in world.rewards)
    torch.testing.assert_close(rated["reward"], total)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "fp16"}, "fp32 or bf16; got 'fp16'"),
        ({"rewards": ("moa=2",)}, r"give them or a suite; got rewards=\('moa=2',\)"),
        ({"suite": None, "rewards": ("lustre=2",)}, "unknown reward 'lustre'"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        toy_world(**changes)


def counts(by, populations):
    moments = {"cell_count": torch.ones(len(populations))}
    count = torch.full((len(populations),), 40)
    reference = Reference(by=by, populations=populations, count=count, mean=moments, std=moments, about={})
    return Compose(CellCount(reference), WeightedSum({"cell_count": 1.0}))


def probabilities(*moas):
    return Compose(MoAProbability(AveragedOverOrientations(MoAClassifier(moas))), WeightedSum({"moa": 1.0}))


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        (lambda: None, "classifier of the suite knows the MoAs .*; the data have p, q: give"),
        (lambda: probabilities("q", "p"), "classifier of the suite knows the MoAs q, p; the data have p, q"),
        (lambda: counts("moa", ("p", "q", "r")), "reference of the suite knows the MoAs p, q, r; the data have p, q"),
        (lambda: counts("compound", ("b", "a", "c", "d/e")), "knows the compounds b, a, c, d/e; the data have a, b"),
    ],
)
def test_rewards_made_for_other_data_are_refused(suite, message):
    with pytest.raises(ValueError, match=message):
        toy_world(suite=suite())


def test_the_networks_of_the_suite_are_copied(contexts):
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    suite = Compose(MoAProbability(classifier), WeightedSum({"moa": 1.0}))
    mine = TransformedEnv(VirtualCellEnv(ToyCells()), suite)
    world = toy_world(suite=suite)
    before = world.rate(contexts, contexts["x0"])["reward"]
    with torch.no_grad():
        classifier[1].bias.copy_(torch.tensor([9.0, -9.0]))
    assert torch.equal(world.rate(contexts, contexts["x0"])["reward"], before)
    world.suite[0].classifier.load_state_dict(classifier.state_dict())  # its function reads this copy too
    assert mine.transform is suite and suite[0].parent is not None
    assert not torch.isclose(world.rate(contexts, contexts["x0"])["reward"], before).any()


def test_rewards_made_for_the_data_are_taken():
    for suite in (
        probabilities("p", "q"),
        counts("moa", ("p", "q")),
        counts("compound", ToyCells.compounds),
        counts("compound", ToyCells.compounds[:-1]),  # the last was added after it was fitted
        counts("controls", ("controls",)),
    ):
        assert len(toy_world(suite=suite).rewards) == 1


def test_features_need_a_classifier():
    with pytest.raises(ValueError, match=r"no classifier.*give World\(features"):
        toy_world(features=None).features(torch.zeros(1, 3, 8, 8))

import pytest
import torch
from tensordict import TensorDict
from torchrl.envs import Compose, ExcludeTransform, RewardScaling, TransformedEnv
from torchrl.envs.utils import check_env_specs

from cellenv.data.cells import CellData
from cellenv.env import VirtualCellEnv
from rewards.segmentation import Masks
from rewards.transforms import CELLS, NUCLEI, ImageReward, Segment, WeightedSum


class Noise(CellData):
    """Two treated and two control images of noise, 8 x 6 px."""

    channels, size = ("actin", "tubulin", "DNA"), (3, 8, 6)
    compounds, moas, compound_moa = ("taxol",), ("stabilizers",), torch.tensor([0])
    conditions, keys = torch.zeros(1, 2), ("a", "b", "c", "d")
    perturbation, batch = torch.tensor([0, 0, -1, -1]), torch.zeros(4, dtype=torch.int64)

    def images(self, rows):
        return images(4)[rows]


def bandit(batch_size):
    return VirtualCellEnv(Noise(), batch_size=batch_size, seed=0)


class Threshold:
    """Nuclei where DNA > 0, cells where actin > 0; one object each. Counts its calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, images, channels=()):
        self.calls.append((images.shape, channels))
        return Masks((images[:, 2] > 0).int(), (images[:, 0] > 0).int())


def area(labels):
    return (labels > 0).flatten(1).sum(1).float()


def stack(segmenter):
    return Compose(
        Segment(segmenter),
        ImageReward("nuclear", area, [NUCLEI]),
        ImageReward("cellular", area, [CELLS]),
        ImageReward("moved", lambda image, x0: (image - x0).flatten(1).mean(1), ["action", "x0"]),
        WeightedSum({"nuclear": 2.0, "cellular": -1.0, "moved": 3.0}),
        ExcludeTransform(NUCLEI, CELLS),
    )


@pytest.mark.parametrize("batch", [None, 3])
def test_specs_hold_with_and_without_a_batch(batch):
    check_env_specs(TransformedEnv(bandit(batch), stack(Threshold())))
    check_env_specs(TransformedEnv(bandit(batch), Segment(Threshold())))
    check_env_specs(TransformedEnv(bandit(batch), ImageReward("bright", lambda image: image.mean((1, 2, 3)))))


def test_total_can_be_scaled_by_torchrl():
    check_env_specs(
        TransformedEnv(bandit(3), Compose(*stack(Threshold()).transforms, RewardScaling(0.0, 2.0, in_keys=["reward"])))
    )


def images(n, rng_seed=0):
    return torch.rand(n, 3, 8, 6, generator=torch.Generator().manual_seed(rng_seed)) * 2 - 1


def test_a_step_scores_the_action_once():
    segmenter = Threshold()
    env = TransformedEnv(bandit(6), stack(segmenter))
    td, x1 = env.reset(), images(6)
    td["x0"] = images(6, 1)
    td = env.step(td.set("action", x1))
    assert segmenter.calls == [((6, 3, 8, 6), ("actin", "tubulin", "DNA"))]
    nuclear, cellular = area(x1[:, 2]), area(x1[:, 0])
    moved = (x1 - td["x0"]).mean((1, 2, 3))
    rewards = td["next", "rewards"]
    assert set(rewards.keys()) == {"nuclear", "cellular", "moved"}
    torch.testing.assert_close(rewards["nuclear"], nuclear.unsqueeze(1))
    torch.testing.assert_close(td["next", "reward"], (2 * nuclear - cellular + 3 * moved).unsqueeze(1))
    assert "masks" not in td["next"].keys() or not td["next", "masks"].keys()


def test_offline_equals_the_step_in_any_batch_shape():
    x1, x0 = images(6), images(6, 1)
    env = TransformedEnv(bandit(6), stack(Threshold()))
    stepped = env.step(env.reset().update({"x0": x0, "action": x1}))["next", "reward"]  # (6, 1)
    plain = TensorDict({"action": x1, "x0": x0}, [6])
    torch.testing.assert_close(stack(Threshold())(plain.clone())["reward"], stepped)
    torch.testing.assert_close(stack(Threshold())(plain.reshape(2, 3))["reward"], stepped.reshape(2, 3, 1))
    torch.testing.assert_close(stack(Threshold())(plain[4])["reward"], stepped[4])


def test_unlocked_environment_takes_any_batch():
    env = TransformedEnv(bandit(None), stack(Threshold()))
    td = env.reset(TensorDict(batch_size=[5]))
    assert env.step(td.set("action", images(5)))["next", "reward"].shape == (5, 1)


def test_nan_stays_with_its_image():
    def broken(image):
        return torch.where(torch.arange(len(image)) == 1, torch.nan, image.mean((1, 2, 3)))

    compose = Compose(ImageReward("broken", broken), ImageReward("fine", area), WeightedSum({"broken": 1, "fine": 1}))
    x1 = images(3)
    td = compose(TensorDict({"action": x1}, [3]))
    assert td["reward"].isnan().squeeze(1).tolist() == [False, True, False]
    torch.testing.assert_close(td["reward"][::2, 0], (x1.mean((1, 2, 3)) + area(x1))[::2])


def test_mistakes_are_explained():
    td = TensorDict({"action": images(3)}, [3])
    with pytest.raises(ValueError, match=r"'nuclear' needs .*masks.*put Segment"):
        ImageReward("nuclear", area, [NUCLEI])(td)
    with pytest.raises(ValueError, match="'moved' needs 'x0'"):
        ImageReward("moved", area, ["x0"])(td)
    with pytest.raises(ValueError, match=r"'flat': need \(3,\), got \(3, 8, 6\)"):
        ImageReward("flat", lambda image: image.mean(1))(td)
    with pytest.raises(ValueError, match="needs the rewards nuclear; there are bright"):
        Compose(ImageReward("bright", area), WeightedSum({"bright": 1, "nuclear": 1}))(td)

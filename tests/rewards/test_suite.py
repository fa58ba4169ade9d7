import pytest
import torch
from tensordict import TensorDict
from torch import nn
from torchrl.envs import Compose, TransformedEnv
from torchrl.envs.utils import check_env_specs

from cellenv.data.synthetic import SyntheticCells
from cellenv.env import VirtualCellEnv
from rewards.classifier import MoAClassifier
from rewards.reference import Reference
from rewards.segmentation import Masks
from rewards.shaping import bounded, clipped_square, dead_zone, square
from rewards.suite import (
    WEIGHTS,
    CellCount,
    CellSize,
    MoAProbability,
    NucleusCount,
    NucleusInCytoplasm,
    NucleusSize,
    Roundness,
    cellflux_rewards,
)
from rewards.transforms import CELLS, NUCLEI, ImageReward, Segment

SIZE = 96
MOAS = SyntheticCells.moas
M = len(MOAS)


def toy_segmenter(images, channels=("actin", "tubulin", "DNA")):
    """One object a mask: where DNA, and where actin, is above 0."""
    planes = dict(zip(channels, images.unbind(1), strict=True))
    return Masks((planes["DNA"] > 0).int(), (planes["actin"] > 0).int())


class Brightness(nn.Module):
    """Logit of MoA m = 4 m mean(tubulin)."""

    def forward(self, images):
        return images[:, 1].mean((1, 2)).unsqueeze(1) * 4 * torch.arange(M)


# MoA m: means as below plus m, so that a wrong MoA shows
MEANS = {"nucleus_area_max": 400.0, "cell_area_max": 2000.0, "roundness": 0.9, "nucleus_count": 1.0, "cell_count": 1.0}
STDS = {"nucleus_area_max": 50.0, "cell_area_max": 300.0, "roundness": 0.05, "nucleus_count": 0.5, "cell_count": 0.4}
REFERENCE = Reference(
    moas=MOAS,
    count=torch.full((M,), 100),
    mean={name: mean * (1 + 0.1 * torch.arange(M)) for name, mean in MEANS.items()},
    std={name: std * (1 + 0.1 * torch.arange(M)) for name, std in STDS.items()},
    about={},
)


def rectangle(image, channel, y, x, height, width):
    image[("actin", "tubulin", "DNA").index(channel), y : y + height, x : x + width] = 1


def pictures():
    """A cell with its nucleus half outside; no nucleus; only a nucleus on the border; nothing; no cell."""
    images = torch.full((5, 3, SIZE, SIZE), -1.0)
    rectangle(images[0], "actin", 20, 20, 40, 50)
    rectangle(images[0], "DNA", 50, 30, 20, 20)
    rectangle(images[1], "actin", 20, 20, 40, 50)
    rectangle(images[2], "actin", 0, 0, 40, 50)
    rectangle(images[2], "DNA", 0, 10, 20, 20)
    rectangle(images[4], "DNA", 50, 30, 20, 20)
    images[0, 1] = 0.2
    return images


def scored(preset="default", moa=0):
    td = TensorDict({"action": pictures(), "moa": torch.full((5,), moa)}, [5])
    return cellflux_rewards(toy_segmenter, Brightness(), REFERENCE, preset)(td)


def z(name, value, moa=0):
    sigma = STDS[name] * (1 + 0.1 * moa)
    if name.endswith("count"):
        sigma = (sigma**2 + 1 / 12) ** 0.5
    return (value - MEANS[name] * (1 + 0.1 * moa)) / sigma


@pytest.mark.parametrize("moa", [0, 3])
@pytest.mark.parametrize(("preset", "worst"), [("default", 25.0), ("paper", torch.inf)])
def test_rewards_of_drawn_pictures(preset, worst, moa):
    """Each case of DESIGN's nan rules, against arithmetic."""
    got = {name: value.squeeze(1) for name, value in scored(preset, moa)["rewards"].items()}

    def shaped(name, *values):
        return torch.tensor([-min((5.0 if v is None else z(name, v, moa)) ** 2, worst) for v in values])

    torch.testing.assert_close(got["containment"], torch.tensor([0.5, 0.0, 1.0, 0.0, 0.0]))
    torch.testing.assert_close(got["nucleus_size"], shaped("nucleus_area_max", 400, None, 400, None, 400))
    torch.testing.assert_close(got["cell_size"], shaped("cell_area_max", 2000, 2000, 2000, None, None))
    torch.testing.assert_close(got["nucleus_count"], shaped("nucleus_count", 1, 0, 1, 0, 1))
    torch.testing.assert_close(got["cell_count"], shaped("cell_count", 1, 1, 1, 0, 0))
    assert got["roundness"][1:4].tolist() == [-25.0, -1.0, -25.0]
    assert -worst <= got["roundness"][0] < 0
    logits = torch.tensor([0.2, -1.0, -1.0, -1.0, -1.0]).unsqueeze(1) * 4 * torch.arange(M)
    torch.testing.assert_close(got["moa"], logits.softmax(1)[:, moa])
    total = sum(WEIGHTS[name] * got[name] for name in WEIGHTS)
    torch.testing.assert_close(scored(preset, moa)["reward"].squeeze(1), total)


def test_names_order_and_weights_are_the_papers():
    td = scored()
    assert list(td["rewards"].keys()) == list(WEIGHTS)
    assert list(WEIGHTS.items()) == [
        *[("moa", 5), ("containment", 2), ("roundness", 1), ("nucleus_size", 1)],
        *[("cell_size", 1), ("nucleus_count", 1), ("cell_count", 1)],
    ]
    assert "masks" not in td.keys() or not td["masks"].keys()


def test_deleting_the_nucleus_never_pays():
    with_nucleus, without = (scored()["reward"][i, 0] for i in (0, 1))
    assert without < with_nucleus - 20


@pytest.fixture(scope="module")
def data():
    return SyntheticCells("test")


ALONE = {
    "moa": [MoAProbability(MoAClassifier(MOAS))],
    "containment": [Segment(toy_segmenter), NucleusInCytoplasm()],
    "roundness": [Segment(toy_segmenter), Roundness(REFERENCE)],
    "nucleus_size": [Segment(toy_segmenter), NucleusSize(REFERENCE)],
    "cell_size": [Segment(toy_segmenter), CellSize(REFERENCE, dead_zone)],
    "nucleus_count": [Segment(toy_segmenter), NucleusCount(REFERENCE, square)],
    "cell_count": [Segment(toy_segmenter), CellCount(REFERENCE)],
}


@pytest.mark.parametrize("name", [*ALONE, "all"])
def test_specs_hold_with_each_reward_and_with_all(name, data):
    rewards = cellflux_rewards(toy_segmenter, MoAClassifier(MOAS), REFERENCE)
    transform = rewards if name == "all" else Compose(*ALONE[name])
    env = TransformedEnv(VirtualCellEnv(data, batch_size=4, group_size=2, seed=0), transform)
    check_env_specs(env)
    expected = set(ALONE) if name == "all" else {name}
    assert set(env.full_reward_spec["rewards"].keys()) == expected


def test_step_equals_offline(data):
    env = TransformedEnv(
        VirtualCellEnv(data, batch_size=4, seed=0), cellflux_rewards(toy_segmenter, Brightness(), REFERENCE)
    )
    td = env.reset()
    td["action"] = pictures()[:4]
    stepped = env.step(td)
    offline = cellflux_rewards(toy_segmenter, Brightness(), REFERENCE)(td.select("action", "moa", "x0"))
    torch.testing.assert_close(offline["reward"], stepped["next", "reward"])
    for name in WEIGHTS:
        torch.testing.assert_close(offline["rewards", name], stepped["next", "rewards", name])


def test_the_embedded_suite_likes_real_images_and_not_noise(data):
    """No argument: the shipped weights. Real images earn what a real image earns; static earns the worst."""
    rows = data.treated[::16]  # 65
    td = TensorDict({"action": data.images(rows), "moa": data.compound_moa[data.perturbation[rows]]}, [len(rows)])
    real = {name: value.mean().item() for name, value in cellflux_rewards()(td)["rewards"].items()}
    assert real["moa"] > 0.8
    assert real["containment"] > 0.9
    for name in ("roundness", "nucleus_size", "cell_size", "nucleus_count", "cell_count"):
        assert -2 < real[name] < -0.4, name  # E[-z^2] = -1, less where |z| > 5 is cut or sigma has its floor

    static = torch.rand(td["action"].shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noise = cellflux_rewards()(TensorDict({"action": static, "moa": td["moa"]}, [len(rows)]))
    assert noise["reward"].mean() < -20


def test_one_more_reward_fits_in():
    """What the README shows: a function, a name, a weight."""
    compose = cellflux_rewards(toy_segmenter, Brightness(), REFERENCE)
    sharp = ImageReward("sharp", lambda image: image.diff(dim=3).abs().mean((1, 2, 3)))
    compose.insert(0, sharp)
    td = compose(TensorDict({"action": pictures(), "moa": torch.zeros(5, dtype=torch.int64)}, [5]))
    assert td["rewards", "sharp"][0] > td["rewards", "sharp"][3] == 0


def test_classifier_is_frozen_and_needs_the_moa():
    classifier = MoAClassifier(MOAS).train()
    reward = MoAProbability(classifier)
    assert not classifier.training
    assert not any(p.requires_grad for p in classifier.parameters())
    with pytest.raises(ValueError, match=r"0\.\.11, got 12"):
        reward(TensorDict({"action": pictures(), "moa": torch.full((5,), 12)}, [5]))
    with pytest.raises(ValueError, match="'moa' needs 'moa'"):
        reward(TensorDict({"action": pictures()}, [5]))


def test_mistakes_are_explained():
    with pytest.raises(ValueError, match="unknown preset 'papr'; there are default, paper"):
        cellflux_rewards(toy_segmenter, Brightness(), REFERENCE, "papr")
    with pytest.raises(ValueError, match="classifier's MoAs"):
        cellflux_rewards(toy_segmenter, MoAClassifier(MOAS[::-1]), REFERENCE)


def test_shapings_have_their_closed_form():
    z = torch.tensor([-7.0, -5.0, -1.0, 0.0, 0.5, 2.0, torch.nan], dtype=torch.float64)
    nan = torch.nan
    for shaping, expected in [
        (square, [-49, -25, -1, 0, -0.25, -4, nan]),
        (clipped_square, [-25, -25, -1, 0, -0.25, -4, nan]),
        (dead_zone, [-16, -16, 0, 0, 0, -1, nan]),
    ]:
        torch.testing.assert_close(shaping(z), torch.tensor(expected, dtype=z.dtype), equal_nan=True)
    torch.testing.assert_close(bounded(z), torch.exp(-z * z / 2) - 1, equal_nan=True)


def test_masks_of_each_reward_are_its_own():
    """A cell reward that read nuclei would not see this change."""
    nuclei, cells = torch.zeros(1, SIZE, SIZE, dtype=torch.int32), torch.zeros(1, SIZE, SIZE, dtype=torch.int32)
    cells[:, 10:50, 10:60] = 1
    td = TensorDict({NUCLEI: nuclei, CELLS: cells, "moa": torch.zeros(1, dtype=torch.int64)}, [1])
    assert CellSize(REFERENCE)(td)["rewards", "cell_size"].item() == 0
    assert NucleusSize(REFERENCE)(td)["rewards", "nucleus_size"].item() == -25

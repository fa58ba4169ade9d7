"""What tests of the post-training scripts share: a tiny generator to start from, a toy reward, a silent evaluation."""

import pytest
import torch
from torch import nn
from torchrl.envs import Compose

from cellenv.data.synthetic import SyntheticCells
from cellenv.generator import CellFlux, Sampling
from cellenv.networks import UNet, UNetConfig
from cellenv.streams import rng_at
from rewards.transforms import ImageReward, WeightedSum

TINY = UNetConfig(condition_dim=64, width=8, multipliers=(1,), blocks=1, attention=(), dropout=0.0, patch=8)


@pytest.fixture
def seeded():
    """The global random stream, from 0, and as it was afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def evaluated(monkeypatch, request):
    """The scripts see brightness for a reward; a list of what the evaluation was given: (models, data, options)."""
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import post_training

    def suite(**_):
        bright = ImageReward("bright", lambda images: images.flatten(1).mean(1))
        return Compose(bright, WeightedSum({"bright": 1.0}))

    calls = []
    monkeypatch.setattr(post_training, "cellflux_rewards", suite)
    monkeypatch.setattr(post_training, "make_rulers", lambda data, **_: None)
    monkeypatch.setattr(
        post_training, "evaluate_run", lambda models, data, folder, **kw: calls.append((models, data, kw))
    )
    return calls


@pytest.fixture
def save_base(tmp_path):
    """sampling -> the folder of a tiny generator with random weights."""

    def save(sampling: Sampling):
        network = UNet(TINY)
        for i, parameter in enumerate(network.parameters()):
            nn.init.normal_(parameter, std=0.1, generator=rng_at(8, i))
        CellFlux(network, TINY, sampling).save_pretrained(tmp_path / "base")
        return tmp_path / "base"

    return save


@pytest.fixture(scope="module")
def data() -> SyntheticCells:
    return SyntheticCells("test")

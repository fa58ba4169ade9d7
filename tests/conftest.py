"""Fixtures of several folders: Accelerate's state, the global random stream, embedded cells, a tiny generator."""

from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn

from cellenv.data.synthetic import SyntheticCells
from cellenv.generator import CellFlux, Sampling
from cellenv.networks import UNet, UNetConfig
from cellenv.streams import rng_at
from tests.accelerate_configs.launcher import launched_environment

TINY = UNetConfig(condition_dim=64, width=8, multipliers=(1,), blocks=1, attention=(), dropout=0.0, patch=8)


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory):
    """A cache of checks of its own, so that tests leave nothing in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", autouse=True)
def precision_of_its_own():
    """A file begins without the precision of the one before, which is bf16 where the hardware has it."""
    AcceleratorState._reset_state(True)


@pytest.fixture
def fresh_accelerate():
    """Accelerate keeps its state for the process; a test that wants another precision starts and leaves it clean."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.fixture
def fsdp2(monkeypatch):
    """The variables that a process launched with accelerate_configs/fsdp2.yaml finds."""
    for name, value in launched_environment("fsdp2", "--num_processes 2").items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def seeded():
    """Seed the global random stream with 0, and restore it afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def save_tiny(folder: Path, sampling: Sampling) -> None:
    """Save a tiny generator with random weights."""
    network = UNet(TINY)
    for i, parameter in enumerate(network.parameters()):
        nn.init.normal_(parameter, std=0.1, generator=rng_at(8, i))
    CellFlux(network, TINY, sampling).save_pretrained(folder)


@pytest.fixture
def save_base(tmp_path):
    """Return a function from a sampling to the folder of a tiny generator with random weights."""

    def save(sampling: Sampling = Sampling(steps=2, noise_level=0.5)):  # noqa: B008 - frozen
        save_tiny(tmp_path / "base", sampling)
        return tmp_path / "base"

    return save


@pytest.fixture(scope="module")
def data() -> SyntheticCells:
    """The test split of the embedded world."""
    return SyntheticCells("test")

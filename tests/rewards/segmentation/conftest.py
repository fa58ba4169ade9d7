"""Fixtures of the segmenter tests: synthetic cells, and every segmenter."""

import pytest
import torch

from cellenv.data.synthetic import SyntheticCells
from rewards.judge import JudgeSegmenter
from rewards.segmentation import CellposeSegmenter, ClassicalSegmenter, EmbeddedSegmenter
from tests.rewards.segmentation.cellpose_toys import MAJOR, save_random, stub_network


@pytest.fixture(scope="session")
def cells():
    """Twelve synthetic cells and their true masks."""
    data = SyntheticCells("test")
    rows = torch.arange(0, len(data), len(data) // 12)[:12]
    return data.images(rows), data.masks(rows)


@pytest.fixture(scope="session")
def many_cells():
    """Sixty synthetic crops and their true masks, for averages."""
    data = SyntheticCells("test")
    rows = torch.arange(0, len(data), len(data) // 60)[:60]
    return data.images(rows), data.masks(rows)


@pytest.fixture(scope="session")
def cellpose(tmp_path_factory):
    """Cellpose 3.1 with a network that answers with the bright pixels."""
    if MAJOR != 3:
        pytest.skip("needs Cellpose 3.1")
    file = save_random(tmp_path_factory.mktemp("weights") / "random")
    with pytest.MonkeyPatch.context() as patch:
        segmenter = CellposeSegmenter(file, file, flow_threshold=0)
        stub_network(patch, segmenter.nuclei.model)  # both passes use it
        yield segmenter


@pytest.fixture(params=["embedded", "judge", "classical", "cellpose"])
def segmenter(request):
    """Each segmenter in turn."""
    if request.param == "cellpose":
        return request.getfixturevalue("cellpose")
    if request.param == "classical":
        return ClassicalSegmenter()
    return {"embedded": EmbeddedSegmenter, "judge": JudgeSegmenter}[request.param].from_pretrained()


@pytest.fixture(scope="session")
def empty_images():
    """Flat images, and noise at full and at faint contrast."""
    rng = torch.Generator().manual_seed(0)
    flat = torch.tensor([-1.0, -0.3, 0.0, 1.0]).reshape(-1, 1, 1, 1).expand(4, 3, 96, 96)
    uniform = 2 * torch.rand(8, 3, 96, 96, generator=rng) - 1
    gauss = torch.randn(8, 3, 96, 96, generator=rng)
    stretched = 2 * (gauss - gauss.amin((2, 3), True)) / (gauss.amax((2, 3), True) - gauss.amin((2, 3), True)) - 1
    return torch.cat([flat, uniform, stretched, 0.02 * gauss]).clamp(-1, 1)

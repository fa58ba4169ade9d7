import pytest
import torch

from tests.cellenv.published_checkpoints import MEANS, RAW
from tests.cellenv.published_toys import contents, with_ema


@pytest.fixture(scope="module")
def published_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "cellflux.pth"
    torch.save(contents(with_ema(RAW, MEANS), [f"model.{name}" for name in RAW]), path)
    return path


@pytest.fixture
def save_checkpoint(tmp_path):
    """content -> a file that holds it."""

    def write(content, **options):
        torch.save(content, tmp_path / "c.pth", **options)
        return tmp_path / "c.pth"

    return write

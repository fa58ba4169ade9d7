import pytest
import torch

from algorithms.evaluation.inception import inception_features


class Rogue:
    """Writes a file when unpickled."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_weights_that_hold_code_are_refused_and_not_run(tmp_path):
    trace = tmp_path / "trace"
    torch.save({"a": Rogue(str(trace))}, tmp_path / "rogue.pth")
    with pytest.raises(ValueError, match="damaged or holds more than tensors"):
        inception_features(tmp_path / "rogue.pth")
    assert not trace.exists()


def test_absent_and_damaged_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no Inception weights at .*none\.pth"):
        inception_features(tmp_path / "none.pth")
    torch.save({"a": torch.ones(1000)}, tmp_path / "half.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "half.pth").read_bytes()[:700])
    with pytest.raises(ValueError, match=r"half\.pth is damaged"):
        inception_features(tmp_path / "half.pth")


def test_missing_package_is_named(tmp_path):
    try:
        import torch_fidelity  # noqa: F401
    except ModuleNotFoundError:
        torch.save({"a": torch.ones(2)}, tmp_path / "weights.pth")
        with pytest.raises(ModuleNotFoundError, match="pip install torch-fidelity"):
            inception_features(tmp_path / "weights.pth")

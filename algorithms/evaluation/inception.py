"""Inception v3 features, in which published Frechet and kernel distances (FID, KID) are taken."""

import pickle
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor


def inception_features(weights: str | Path, device: torch.device | str = "cpu") -> Callable[[Tensor], Tensor]:
    """images (B, 3, H, W) in [-1, 1] -> pool features (B, 2048), as torch-fidelity computes them.

    weights: torch-fidelity's weights-inception-2015-12-05-6726825d.pth; nothing is downloaded. Needs torch-fidelity.
    About 0.3 s an image on a CPU core. With fewer than 2,048 images FID is far too high: compare rows of one table.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or holds more than tensors.
        ModuleNotFoundError: torch-fidelity is not installed.
    """
    weights = Path(weights)
    if not weights.is_file():
        raise FileNotFoundError(f"no Inception weights at {weights}; torch-fidelity publishes {PUBLISHED}")
    try:
        torch.load(weights, map_location="cpu", weights_only=True)  # torch-fidelity itself would run code in the file
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{weights} is damaged or holds more than tensors; fetch {PUBLISHED} anew") from error
    try:
        from torchmetrics.image.fid import NoTrainInceptionV3

        network = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(weights)).to(device)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Inception features need torch-fidelity: pip install torch-fidelity") from error

    def features(images: Tensor) -> Tensor:
        if images.shape[1] != 3:
            raise ValueError(f"Inception needs three channels, got {tuple(images.shape)}")
        return network(((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))

    return features


PUBLISHED = "weights-inception-2015-12-05-6726825d.pth"

"""Does the image show the mechanism of action (MoA) of the compound that was applied? B batch, M MoAs."""

from functools import partial

from torch import Tensor, nn

from rewards.transforms import ImageReward


def moa_probability(images: Tensor, moa: Tensor, *, classifier: nn.Module) -> Tensor:
    """softmax(classifier(images))[moa], the probability of the true MoA.

    Args:
        images: (B, C, H, W) in [-1, 1].
        moa: (B,) ids.
        classifier: images -> logits (B, M).

    Returns:
        (B,) in [0, 1].

    Raises:
        ValueError: an id is outside 0..M-1.

    Source: CellFluxRL, arXiv:2603.21743.

    Example:
        >>> import torch
        >>> chance = lambda images: torch.zeros(len(images), 4)
        >>> moa_probability(torch.zeros(2, 3, 96, 96), torch.tensor([0, 3]), classifier=chance)
        tensor([0.2500, 0.2500])
    """
    logits: Tensor = classifier(images)
    if moa.numel() and not 0 <= int(moa.min()) <= int(moa.max()) < logits.shape[1]:
        raise ValueError(f"MoA ids must lie in 0..{logits.shape[1] - 1}, got {int(moa.min())}..{int(moa.max())}")
    return logits.softmax(1).gather(1, moa.unsqueeze(1)).squeeze(1)  # (B,)


class MoAProbability(ImageReward):
    """("rewards", "moa") by a classifier, any module from images to logits; it is frozen."""

    def __init__(self, classifier: nn.Module):
        super().__init__("moa", partial(moa_probability, classifier=classifier), ["action", "moa"])
        self.classifier = classifier.requires_grad_(False).eval()

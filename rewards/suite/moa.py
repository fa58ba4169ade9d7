"""Does the image show the mechanism of the compound that was applied? B batch, M mechanisms of action (MoA)."""

from functools import partial

from torch import Tensor, nn

from rewards.transforms import ImageReward


def moa_probability(images: Tensor, moa: Tensor, *, classifier: nn.Module) -> Tensor:
    """softmax(classifier(images))[moa], the probability of the true MoA, in [0, 1].

    images (B, C, H, W), moa (B,) ids; the classifier gives logits (B, M). Source: CellFluxRL, arXiv:2603.21743.
    """
    logits = classifier(images)
    if moa.numel() and not 0 <= int(moa.min()) <= int(moa.max()) < logits.shape[1]:
        raise ValueError(f"MoA ids must lie in 0..{logits.shape[1] - 1}, got {int(moa.min())}..{int(moa.max())}")
    return logits.softmax(1).gather(1, moa.unsqueeze(1)).squeeze(1)  # (B,)


class MoAProbability(ImageReward):
    """("rewards", "moa") by a frozen classifier: any module from images to logits."""

    def __init__(self, classifier: nn.Module):
        super().__init__("moa", partial(moa_probability, classifier=classifier), ["action", "moa"])
        self.classifier = classifier.requires_grad_(False).eval()

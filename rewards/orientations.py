"""Orientations of an image, and a classifier averaged over them. B batch, C channels, H, W pixels, M MoAs.

Cells have no up and down. A generator that is trained on one look of a classifier learns what this look errs in; an
error that must survive in every orientation is rarer.
"""

import torch
from torch import Tensor, nn

ORIENTATIONS = 8  # of the square


class AveragedOverOrientations(nn.Module):
    """log mean_k softmax(classifier(orientation k)) in place of the logits of a classifier, (B, C, H, W) -> (B, M).

    Its softmax is the mean of the probabilities.
    """

    def __init__(self, classifier: nn.Module):
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        probabilities = [self.classifier(view).softmax(1) for view in orientations(images)]
        return torch.stack(probabilities).mean(0).log()


def orientations(x: Tensor) -> list[Tensor]:
    """All orientations of images (B, C, H, W), x itself first: eight, or four where H and W differ."""
    square = x.shape[2] == x.shape[3]
    return [orient(x, k) for k in range(0, ORIENTATIONS, 1 if square else 2)]


def orient(x: Tensor, k: int) -> Tensor:
    """Orientation k of 0 to 7 of images (B, C, H, W): k % 4 quarter turns, from 4 on mirrored; 0 is x itself."""
    turned = x.rot90(k % 4, (2, 3))
    return turned.flip(3) if k >= ORIENTATIONS // 2 else turned

"""Temperature, calibration error and confusion matrix of a classifier.

N images, M mechanisms of action (MoA); logits (N, M), true MoA ids (N,). Every MoA weighs the same in temperature and
calibration error, as in training: the classifier's prior is uniform over the MoAs.
"""

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import cross_entropy

from algorithms.evaluation.charts import encode_png


def balanced_weights(moa: Tensor) -> Tensor:
    """Weight of each image, (N,) float64: every MoA among them has the same sum, all together 1."""
    count = torch.bincount(moa).double()
    return 1 / (count[moa] * (count > 0).sum())


def fit_temperature(logits: Tensor, moa: Tensor) -> float:
    """The T in [0.1, 10] that minimises the balanced cross-entropy of logits / T, to 1 %."""
    candidates, weight = 10 ** torch.linspace(-1, 1, 461), balanced_weights(moa)
    losses = [(weight * cross_entropy(logits / T, moa, reduction="none")).sum() for T in candidates]
    return float(candidates[torch.stack(losses).argmin()])


def calibration_error(logits: Tensor, moa: Tensor, bins: int = 15) -> float:
    """ECE = sum over bins of confidence of (weight of the images) |accuracy - mean confidence|.

    Source: Guo et al., arXiv:1706.04599.
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    which = (confidence * bins).long().clamp(max=bins - 1)  # (N,)
    excess = balanced_weights(moa) * ((predicted == moa).double() - confidence)
    return float(torch.bincount(which, excess, minlength=bins).abs().sum())


def confusion_matrix(logits: Tensor, moa: Tensor) -> Tensor:
    """Number of images of MoA i (row) that are classified as j (column), (M, M)."""
    m = logits.shape[1]
    return torch.bincount(moa * m + logits.argmax(1), minlength=m * m).reshape(m, m)


def draw_confusion(confusion: Tensor, moas: tuple[str, ...]) -> bytes:
    """PNG of a confusion matrix, as a share of the images of each true MoA; a MoA without images has shares of 0."""
    count = confusion.sum(1, keepdim=True)
    share = confusion / count.clamp(min=1)
    figure = Figure(figsize=(8, 7), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    axes.set_xticks(range(len(moas)), moas, rotation=60, ha="right")
    axes.set_yticks(range(len(moas)), [f"{moa} ({n})" for moa, n in zip(moas, count.flatten().tolist(), strict=True)])
    axes.set(xlabel="predicted", ylabel="true")
    for i, row in enumerate(share.tolist()):
        for j, value in enumerate(row):
            if value >= 0.005:
                color = "white" if value > 0.5 else "black"
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=color, size=8)
    return encode_png(figure, [])


def compute_scores(logits: Tensor, moa: Tensor, moas: tuple[str, ...]) -> dict[str, Any]:
    """Number of images, accuracies, ECE, and the accuracy of each MoA (None without images) on the test split."""
    confusion = confusion_matrix(logits, moa)
    correct = (logits.argmax(1) == moa).double()
    return {
        "test_images": len(moa),
        "test_accuracy": round(float(correct.mean()), 4),
        "test_balanced_accuracy": round(float((balanced_weights(moa) * correct).sum()), 4),
        "test_ece": round(calibration_error(logits, moa), 4),
        "test_accuracy_per_moa": {
            name: round(float(confusion[m, m] / confusion[m].sum()), 3) if confusion[m].any() else None
            for m, name in enumerate(moas)
        },
    }

"""Temperature, calibration error and confusion matrix of a classifier.

N images, M mechanisms of action (MoA); logits (N, M), true MoA ids (N,).
"""

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import cross_entropy

from algorithms.evaluation.charts import encode_png


def fit_temperature(logits: Tensor, moa: Tensor) -> float:
    """The T in [0.1, 10] that minimises the cross-entropy of logits / T, to 1 %."""
    candidates = 10 ** torch.linspace(-1, 1, 461)
    return float(candidates[torch.stack([cross_entropy(logits / T, moa) for T in candidates]).argmin()])


def calibration_error(logits: Tensor, moa: Tensor, bins: int = 15) -> float:
    """ECE = sum over bins of confidence of (share of images) |accuracy - mean confidence|.

    Source: Guo et al., arXiv:1706.04599.
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    which = (confidence * bins).long().clamp(max=bins - 1)  # (N,)
    excess = torch.bincount(which, (predicted == moa).double() - confidence, minlength=bins)
    return float(excess.abs().sum() / len(moa))


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
    """Number of images, accuracy, ECE, and the accuracy of each MoA (None without images) on the test split."""
    confusion = confusion_matrix(logits, moa)
    return {
        "test_images": len(moa),
        "test_accuracy": round(float((logits.argmax(1) == moa).float().mean()), 4),
        "test_ece": round(calibration_error(logits, moa), 4),
        "test_accuracy_per_moa": {
            name: round(float(confusion[m, m] / confusion[m].sum()), 3) if confusion[m].any() else None
            for m, name in enumerate(moas)
        },
    }

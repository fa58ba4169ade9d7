"""Scores of a segmenter against true masks. B batch, H, W pixels."""

from collections.abc import Mapping

import torch
from rich.table import Table
from torch import Tensor


def average_precision(found: Tensor, truth: Tensor, min_iou: float = 0.5) -> float:
    """TP / (TP + FP + FN) over all images, with IoU > min_iou as a match. found, truth: (B, H, W) labels."""
    hits = n_found = n_truth = 0
    for a, b in zip(found.long(), truth.long(), strict=True):
        rows, columns = int(a.max()) + 1, int(b.max()) + 1
        both = torch.bincount((a * columns + b).flatten(), minlength=rows * columns)
        both = both.reshape(rows, columns)  # pixels of (found, truth)
        union = both.sum(1, keepdim=True) + both.sum(0, keepdim=True) - both
        hits += int((both / union.clamp(min=1) > min_iou)[1:, 1:].sum())
        n_found += len(both[1:].sum(1).nonzero())
        n_truth += len(both[:, 1:].sum(0).nonzero())
    return hits / max(n_found + n_truth - hits, 1)


def results_table(results: Mapping[str, Mapping[str, float]], title: str) -> Table:
    """Scores of the networks, one row each."""
    table = Table("network", "loss", "IoU", "AP 0.5", "false positive rate on empty images", title=title)
    for name, scores in results.items():
        keys = ("loss", "iou", "ap50", "false_positive_rate")
        table.add_row(name, *(f"{scores[key]:.3f}" if key in scores else "" for key in keys))
    return table

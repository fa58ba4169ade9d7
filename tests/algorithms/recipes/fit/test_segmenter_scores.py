import pytest
import torch
from rich.console import Console

from algorithms.recipes.fit.segmenter_scores import average_precision, results_table


def test_average_precision_by_hand():
    truth = torch.zeros(2, 10, 10, dtype=torch.int32)
    truth[0, :4, :4], truth[0, 6:, 6:] = 1, 2
    truth[1, :4, :4] = 1
    found = torch.zeros_like(truth)
    found[0, :4, :4], found[0, 6:, 8:] = 5, 1  # IoU 1; IoU 8 / 16, which is not above 1/2
    found[1, 5:, 5:] = 1  # elsewhere
    assert average_precision(found, truth) == pytest.approx(1 / 5)  # 1 hit, 2 false, 2 missed
    assert average_precision(truth, truth) == 1
    assert average_precision(torch.zeros_like(truth), truth) == 0


def test_the_table_leaves_the_loss_of_an_untrained_network_empty():
    scores = {"iou": 0.91, "ap50": 0.82, "false_positive_rate": 0.03}
    console = Console(width=120, record=True)
    console.print(results_table({"nuclei": scores, "cells": {"loss": 0.75, **scores}}, "title"))
    nuclei, cells = (line for line in console.export_text().splitlines() if "0.910" in line)
    assert "0.750" not in nuclei and "0.750" in cells and "0.820" in nuclei and "0.030" in cells

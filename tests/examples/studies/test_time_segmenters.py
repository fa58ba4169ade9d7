"""Timing the segmenters: the stand-in for a trained Cellpose network, and what counts as time."""

import pytest
import torch

pytest.importorskip("cellpose.resnet_torch")  # 3.1

from examples.studies import time_segmenters
from examples.studies.time_segmenters import TimingConfig, timed_cellpose

pytestmark = [  # of Cellpose 3.1 under a recent torch
    pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning"),
]


def test_the_replaced_output_makes_cellpose_segment_bright_pixels():
    segmenter, timer = timed_cellpose(TimingConfig())
    images = torch.full((2, 3, 96, 96), -1.0)
    images[:, :, 20:60, 30:80] = 1
    for labels in segmenter(images):
        overlap = ((labels == 1) & (images[:, 0] > 0)).sum() / ((labels == 1) | (images[:, 0] > 0)).sum()
        assert overlap > 0.9
    assert timer.network > 0 and timer.excluded > 0


def test_network_time_is_separate_and_replaced_outputs_do_not_count(monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr(time_segmenters, "process_time", lambda: next(clock))  # each reading is a second later
    table = time_segmenters.measure(TimingConfig(images=2, repeats=3))
    rows = {row[1].strip(): row[2:5] for row in (line.split("|") for line in table.splitlines())}
    embedded, _, unit = rows["embedded"]
    assert float(embedded) == pytest.approx(1e3 / 6, abs=0.1) and float(unit) == 1
    # six forward passes of four readings each: one second in the network, one in the output that replaces its own
    total, networks, ratio = map(float, rows["Cellpose"])
    assert networks == 1e3 and total == pytest.approx(1e3 / 6 * (6 * 4 + 1 - 6), abs=0.1) and ratio == 19

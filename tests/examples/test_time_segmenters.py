"""Timing the segmenters: what stands for a trained network, and what is counted."""

import pytest
import torch


@pytest.fixture
def script(monkeypatch, request):
    pytest.importorskip("cellpose.resnet_torch")  # 3.1
    monkeypatch.syspath_prepend(request.config.rootpath / "examples")
    import time_segmenters

    return time_segmenters


pytestmark = [  # of Cellpose 3.1 under a recent torch
    pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning"),
]


def test_the_bright_answer_makes_cellpose_mark_what_is_bright(script):
    segmenter, watch = script.cellpose(script.Config())
    images = torch.full((2, 3, 96, 96), -1.0)
    images[:, :, 20:60, 30:80] = 1
    masks = segmenter(images)
    for labels in masks:
        overlap = ((labels == 1) & (images[:, 0] > 0)).sum() / ((labels == 1) | (images[:, 0] > 0)).sum()
        assert overlap > 0.9
    assert watch.network > 0 and watch.free > 0


def test_only_the_time_of_cellpose_is_parted_and_the_answer_is_free(script, monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr(script, "process_time", lambda: next(clock))  # a second passes at each reading
    table = script.measure(script.Config(images=2, repeats=3))
    rows = {row[1].strip(): row[2:5] for row in (line.split("|") for line in table.splitlines())}
    embedded, _, unit = rows["embedded"]
    assert float(embedded) == pytest.approx(1e3 / 6, abs=0.1) and float(unit) == 1
    # six forwards of four readings each, of which one second is in the network and one in the answer
    total, networks, ratio = map(float, rows["Cellpose"])
    assert networks == 1e3 and total == pytest.approx(1e3 / 6 * (6 * 4 + 1 - 6), abs=0.1) and ratio == 19

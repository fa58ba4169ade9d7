"""What every segmenter must do, and what `split_channels` refuses."""

import sys

import pytest
import torch
from tensordict import TensorDict

from rewards import cellflux_rewards
from rewards.segmentation.protocol import CHANNELS, split_channels
from tests.rewards.segmentation.cellpose_toys import inside_cellpose

DNA = CHANNELS.index("DNA")
pytestmark = inside_cellpose


def test_cells_do_not_depend_on_dna_nor_nuclei_on_the_cell(segmenter, cells):
    images = cells[0]
    swapped = images.clone()
    swapped[:, DNA] = images[:, DNA].roll(1, 0)
    masks, foreign = segmenter(images), segmenter(swapped)
    assert masks.cells.any() and masks.nuclei.any()
    assert torch.equal(masks.cells, foreign.cells)
    assert torch.equal(masks.nuclei.roll(1, 0), foreign.nuclei)


def test_labels_are_numbered_from_one(segmenter, cells):
    for labels in segmenter(cells[0]):
        assert labels.dtype == torch.int32 and labels.shape == (12, 96, 96)
        for image in labels:
            assert image.unique().tolist() == list(range(int(image.max()) + 1))


def test_channels_are_found_by_name(segmenter, cells):
    images = cells[0][:3]
    order = [2, 0, 1]
    masks = segmenter(images)
    permuted = segmenter(images[:, order], channels=[CHANNELS[c] for c in order])
    with_more = segmenter(torch.cat([images[:, :1] * 0, images], 1), channels=["ER", *CHANNELS])
    for labels, after, among in zip(masks, permuted, with_more, strict=True):
        assert torch.equal(labels, after) and torch.equal(labels, among)


def test_an_empty_batch_has_empty_masks(segmenter):
    for labels in segmenter(torch.zeros(0, 3, 96, 96)):
        assert labels.shape == (0, 96, 96) and labels.dtype == torch.int32


def test_images_that_require_a_gradient_have_the_same_masks(segmenter, cells):
    images = cells[0][:2]
    for labels, expected in zip(segmenter(images.clone().requires_grad_()), segmenter(images), strict=True):
        assert torch.equal(labels, expected)


def test_one_stain_of_the_cell_stands_for_both():
    images = torch.rand(2, 5, 32, 32)
    dna, body = split_channels(images, ("Mito", "tubulin", "RNA", "DNA", "ER"))
    assert torch.equal(dna, images[:, 3:4]) and torch.equal(body, images[:, [1, 1]])


BAD = {
    "planes": (torch.zeros(2, 4, 96, 96), CHANNELS, r"need images \(B, 3, H, W\)"),
    "no batch": (torch.zeros(3, 96, 96), CHANNELS, r"need images \(B, 3, H, W\)"),
    "names": (torch.zeros(2, 3, 96, 96), ("red", "green", "DNA"), "channels named actin, tubulin, DNA"),
    "twice": (torch.zeros(2, 3, 96, 96), ("DNA", "tubulin", "DNA"), "each once"),
    "size": (torch.zeros(2, 3, 8, 96), CHANNELS, "at least 16 px"),
    "bytes": (torch.zeros(2, 3, 96, 96, dtype=torch.uint8), CHANNELS, "x / 127.5 - 1"),
    "range": (torch.full((2, 3, 96, 96), 1.5), CHANNELS, "clamp or rescale"),
    "nan": (torch.full((2, 3, 96, 96), float("nan")), CHANNELS, "nan or infinite"),
    "inf": (torch.full((2, 3, 96, 96), float("inf")), CHANNELS, "nan or infinite"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_images_are_refused(segmenter, bad):
    images, channels, message = BAD[bad]
    with pytest.raises(ValueError, match=message):
        segmenter(images, channels)


def test_one_bad_pixel_is_found(cells):
    images = cells[0].clone()
    images[7, 1, 3, 4] = float("nan")
    with pytest.raises(ValueError, match="1 of 331776 are nan or infinite"):
        split_channels(images, CHANNELS)


def test_sizes_must_be_multiples():
    with pytest.raises(ValueError, match="multiples of 16; got 96 x 90"):
        split_channels(torch.zeros(1, 3, 96, 90), CHANNELS, multiple=16)


def test_the_default_rewards_do_not_import_cellpose(monkeypatch, cells):
    monkeypatch.setitem(sys.modules, "cellpose", None)  # importing it fails
    td = TensorDict({"action": cells[0][:2], "moa": torch.zeros(2, dtype=torch.int64)}, [2])
    assert cellflux_rewards()(td)["reward"].isfinite().all()

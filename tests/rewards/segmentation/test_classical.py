import pytest
import torch

from rewards.measures import measure
from rewards.segmentation.classical import ClassicalSegmenter
from rewards.segmentation.protocol import CHANNELS
from tests.rewards.segmentation.cellpose_toys import discs, paint


def iou(labels, truth):
    return ((labels > 0) & (truth > 0)).sum() / ((labels > 0) | (truth > 0)).sum()


def test_synthetic_cells_are_found(many_cells):
    """A threshold misses thin and dim cytoplasm, and so understates containment."""
    images, (nuclei, body) = many_cells
    masks = ClassicalSegmenter()(images)
    assert iou(masks.nuclei, nuclei) > 0.9
    assert iou(masks.cells, body) > 0.65
    assert measure(masks)["containment"].mean() > 0.5


def test_flat_images_and_noise_hold_no_object(empty_images):
    masks = ClassicalSegmenter()(empty_images)
    assert not masks.nuclei.any() and not masks.cells.any()


def test_two_discs_that_touch_are_split_and_specks_removed():
    pair = discs(96, 96, (48, 34, 14), (48, 60, 14), (10, 10, 2))
    found = ClassicalSegmenter()(paint(DNA=pair.unsqueeze(0))).nuclei[0]
    assert int(found.max()) == 2
    assert found[48, 30] != found[48, 64] and found[48, 30] * found[48, 64] > 0
    assert found[10, 10] == 0


def test_a_hole_is_filled():
    ring = discs(96, 96, (48, 48, 30))
    ring[discs(96, 96, (48, 48, 5)) > 0] = 0
    labels = ring.unsqueeze(0)
    assert ClassicalSegmenter()(paint(actin=labels, tubulin=labels)).cells[0, 48, 48] == 1


@pytest.mark.parametrize("channel", CHANNELS)
def test_bright_pixels_in_one_channel_concern_one_kind_of_object(channel):
    masks = ClassicalSegmenter()(paint(**{channel: discs(96, 96, (48, 48, 20)).unsqueeze(0)}))
    assert masks.nuclei.any() == (channel == "DNA")
    assert masks.cells.any() == (channel != "DNA")


def test_batch_equals_one_by_one(cells):
    images = cells[0][:4]
    together = ClassicalSegmenter()(images).cells
    assert torch.equal(together, torch.cat([ClassicalSegmenter()(image.unsqueeze(0)).cells for image in images]))

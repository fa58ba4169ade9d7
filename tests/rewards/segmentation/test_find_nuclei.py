"""Nuclei alone, in images of any size: the same as in crops."""

import pytest
import torch

from cellenv.data.synthetic import SyntheticCells
from rewards.segmentation import ClassicalSegmenter, EmbeddedSegmenter


@pytest.mark.parametrize(
    "segmenter", [EmbeddedSegmenter.from_pretrained(), ClassicalSegmenter()], ids=["embedded", "classical"]
)
def test_nuclei_alone_are_those_of_the_masks(segmenter, data: SyntheticCells):
    images = data.images(torch.arange(3))
    torch.testing.assert_close(segmenter.find_nuclei(images[:, 2:]), segmenter(images).nuclei)


def test_the_floor_of_the_area_is_that_of_a_crop_in_a_field_of_any_size():
    y, x = torch.meshgrid(*(torch.arange(512) + 0.5,) * 2, indexing="ij")
    dna = -torch.ones(1, 1, 512, 512)
    for k, radius in enumerate((5.0, 18.0)):  # 79 px^2: more than 30 px^2, less than a share of 512 x 512
        distance = ((y - 256) ** 2 + (x - 128 - 256 * k) ** 2).sqrt()
        dna = dna.maximum(2 * torch.sigmoid(radius - distance) - 1)
    assert EmbeddedSegmenter.from_pretrained().find_nuclei(dna).amax() == 2

"""Images to labels of nuclei and cells: nuclei from DNA alone, cells from actin and tubulin alone."""

from rewards.segmentation.cellpose import CellposeSegmenter
from rewards.segmentation.classical import ClassicalSegmenter
from rewards.segmentation.embedded import EmbeddedSegmenter
from rewards.segmentation.protocol import CHANNELS, Masks, Segmenter, split_channels

__all__ = [
    "CHANNELS",
    "CellposeSegmenter",
    "ClassicalSegmenter",
    "EmbeddedSegmenter",
    "Masks",
    "Segmenter",
    "split_channels",
]

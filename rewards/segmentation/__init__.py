"""Images to labels of nuclei and cells. Every segmenter sees DNA for nuclei and actin + tubulin for cells, never both."""

from rewards.segmentation.protocol import CHANNELS, Masks, Segmenter, split_channels

__all__ = ["CHANNELS", "Masks", "Segmenter", "split_channels"]

"""Images to labels of nuclei and cells: nuclei from DNA alone, cells from actin and tubulin alone."""

from rewards.segmentation.protocol import CHANNELS, Masks, Segmenter, split_channels

__all__ = ["CHANNELS", "Masks", "Segmenter", "split_channels"]

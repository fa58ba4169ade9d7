"""The seven rewards of CellFluxRL (arXiv:2603.21743), and all of them as one transform."""

from typing import Literal

from torch import nn
from torchrl.envs import Compose, ExcludeTransform

from rewards.classifier import Classifier, MoAClassifier
from rewards.reference import Reference
from rewards.segmentation.embedded import EmbeddedSegmenter
from rewards.segmentation.protocol import Segmenter
from rewards.shaping import clipped_square, square
from rewards.suite.containment import NucleusInCytoplasm
from rewards.suite.count import CellCount, NucleusCount
from rewards.suite.moa import MoAProbability
from rewards.suite.roundness import Roundness
from rewards.suite.size import CellSize, NucleusSize
from rewards.transforms import CELLS, NUCLEI, Segment, WeightedSum

__all__ = [
    "CellCount",
    "CellSize",
    "MoAProbability",
    "NucleusCount",
    "NucleusInCytoplasm",
    "NucleusSize",
    "Roundness",
    "cellflux_rewards",
]

WEIGHTS = {
    "moa": 5.0,
    "containment": 2.0,
    "roundness": 1.0,
    "nucleus_size": 1.0,
    "cell_size": 1.0,
    "nucleus_count": 1.0,
    "cell_count": 1.0,
}
SHAPINGS = {"default": clipped_square, "paper": square}


def cellflux_rewards(
    segmenter: Segmenter | None = None,
    classifier: nn.Module | None = None,
    reference: Reference | None = None,
    preset: Literal["default", "paper"] = "default",
) -> Compose:
    """Segment, the seven rewards, their weighted sum; what is None is the embedded world's.

    preset: how a z-score becomes a reward, -min(|z|, 5)^2 or the paper's -z^2.
    """
    if preset not in SHAPINGS:
        raise ValueError(f"unknown preset {preset!r}; there are {', '.join(SHAPINGS)}")
    segmenter = EmbeddedSegmenter.from_pretrained() if segmenter is None else segmenter
    classifier = MoAClassifier.from_pretrained() if classifier is None else classifier
    reference = Reference.load() if reference is None else reference
    if isinstance(classifier, Classifier) and classifier.moas != reference.moas:
        raise ValueError(f"the classifier's MoAs {classifier.moas} are not the reference's {reference.moas}")
    shaping = SHAPINGS[preset]
    return Compose(
        Segment(segmenter),
        MoAProbability(classifier),
        NucleusInCytoplasm(),
        Roundness(reference, shaping),
        NucleusSize(reference, shaping),
        CellSize(reference, shaping),
        NucleusCount(reference, shaping),
        CellCount(reference, shaping),
        WeightedSum(WEIGHTS),
        ExcludeTransform(NUCLEI, CELLS),
    )

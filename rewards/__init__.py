"""From generated images to rewards: segment, measure, compare with real cells. Knows no time and no velocity."""

from rewards.classifier import MoAClassifier
from rewards.judge import JudgeClassifier, JudgeSegmenter
from rewards.reference import Reference
from rewards.suite import cellflux_rewards
from rewards.transforms import ImageReward, Segment, WeightedSum

__all__ = [
    "ImageReward",
    "JudgeClassifier",
    "JudgeSegmenter",
    "MoAClassifier",
    "Reference",
    "Segment",
    "WeightedSum",
    "cellflux_rewards",
]

"""From generated images to rewards: segment, measure, compare with real cells."""

from rewards.classifier import MoAClassifier
from rewards.judge import JudgeClassifier, JudgeSegmenter
from rewards.orientations import AveragedOverOrientations
from rewards.reference import Reference
from rewards.segmentation import CellposeSegmenter, ClassicalSegmenter, EmbeddedSegmenter
from rewards.suite import SUITE, WEIGHTS, RewardSpec, cellflux_rewards, configure, custom_reward, judge_rewards
from rewards.transforms import ImageReward, Measure, Segment, WeightedSum

__all__ = [
    "SUITE",
    "WEIGHTS",
    "AveragedOverOrientations",
    "CellposeSegmenter",
    "ClassicalSegmenter",
    "EmbeddedSegmenter",
    "ImageReward",
    "JudgeClassifier",
    "JudgeSegmenter",
    "Measure",
    "MoAClassifier",
    "Reference",
    "RewardSpec",
    "Segment",
    "WeightedSum",
    "cellflux_rewards",
    "configure",
    "custom_reward",
    "judge_rewards",
]

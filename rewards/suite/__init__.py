"""The seven rewards of CellFluxRL (arXiv:2603.21743), as one transform, with or without a user's own."""

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn
from torchrl.envs import Compose, Transform

from rewards.classifier import Classifier, MoAClassifier
from rewards.judge import JudgeClassifier, JudgeSegmenter
from rewards.orientations import AveragedOverOrientations
from rewards.reference import Reference
from rewards.segmentation.embedded import EmbeddedSegmenter
from rewards.segmentation.protocol import CHANNELS, Segmenter
from rewards.shaping import clipped_square, square
from rewards.suite.containment import NucleusInCytoplasm
from rewards.suite.count import CellCount, NucleusCount
from rewards.suite.moa import MoAProbability
from rewards.suite.roundness import Roundness
from rewards.suite.size import CellSize, NucleusSize
from rewards.suite.spec import (
    SUITE,
    WEIGHTS,
    RewardParts,
    RewardSpec,
    condition_on,
    custom_reward,
    without_moa,
)
from rewards.suite.terms import configure
from rewards.transforms import TRANSIENT, Discard, ImageReward, Measure, Segment, WeightedSum

__all__ = [
    "SHAPINGS",
    "SUITE",
    "WEIGHTS",
    "CellCount",
    "CellSize",
    "MoAProbability",
    "NucleusCount",
    "NucleusInCytoplasm",
    "NucleusSize",
    "RewardParts",
    "RewardSpec",
    "Roundness",
    "cellflux_rewards",
    "condition_on",
    "configure",
    "custom_reward",
    "judge_rewards",
    "without_moa",
]

SHAPINGS = {"default": clipped_square, "paper": square}


def cellflux_rewards(
    segmenter: Segmenter | None = None,
    classifier: nn.Module | None = None,
    reference: Reference | None = None,
    preset: Literal["default", "paper"] = "default",
    *,
    suite: Sequence[RewardSpec] = SUITE,
    extra: Sequence[Callable[..., Tensor] | RewardSpec] = (),
    channels: Sequence[str] = CHANNELS,
) -> Compose:
    """All rewards as one transform: segment, measure, each reward, their weighted sum.

    Only what the rewards need is built: without a reward on masks, for example, nothing is segmented.

    Args:
        segmenter: images -> masks; None: the embedded world's.
        classifier: images -> logits of the MoAs; None: the embedded world's.
        reference: statistics of real images; None: the embedded world's.
        preset: how a z-score becomes a reward, -min(|z|, 5)^2 ("default") or the paper's -z^2 ("paper").
        suite: the rewards; see `configure`.
        extra: more rewards, as functions (see `custom_reward`) or specs; they share the masks.
        channels: names of the channels of the images, in order.

    Returns:
        A transform for `TransformedEnv`, or for a TensorDict with "action" and "moa". It writes ("rewards",
        NAME) and "reward", (..., 1) each.

    Raises:
        ValueError: unknown preset, no reward or two of one name, or a classifier and a reference with other
            MoAs.

    Example:
        >>> from torchrl.envs import TransformedEnv
        >>> from cellenv import VirtualCellEnv, load_embedded
        >>> def sharpness(images):
        ...     return images.diff(dim=-1).abs().mean((1, 2, 3))
        >>> cells = load_embedded("test")[1]
        >>> env = TransformedEnv(VirtualCellEnv(cells, batch_size=4), cellflux_rewards(extra=[sharpness]))
        >>> env.rollout(1)["next", "rewards", "sharpness"].shape
        torch.Size([4, 1, 1])
    """
    if preset not in SHAPINGS:
        raise ValueError(f"unknown preset {preset!r}; there are {', '.join(SHAPINGS)}")
    specs = [*suite, *(more if isinstance(more, RewardSpec) else custom_reward(more) for more in extra)]
    names = [spec.name for spec in specs]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"need rewards of different names, at least one; got {', '.join(names) or 'none'}")
    needs = {part for spec in specs for part in spec.needs}
    if classifier is None and "classifier" in needs:
        classifier = MoAClassifier.from_pretrained()
    if reference is None and "reference" in needs:
        reference = Reference.load()
    if needs >= {"classifier", "reference"}:
        _check_moas(classifier, reference)
    parts = RewardParts(classifier=classifier, reference=reference, shaping=SHAPINGS[preset])
    rewards = [spec.build(parts) for spec in specs]
    shared = _shared_steps(rewards, EmbeddedSegmenter, segmenter, channels)
    total = WeightedSum({spec.name: spec.weight for spec in specs})
    return Compose(*shared, *rewards, total, *([Discard()] if shared else []))


def judge_rewards(
    classifier: nn.Module | None = None,
    segmenter: Segmenter | None = None,
    channels: Sequence[str] = CHANNELS,
    *,
    suite: Sequence[RewardSpec] = SUITE,
) -> Compose:
    """The rewards with `has_judge`, computed with held-out models.

    Rewards that rise without those of the judges are a sign of reward hacking.

    Args:
        classifier: images -> logits of the MoAs; None: the embedded world's judge.
        segmenter: images -> masks; None: the embedded world's judge.
        channels: names of the channels of the images, in order.
        suite: the rewards; those without `has_judge` are left out.

    Returns:
        A transform that writes ("rewards", NAME), (..., 1) each, and no sum.
    """
    specs = [spec for spec in suite if spec.has_judge]
    if classifier is None and any("classifier" in spec.needs for spec in specs):
        classifier = JudgeClassifier.from_pretrained()
    rewards = [spec.build(RewardParts(classifier=classifier)) for spec in specs]
    shared = _shared_steps(rewards, JudgeSegmenter, segmenter, channels)
    return Compose(*shared, *rewards, *([Discard()] if shared else []))


def _check_moas(classifier: nn.Module | None, reference: Reference | None) -> None:
    if isinstance(classifier, AveragedOverOrientations):
        classifier = classifier.classifier
    if not isinstance(classifier, Classifier) or reference is None or reference.by != "moa":
        return
    if classifier.moas != reference.populations:
        raise ValueError(f"the classifier's MoAs {classifier.moas} are not the reference's {reference.populations}")


def _shared_steps(
    rewards: Sequence[ImageReward],
    default: type[EmbeddedSegmenter],
    segmenter: Segmenter | None,
    channels: Sequence[str],
) -> list[Transform]:
    """Segment and Measure, as far as the rewards read masks and measures."""
    used = {key[0] for reward in rewards for key in reward.in_keys if isinstance(key, tuple)}
    if used.isdisjoint(TRANSIENT):
        return []
    segment = Segment(default.from_pretrained() if segmenter is None else segmenter, channels)
    return [segment, Measure()] if "measures" in used else [segment]

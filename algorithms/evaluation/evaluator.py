"""Build what images are evaluated with: the rewards, held-out judges, measures and feature networks.

B batch, C channels, H, W pixels, F features, M mechanisms of action (MoA).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from algorithms.build import RewardSuite, build_rewards
from algorithms.config import RewardConfig
from algorithms.evaluation.inception import inception_features
from algorithms.evaluation.measurement import Evaluator
from cellenv.data.cells import CellData
from rewards import JudgeClassifier, JudgeSegmenter, judge_rewards
from rewards.classifier import Classifier
from rewards.measures import measure
from rewards.segmentation import Segmenter

R = TypeVar("R")


class CachedCall(Generic[R]):
    """A function of images that keeps its last result: several metrics ask it about the same batch in turn."""

    def __init__(self, function: Callable[..., R]):
        self.function = function
        self.images: Tensor | None = None
        self.args: tuple[Any, ...] = ()

    def __call__(self, images: Tensor, *args: Any) -> R:
        last = self.images
        if last is None or not _is_same(last, images) or args != self.args:
            self.result = self.function(images, *args)
            self.images, self.args = images, args  # while held, no other tensor has its address
        return self.result


def _is_same(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors, of which one is held, are the same numbers in memory."""
    return x.data_ptr() == y.data_ptr() and (x.shape, x.stride(), x.dtype) == (y.shape, y.stride(), y.dtype)


class JudgeHead(nn.Module):
    """Calibrated logits (B, M) of a classifier whose features come from a cache."""

    def __init__(self, judge: Classifier, features: CachedCall[Tensor]):
        super().__init__()
        self.judge, self.features = judge, features

    def forward(self, images: Tensor) -> Tensor:
        return self.judge.logits(self.features(images))

    def classify(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (B, M) and features (B, F)."""
        return self(images).softmax(1), self.features(images)


def build_evaluator(
    data: CellData,
    rewards: RewardSuite | None = None,
    *,
    judge: Classifier | None = None,
    inception: Path | None = None,
    device: torch.device | str = "cpu",
) -> Evaluator:
    """An evaluator for images of these data; None uses the embedded world's rewards and judge.

    Cells without mechanisms of action (MoA) have no judge of these; one that is given serves for distances alone.
    inception: torch-fidelity's weights; adds FID and KID.

    Raises:
        ValueError: the MoAs are not those of the judge, the classifier and the reference.
    """
    rewards = build_rewards(RewardConfig(), device, data) if rewards is None else rewards
    if judge is None and data.moas:
        judge = JudgeClassifier.from_pretrained()
    check_moas(data, judge, rewards)
    segmenter = cast(Segmenter, CachedCall(rewards.segmenter))
    suite = rewards.transform(data.channels, segmenter).to(device)
    networks = {"inception": inception_features(inception, device)} if inception else {}
    head: JudgeHead | None = None
    if judge is not None:
        features = CachedCall(judge.to(device).features)
        head = JudgeHead(judge, features)
        networks |= {} if data.moas else {"judge": features}
    judges = judge_rewards(head, JudgeSegmenter.from_pretrained().to(device), data.channels, suite=rewards.specs).to(
        device
    )
    measured = {spec.name: spec.measure for spec in rewards.specs if spec.measure is not None}

    def score(images: Tensor, contexts: TensorDict) -> dict[str, Tensor]:
        scored = suite(contexts.copy().set("action", images))
        return {"total": scored["reward"], **scored["rewards"]}

    def judge_scores(images: Tensor, contexts: TensorDict) -> dict[str, Tensor]:
        return dict(judges(contexts.copy().set("action", images)).get("rewards", {}).items())

    def measures(images: Tensor) -> dict[str, Tensor]:
        values = measure(segmenter(images, data.channels)) if measured else {}
        return {name: values[key] for name, key in measured.items()}

    return Evaluator(
        specs=rewards.specs,
        score=score,
        judge_scores=judge_scores,
        classify=head.classify if head is not None and data.moas else None,
        measure=measures,
        sigma={name: rewards.reference.sigma(key) for name, key in measured.items()},
        population=rewards.reference.population_of,
        features=networks,
        segment=lambda images: segmenter(images.to(device), data.channels),
        device=device,
    )


def check_moas(data: CellData, judge: Classifier | None, rewards: RewardSuite) -> None:
    """Raise ValueError unless judge, classifier and reference know the MoAs of the data, as far as they need any."""
    owners = {} if judge is None or not data.moas else {"judge": judge.moas}
    if isinstance(rewards.classifier, Classifier) and any("classifier" in spec.needs for spec in rewards.specs):
        owners["classifier"] = rewards.classifier.moas
    if rewards.reference.by == "moa":
        owners["reference"] = rewards.reference.populations
    for owner, moas in owners.items():
        if moas != tuple(data.moas):
            raise ValueError(
                f"the {owner} knows the MoAs {moas}; the data have {data.moas}: give weights for these data"
            )

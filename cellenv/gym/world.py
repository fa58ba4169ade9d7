"""What a task runs on: a frozen generator, cells, and rewards of images. B batch, C, H, W image, F features.

The only module of `cellenv` that imports `rewards`, and only when a world is built or asked.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, Literal, Self

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.envs import Transform, TransformedEnv

from cellenv.data.cells import CellData
from cellenv.data.synthetic import SyntheticCells
from cellenv.env import VirtualCellEnv, repeat_groups
from cellenv.generator import CellFlux

CHUNK = 64  # images per network call: activations fit into the CPU cache


class World:
    """Draws contexts, generates images and computes their rewards. None: that of the embedded world.

    generator: copied, so that training it further does not change the benchmark.
    suite: rewards as transforms that write "reward" and ("rewards", NAME), e.g. `rewards.cellflux_rewards()`;
        copied, with its networks.
    rewards: changes to the default suite, as on the command line: "moa=2" sets a weight, "roundness=0"
        removes a reward, "sharpness=mylab.rewards:sharpness:0.5" adds a function with a weight.
    features: images (B, C, H, W) in [-1, 1] -> (B, F); None takes those of the classifier in the suite.
    precision: of the generator. "bf16" trains agents in less than half the time; scores need "fp32".

    Copying a world returns the same object, so that any number of environments can share one.

    Raises:
        ValueError: if precision or a term of rewards is invalid, both suite and rewards are given, or a classifier
            or reference of the suite knows other MoAs, or compounds, than the data.
    """

    def __init__(
        self,
        generator: CellFlux | None = None,
        data: CellData | None = None,
        suite: Transform | None = None,
        *,
        rewards: Sequence[str] = (),
        features: Callable[[Tensor], Tensor] | None = None,
        device: torch.device | str | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
    ):
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"precision must be fp32 or bf16; got {precision!r}")
        if suite is not None and rewards:
            raise ValueError(f"rewards change the default suite: give them or a suite; got rewards={tuple(rewards)}")
        suite = embedded_suite(rewards) if suite is None else suite
        generator = CellFlux.from_pretrained("embedded") if generator is None else generator
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.generator = deepcopy(generator).eval().to(self.device)
        self.data = SyntheticCells("train") if data is None else data
        check_names(self.data, suite)
        suite = deepcopy(suite.clone())  # a transform can have only one parent, and a clone shares its networks
        self.suite = suite.to(self.device)
        self._env = TransformedEnv(VirtualCellEnv(self.data, device=self.device), self.suite)
        self._features, self.precision = features, precision

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def draw(self, rngs: Sequence[np.random.Generator]) -> TensorDict:
        """One random context from each stream, [B]; independent of the other streams."""
        streams = [torch.Generator().manual_seed(int(rng.integers(2**63))) for rng in rngs]
        return torch.cat([self.data.draw_contexts(1, stream) for stream in streams])

    def autocast(self) -> torch.autocast:
        """Context manager in which the generator runs in the world's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    @torch.no_grad()
    def generate(self, contexts: TensorDict) -> Tensor:
        """Images of the untouched generator, (B, C, H, W), each with the noise of its context's seed."""
        if not len(contexts):
            return contexts["x0"].to(self.device)
        parts = [part.to(self.device) for part in contexts.split(CHUNK)]
        with self.autocast():
            return torch.cat([self.generator.sample(p["x0"], p["condition"], p["seed"])[0] for p in parts])

    def candidates(self, contexts: TensorDict, k: int) -> Tensor:
        """K generated images per context, (B, K, C, H, W), each with its own noise (see `repeat_groups`)."""
        return self.generate(repeat_groups(contexts, k)).unflatten(0, (-1, k))

    @torch.no_grad()
    def rate(self, contexts: TensorDict, images: Tensor) -> TensorDict:
        """`reward` and all `rewards` of one image per context, [B]; nan where an image cannot be scored."""
        if len(contexts):
            start = self._env.reset(contexts.to(self.device), set_state=True)
            end = self._env.step(start.set("action", images.to(self.device)))["next"]
        else:
            end = self._env.full_reward_spec.zero((0,))
        return end.select("reward", "rewards", strict=False).apply(lambda value: value.squeeze(-1))

    def rate_each(self, contexts: TensorDict, images: Tensor) -> TensorDict:
        """`rate` of K images per context, (B, K, C, H, W) -> [B, K]."""
        return torch.stack([self.rate(contexts, each) for each in images.unbind(1)], 1)

    @property
    def rewards(self) -> tuple[str, ...]:
        """Names of the rewards whose weighted sum is the reward."""
        return tuple(self._env.full_reward_spec.get("rewards", {}).keys())

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features of images (B, C, H, W) by a frozen network, (B, F) float32."""
        network = classifier_features(self.suite) if self._features is None else self._features
        return torch.cat([network(part.to(self.device)) for part in images.split(CHUNK)]).float()

    @torch.no_grad()
    def masks(self, images: Tensor) -> tuple[Tensor, Tensor] | None:
        """Labels (nuclei, cells) by the segmenter of the suite, (B, H, W) each; None if it has none."""
        from rewards.transforms import Segment

        for step in self.suite.modules():
            if isinstance(step, Segment):
                return step.segmenter(images.to(self.device), step.channels)
        return None


def embedded_suite(rewards: Sequence[str] = ()) -> Transform:
    """Default rewards of the embedded world, changed by terms such as "moa=2" (see `World`)."""
    from rewards import cellflux_rewards, configure

    return cellflux_rewards(suite=configure(rewards))


def check_names(data: CellData, suite: Transform) -> None:
    """Check that classifiers and references of the suite know the first MoAs, or compounds, of the data in their order.

    Raises:
        ValueError: if one knows others, with whose ids it would score the images of these data.
    """
    from rewards.classifier import Classifier
    from rewards.transforms import ImageReward, ReferenceReward

    known: list[tuple[str, str, Sequence[str], Sequence[str]]] = []
    for reward in suite.modules():
        if isinstance(reward, ReferenceReward) and reward.reference.by == "moa":
            known.append(("reference", "MoAs", reward.reference.populations, data.moas))
        elif isinstance(reward, ReferenceReward) and reward.reference.by == "compound":
            known.append(("reference", "compounds", reward.reference.populations, data.compounds))
        elif isinstance(reward, ImageReward) and "moa" in reward.in_keys:
            models = [model for model in reward.modules() if isinstance(model, Classifier)]
            known += [("classifier", "MoAs", model.moas, data.moas) for model in models]
    for owner, kind, names, needed in known:
        if tuple(needed[: len(names)]) != tuple(names):  # what was added after them has ids that none of them has
            raise ValueError(
                f"the {owner} of the suite knows the {kind} {', '.join(names):.200}; the data have"
                f" {', '.join(needed) or 'none':.200}: give World(suite=) rewards made for these data, in this order"
            )


def classifier_features(suite: Transform) -> Callable[[Tensor], Tensor]:
    """Penultimate features of the classifier in the suite.

    Raises:
        ValueError: if the suite has no classifier.
    """
    from rewards.classifier import Classifier

    for module in suite.modules():
        if isinstance(module, Classifier):
            return module.features
    raise ValueError("no classifier in these rewards to take features from: give World(features=images -> (B, F))")

"""What a task stands on: a frozen generator, cells, and the rewards of an image. B batch, C, H, W image, F features."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Literal, Self

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.envs import Transform, TransformedEnv

from cellenv.data.cells import CellData
from cellenv.data.synthetic import SyntheticCells
from cellenv.env import VirtualCellEnv, repeat_groups
from cellenv.generator import CellFlux

CHUNK = 64  # images at once: the activations stay in the cache


class World:
    """Draws contexts, generates images, rates them. What is None is the embedded world's.

    generator: copied, so that who trains it does not move the benchmark.
    suite: rewards as transforms that write "reward" and ("rewards", NAME), e.g. those of `rewards.cellflux_rewards`.
    features: images (B, C, H, W) in [-1, 1] -> (B, F); None takes the classifier of the suite.
    precision: of the generator. "bf16" is for learning, in less than half the time; scores are measured in "fp32".

    A copy of a world is the world itself, so that any number of environments share one.
    """

    def __init__(
        self,
        generator: CellFlux | None = None,
        data: CellData | None = None,
        suite: Transform | None = None,
        *,
        features: Callable[[Tensor], Tensor] | None = None,
        device: torch.device | str | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
    ):
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"precision must be fp32 or bf16; got {precision!r}")
        generator = CellFlux.from_pretrained("embedded") if generator is None else generator
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.generator = deepcopy(generator).eval().to(self.device)
        self.data = SyntheticCells("train") if data is None else data
        self.suite = (embedded_suite() if suite is None else suite).clone().to(self.device)  # it gets a parent
        self._env = TransformedEnv(VirtualCellEnv(self.data, device=self.device), self.suite)
        self._features, self._precision = features, precision

    def __deepcopy__(self, memo: dict) -> Self:
        return self

    def draw(self, rngs: Sequence[np.random.Generator]) -> TensorDict:
        """A random context from each stream, [B]; which others are asked at the same time does not matter."""
        streams = [torch.Generator().manual_seed(int(rng.integers(2**63))) for rng in rngs]
        return torch.cat([self.data.draw_contexts(1, stream) for stream in streams])

    def autocast(self) -> torch.autocast:
        """Inside, the generator works in the world's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._precision == "bf16")

    @torch.no_grad()
    def generate(self, contexts: TensorDict) -> Tensor:
        """The image that the untouched generator makes of each context, (B, C, H, W), with the noise of its seed."""
        parts = [part.to(self.device) for part in contexts.split(CHUNK)]
        with self.autocast():
            return torch.cat([self.generator.sample(p["x0"], p["condition"], p["seed"])[0] for p in parts])

    def candidates(self, contexts: TensorDict, k: int) -> Tensor:
        """K images of each context, (B, K, C, H, W), each with its own noise (see `repeat_groups`)."""
        return self.generate(repeat_groups(contexts, k)).unflatten(0, (-1, k))

    @torch.no_grad()
    def rate(self, contexts: TensorDict, images: Tensor) -> TensorDict:
        """`reward` and every one of `rewards` of an image for each context, [B]; nan where it cannot be scored."""
        start = self._env.reset(contexts.to(self.device), set_state=True)
        end = self._env.step(start.set("action", images.to(self.device)))["next"]
        return end.select("reward", "rewards", strict=False).apply(lambda value: value.squeeze(-1))

    def rate_each(self, contexts: TensorDict, images: Tensor) -> TensorDict:
        """`rate` of K images (B, K, C, H, W) for each context, [B, K]."""
        return torch.stack([self.rate(contexts, each) for each in images.unbind(1)], 1)

    @property
    def rewards(self) -> tuple[str, ...]:
        """The names of the parts of the reward."""
        return tuple(self._env.full_reward_spec.get("rewards", {}).keys())

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """What a frozen network sees in images (B, C, H, W), (B, F) float32."""
        see = embedded_features(self.suite) if self._features is None else self._features
        return torch.cat([see(part.to(self.device)) for part in images.split(CHUNK)]).float()

    @torch.no_grad()
    def masks(self, images: Tensor) -> tuple[Tensor, Tensor] | None:
        """Labels of nuclei and cells, (B, H, W) each, by the segmenter of the suite; None where it has none."""
        from rewards.transforms import Segment

        for step in self.suite.modules():
            if isinstance(step, Segment):
                return step.segmenter(images.to(self.device), step.channels)
        return None


def embedded_suite() -> Transform:
    """The seven rewards of the embedded world."""
    from rewards import cellflux_rewards

    return cellflux_rewards()


def embedded_features(suite: Transform) -> Callable[[Tensor], Tensor]:
    """What the head of the classifier in these rewards sees."""
    from rewards.classifier import Classifier

    for module in suite.modules():
        if isinstance(module, Classifier):
            return module.features
    raise ValueError("no classifier in these rewards to take features from: give World(features=images -> (B, F))")

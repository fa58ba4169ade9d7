"""How far one sample a context lies from real images, in the features of networks. n contexts, F features."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from tensordict import TensorDict
from torch import Tensor
from tqdm import tqdm

from algorithms.evaluation.comparison import sample_groups
from algorithms.evaluation.distances import standardise
from algorithms.evaluation.held_out import count_pairs, held_out
from algorithms.evaluation.metrics import distances
from cellenv.data.cells import CellData
from cellenv.generator import CellFlux

FeatureNetwork = Callable[[Tensor], Tensor]  # images (B, C, H, W) -> features (B, F)


@dataclass(frozen=True, kw_only=True)
class FeatureDistances:
    """Distances of a generator to real images, under the keys of `cellfluxrl evaluate`."""

    contexts: TensorDict  # [n]
    real: Mapping[str, Tensor]  # by network, the features of other real cells of the same compounds, (n, F)
    floor: Mapping[str, float]  # the distances of the real cells behind the contexts
    networks: Mapping[str, FeatureNetwork]
    device: torch.device | str

    @classmethod
    def create(
        cls,
        data: CellData,
        networks: Mapping[str, FeatureNetwork],
        *,
        contexts: int,
        seed: int,
        device: torch.device | str,
    ) -> Self:
        """On the contexts that `cellfluxrl evaluate` draws of a held-out split; fewer if it does not have as many."""
        drawn, rows, references = held_out(data, min(contexts, count_pairs(data)), seed)
        real, own = (
            {name: features_of(data.images(r), network, device) for name, network in networks.items()}
            for r in (references, rows)
        )
        return cls(contexts=drawn, real=real, floor=all_distances(own, real), networks=networks, device=device)

    def __call__(self, model: CellFlux) -> dict[str, float]:
        with tqdm(total=len(self.contexts), desc="compare with real cells", unit="image", leave=False) as bar:
            images = sample_groups(model, self.contexts, 1, 64, bar).squeeze(1)
        own = {name: features_of(images, network, self.device) for name, network in self.networks.items()}
        return all_distances(own, self.real)


@torch.no_grad()
def features_of(images: Tensor, network: FeatureNetwork, device: torch.device | str) -> Tensor:
    """(n, C, H, W) -> (n, F), on the CPU; 64 images at once."""
    return torch.cat([network(batch.to(device)).cpu() for batch in images.split(64)])


def all_distances(own: Mapping[str, Tensor], real: Mapping[str, Tensor]) -> dict[str, float]:
    """`distances` in the features (n, F) of every network."""
    found: dict[str, float] = {}
    for name, raw in real.items():
        x, y = (standardise(features, raw) for features in (own[name], raw))
        found |= distances(name, x.unsqueeze(1), y)
    return {name: round(value, 6) for name, value in found.items()}

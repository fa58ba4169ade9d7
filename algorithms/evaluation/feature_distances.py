"""How far one sample a context lies from real images, in the features of networks. n contexts, F features."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from tensordict import TensorDict
from torch import Tensor

from algorithms.evaluation.comparison import sampled_row
from algorithms.evaluation.distances import standardise
from algorithms.evaluation.held_out import count_pairs, held_out
from algorithms.evaluation.metrics import distances
from algorithms.processes import map_batches
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
            features_of(lambda i, r=r: data.images(r[i]), len(r), networks, device)  # type: ignore[misc]
            for r in (references, rows)
        )
        return cls(contexts=drawn, real=real, floor=all_distances(own, real), networks=networks, device=device)

    def __call__(self, model: CellFlux) -> dict[str, float]:
        """The distances of a generator, whose images the processes share; all of them must ask, and get them."""
        images_at = sampled_row(model, self.contexts, 1).images_at
        return all_distances(features_of(images_at, len(self.contexts), self.networks, self.device), self.real)


def features_of(
    images_at: Callable[[Tensor], Tensor],
    n: int,
    networks: Mapping[str, FeatureNetwork],
    device: torch.device | str,
) -> dict[str, Tensor]:
    """Features (n, F) of n images by network, on the CPU of every process; images_at: as that of a `Row`."""

    @torch.no_grad()
    def features(index: Tensor) -> dict[str, Tensor]:
        images = images_at(index).to(device)
        return {name: network(images).cpu() for name, network in networks.items()}

    parts = map_batches(features, torch.arange(n).split(64), "compare with real cells")
    return {name: torch.cat([part[name] for part in parts]) for name in networks}


def all_distances(own: Mapping[str, Tensor], real: Mapping[str, Tensor]) -> dict[str, float]:
    """`distances` in the features (n, F) of every network."""
    found: dict[str, float] = {}
    for name, raw in real.items():
        x, y = (standardise(features, raw) for features in (own[name], raw))
        found |= distances(name, x.unsqueeze(1), y)
    return {name: round(value, 6) for name, value in found.items()}

"""How far images lie from real ones, in the features of networks, of one draw. n contexts, F features."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from evaluate import sample_groups
from tensordict import TensorDict
from torch import Tensor
from tqdm import tqdm

from algorithms.distances import standardise
from algorithms.evaluation import distances, held_out, pairs_of
from cellenv.data.cells import CellData
from cellenv.generator import CellFlux

Network = Callable[[Tensor], Tensor]  # images (B, C, H, W) -> features (B, F)


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Call it with a generator; what it says is what `evaluate.py` says of one draw, by the same names."""

    scene: TensorDict  # the contexts, [n]
    real: Mapping[str, Tensor]  # by network, the features of other real cells of the same compounds, (n, F)
    floor: Mapping[str, float]  # what the treated cells behind the contexts would be told
    networks: Mapping[str, Network]
    device: torch.device | str

    @classmethod
    def of(
        cls, data: CellData, networks: Mapping[str, Network], *, contexts: int, seed: int, device: torch.device | str
    ) -> Self:
        """On the contexts that `evaluate.py` draws of a held-out split, fewer where it does not have as many."""
        scene, rows, twins = held_out(data, min(contexts, pairs_of(data)), seed)
        real, own = ({k: features_of(data.images(r), f, device) for k, f in networks.items()} for r in (twins, rows))
        return cls(scene=scene, real=real, floor=compare(own, real), networks=networks, device=device)

    def __call__(self, model: CellFlux) -> dict[str, float]:
        with tqdm(total=len(self.scene), desc="compare with real cells", unit="image", leave=False) as bar:
            images = sample_groups(model, self.scene, 1, 64, bar).squeeze(1)
        return compare({k: features_of(images, f, self.device) for k, f in self.networks.items()}, self.real)


@torch.no_grad()
def features_of(images: Tensor, network: Network, device: torch.device | str) -> Tensor:
    """(n, C, H, W) -> (n, F), on the CPU; 64 images at once."""
    return torch.cat([network(batch.to(device)).cpu() for batch in images.split(64)])


def compare(own: Mapping[str, Tensor], real: Mapping[str, Tensor]) -> dict[str, float]:
    """`distances` in the features (n, F) of every network."""
    found = {}
    for name, raw in real.items():
        x, y = (standardise(features, raw) for features in (own[name], raw))
        found |= distances(name, x.unsqueeze(1), y)
    return {name: round(value, 6) for name, value in found.items()}

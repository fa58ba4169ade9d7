"""PhenDiff: one diffusion model of all classes; a control is inverted to noise and regenerated as a treated cell.

Bourou et al., arXiv:2312.08290; DDIM: Song et al., arXiv:2010.02502. Time runs from noise (t = 0) to image (t = 1) on
the variance-preserving path, an arc: with phi = t pi / 2 and noise n,

    x_t = sin(phi) x1 + cos(phi) n,        u = d x_t / d phi = cos(phi) x1 - sin(phi) n.

Departures: the condition is the compound's embedding instead of a class, and none for a control; the network predicts
x1 instead of the noise, which suits a small network.

B batch, C, H, W image, D condition size, K steps.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from algorithms.losses.matching import flow_matching
from cellenv.networks import UNet, UNetConfig
from cellenv.path import lift, uniform_times
from cellenv.weights_io import load_model, load_weights, save_weights

ArcVelocity = Callable[[Tensor, Tensor], Tensor]  # (x_t (B, ...), phi (B,)) -> u


def on_arc(x1: Tensor, n: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
    """(x_t, u) of images and noise (B, ...) at phi (B,)."""
    sin, cos = lift(phi.sin(), x1), lift(phi.cos(), x1)
    return sin * x1 + cos * n, cos * x1 - sin * n


def arc_velocity(x1: Tensor, x_t: Tensor, phi: Tensor, *, min_cos: float = 0.05) -> Tensor:
    """u implied by a prediction of x1: (x1 - sin(phi) x_t) / max(cos(phi), min_cos)."""
    return (x1 - lift(phi.sin(), x_t) * x_t) / lift(phi.cos().clamp(min=min_cos), x_t)


def ddim(u: ArcVelocity, x: Tensor, times: Tensor) -> Tensor:
    """x' = cos(d) x + sin(d) u(x, phi), d = phi' - phi: from times[0] to times[-1], increasing or decreasing.

    DDIM without noise, sin(phi') x1 + cos(phi') n with the x1 and n that u implies; with decreasing times, DDIM
    inversion. Exact where u is that of one image and one noise; otherwise the global error is O(1 / K).
    """
    for phi, phi_next in pairwise((times * math.pi / 2).tolist()):
        dtype = torch.promote_types(x.dtype, torch.float32)
        velocity = u(x, torch.full((len(x),), phi, dtype=dtype, device=x.device))
        x = math.cos(phi_next - phi) * x + math.sin(phi_next - phi) * velocity
    return x


def phendiff_loss(u: ArcVelocity, x1: Tensor, n: Tensor, t: Tensor) -> Tensor:
    """|u(x_t, phi) - (cos(phi) x1 - sin(phi) n)|^2, mean over C, H, W; images, noise (B, C, H, W), t (B,) -> (B,)."""
    phi = t * math.pi / 2
    x_t, target = on_arc(x1, n, phi)
    return flow_matching(u(x_t, phi), target)


@dataclass(frozen=True, kw_only=True)
class PhenDiffConfig:
    """What config.json says."""

    baseline: Literal["phendiff"] = "phendiff"
    network: UNetConfig
    steps: int
    metadata: dict[str, Any] = field(default_factory=dict)


class PhenDiff(nn.Module):
    """Treated cells from controls, with the interface of `CellFlux`, in 2 K network evaluations; deterministic."""

    def __init__(self, config: UNetConfig, steps: int = 50):
        super().__init__()
        if config.predicts != "v":
            raise ValueError("need predicts='v', the bare output of the network: it is read as x1 here")
        self.network, self.config, self.steps = UNet(config), config, steps

    def u(self, x_t: Tensor, phi: Tensor, condition: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """u of a treated cell with condition (B, D); of a control without one, or where `keep` (B,) is False."""
        return arc_velocity(self.network(x_t, phi / (math.pi / 2), condition, keep), x_t, phi)

    @torch.no_grad()
    def sample(self, x0: Tensor, condition: Tensor, seed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(x1, noise), (B, C, H, W) each: x0 inverted without condition, then generated with it; x1 is clamped.

        The seed is ignored: samples of one context are equal.
        """
        times = uniform_times(self.steps)
        noise = ddim(self.u, x0, times.flip(0))
        return ddim(lambda x, phi: self.u(x, phi, condition), noise, times).clamp(-1, 1), noise

    def save_pretrained(self, folder: str | Path, metadata: dict[str, Any] | None = None) -> None:
        """Write folder/model.safetensors and folder/config.json."""
        config = PhenDiffConfig(network=self.config, steps=self.steps, metadata=metadata or {})
        save_weights(folder, self.network.state_dict(), asdict(config))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Model that `save_pretrained` wrote, in eval mode on the CPU."""
        config, weights = load_weights(folder, PhenDiffConfig)
        prefixed = {f"network.{name}": weight for name, weight in weights.items()}
        return load_model(lambda: cls(config.network, config.steps), prefixed, folder).eval()

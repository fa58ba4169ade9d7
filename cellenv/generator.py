"""The image generator: a velocity network with guidance, noise on the source, and a solver; and its face as a policy.

B batch, C channels, H, W pixels, D condition size, K solver steps. CellFlux, arXiv:2502.09775.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn

from cellenv.checkpoints import load_state, load_weights, save_weights
from cellenv.checks import check_images, check_rows
from cellenv.networks import UNet, UNetConfig
from cellenv.path import edm_times, uniform_times
from cellenv.solvers import SOLVERS
from cellenv.streams import normal_like

ASSETS = Path(__file__).parent / "assets"
GRIDS: dict[str, Callable[[int], Tensor]] = {"uniform": uniform_times, "edm": edm_times}


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How images are drawn. CellFlux: noise_level 1, guidance 0.2, Heun on the EDM grid of 50 steps."""

    noise_level: float = 1.0  # std of the normal noise added to x0
    guidance: float = 0.0  # w >= 0; 0 is one network pass an evaluation, else two
    steps: int = 4  # K
    solver: Literal["euler", "heun", "midpoint", "multistep"] = "multistep"
    grid: Literal["uniform", "edm"] = "uniform"

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS or self.grid not in GRIDS:
            raise ValueError(f"need a solver of {list(SOLVERS)} and a grid of {list(GRIDS)}; got {self}")
        if self.noise_level < 0 or self.guidance < 0 or self.steps < 1:
            raise ValueError(f"need noise_level >= 0, guidance >= 0 and steps >= 1; got {self}")


class CellFlux(nn.Module):
    """Treated cells x1 from control cells x0 and the embedding of a compound.

    `network` is any module called as network(x_t, t, condition, keep) -> v; keep may be left out (see `UNet`).
    """

    def __init__(self, network: nn.Module, config: UNetConfig, sampling: Sampling | None = None):
        super().__init__()
        self.network, self.config = network, config
        sampling = sampling or Sampling()
        self.noise_level, self.guidance = sampling.noise_level, sampling.guidance
        self.steps, self.solver, self.grid = sampling.steps, sampling.solver, sampling.grid

    @property
    def sampling(self) -> Sampling:
        """The settings in use; set noise_level, guidance, steps, solver and grid on the generator to change them."""
        return Sampling(
            noise_level=self.noise_level, guidance=self.guidance, steps=self.steps, solver=self.solver, grid=self.grid
        )

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        """v(x_t, t, condition) without guidance, what losses see. x_t (B, C, H, W), t (B,), condition (B, D)."""
        return self.network(x_t, t, condition)

    def guided(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """(1 + w) v(x_t, t, condition) - w v(x_t, t, none), classifier-free guidance (arXiv:2207.12598)."""
        w = self.guidance
        if w == 0:
            return self.network(x_t, t, condition)
        twice = [torch.cat([value, value]) for value in (x_t, t, condition)]
        keep = torch.arange(2 * len(t), device=t.device) < len(t)  # (2 B,): the first half keeps its condition
        v_condition, v_none = self.network(*twice, keep).chunk(2)
        return (1 + w) * v_condition - w * v_none

    @torch.no_grad()
    def sample(self, x0: Tensor, condition: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """(x1, source), each (B, C, H, W): source = x0 + noise_level n, x1 where its flow ends, clamped to [-1, 1].

        x0 (B, C, H, W) in [-1, 1]; condition (B, D); seed (B,) int64, the stream that n of each sample is drawn from.
        Dropout is active unless the generator is in eval mode.
        """
        check_images(x0, self.config.size, "x0")
        check_rows(condition, (len(x0), self.config.condition_dim), "condition")
        source = x0 + self.noise_level * normal_like(x0, seed) if self.noise_level else x0.clone()
        return self.flow(source, condition), source

    def flow(self, source: Tensor, condition: Tensor) -> Tensor:
        """Where the flow from a source (B, C, H, W) ends under a condition (B, D), clamped to [-1, 1]."""
        sampling = self.sampling  # checked here, since the attributes can be set
        times = GRIDS[sampling.grid](sampling.steps)
        return SOLVERS[sampling.solver](lambda x, t: self.guided(x, t, condition), source, times).clamp(-1, 1)

    def save_pretrained(self, folder: str | Path, metadata: dict[str, Any] | None = None) -> None:
        """Write folder/model.safetensors and folder/config.json; metadata is what JSON can say about the training."""
        config = {"network": asdict(self.config), "sampling": asdict(self.sampling), "metadata": metadata or {}}
        save_weights(folder, self.network.state_dict(), config)

    @classmethod
    def from_pretrained(cls, folder_or_name: str | Path) -> Self:
        """The generator saved in a folder, or shipped under a name ("embedded"), in eval mode on the CPU."""
        folder = Path(folder_or_name)
        if not folder.exists() and (ASSETS / folder).is_dir():
            folder = ASSETS / folder
        if not folder.exists():
            shipped = sorted(path.name for path in ASSETS.iterdir() if path.is_dir()) if ASSETS.is_dir() else []
            raise FileNotFoundError(
                f"no generator at {folder}: need a folder that save_pretrained wrote, or one of {shipped}"
            )
        config, weights = load_weights(folder)
        try:
            network, sampling = UNetConfig(**config["network"]), Sampling(**config["sampling"])
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{folder} is no generator, need 'network' and 'sampling' in its config: {error}"
            ) from error
        generator = cls(UNet(network), network, sampling)
        load_state(generator.network, weights, folder)
        return generator.eval()


class GeneratorPolicy(TensorDictModuleBase):
    """Reads x0, condition, seed. Writes action = x1 and source, where its flow started. See `CellFlux.sample`."""

    in_keys = ("x0", "condition", "seed")
    out_keys = ("action", "source")

    def __init__(self, generator: CellFlux):
        super().__init__()
        self.generator = generator

    def forward(self, td: TensorDictBase) -> TensorDictBase:
        x1, source = self.generator.sample(td["x0"], td["condition"], td["seed"])
        return td.set("action", x1).set("source", source)

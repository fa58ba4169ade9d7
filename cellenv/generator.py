"""The image generator: velocity network, guidance, source noise and ODE solver; and a policy that wraps it.

B batch, C channels, H, W pixels, D condition size, K solver steps. CellFlux, arXiv:2502.09775.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Self

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn

from cellenv import hub
from cellenv.checks import check_images, check_rows
from cellenv.model_card import model_card
from cellenv.networks import UNet, UNetConfig
from cellenv.path import edm_times, lift, uniform_times
from cellenv.published import Published, read_published
from cellenv.solvers import SOLVERS, velocity_times
from cellenv.streams import normal_like
from cellenv.weights_io import load_model, load_weights, save_weights, weight_files, write_atomically

ASSETS = Path(__file__).parent / "assets"
MOST_STEPS = 10_000  # of a sampler
LARGEST = 1000.0  # noise level or guidance; images of far larger ones are nan
STEEPEST = 10.0  # power of guidance; with a higher one it acts in the last of a few steps alone
GRIDS: dict[str, Callable[[int], Tensor]] = {"uniform": uniform_times, "edm": edm_times}


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Sampler settings.

    Raises:
        ValueError: if solver or grid is unknown or a number is out of range.
    """

    noise_level: float = 1.0  # std of the normal noise added to x0
    guidance: float = 0.0  # w >= 0; 0 evaluates the network once per velocity, else twice where it acts
    guidance_power: float = 0.0  # p >= 0 of w t^p, with which guidance grows (arXiv:2404.13040); 0: constant
    guidance_from: float = 0.0  # time t in [0, 1) before which guidance does not act (arXiv:2404.07724)
    steps: int = 8  # K
    solver: Literal["euler", "heun", "midpoint", "multistep"] = "multistep"
    grid: Literal["uniform", "edm"] = "uniform"

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS or self.grid not in GRIDS:
            raise ValueError(f"need a solver of {list(SOLVERS)} and a grid of {list(GRIDS)}; got {self}")
        if self.grid == "edm" and self.steps < 2:
            raise ValueError(f"the grid edm needs 2 steps or more; got {self}")
        if not 0 <= self.guidance_from < 1:
            raise ValueError(f"need guidance_from in [0, 1), the time from which guidance acts; got {self}")
        if not 0 <= self.guidance_power <= STEEPEST:
            raise ValueError(f"need guidance_power from 0, constant guidance, to {STEEPEST:g}; got {self}")
        if not (0 <= self.noise_level <= LARGEST and 0 <= self.guidance <= LARGEST and 1 <= self.steps <= MOST_STEPS):
            raise ValueError(
                f"need noise_level and guidance from 0 to {LARGEST:g} and 1 to {MOST_STEPS} steps; got {self}"
            )

    @property
    def nfe(self) -> int:
        """Network evaluations per image: one per velocity, two where guidance acts."""
        t = velocity_times(SOLVERS[self.solver], GRIDS[self.grid](self.steps))
        return len(t) + int(self.guidance_at(t).count_nonzero())

    def guidance_at(self, t: Tensor) -> Tensor:
        """w(t) = guidance t^guidance_power, and 0 before guidance_from; t of any shape, in [0, 1]."""
        return self.guidance * t**self.guidance_power * (t >= self.guidance_from)


SAMPLINGS: dict[str, Sampling] = {
    "default": Sampling(),
    # As published: 100 velocities, 200 network evaluations per image.
    "cellflux": Sampling(noise_level=1.0, guidance=0.2, steps=50, solver="heun", grid="edm"),
}


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """What config.json says of a generator; metadata: JSON values, see `model_card`."""

    network: UNetConfig
    sampling: Sampling
    metadata: dict[str, Any] = field(default_factory=dict)


class CellFlux(nn.Module):
    """Generator of treated cells x1 from control cells x0 and the embedding of a compound.

    network: any module network(x_t, t, condition) -> v; guidance also passes `keep` (see `UNet`).
    metadata: JSON values that are saved with it, how it was trained among them; `cellenv.model_card` names some.
    """

    def __init__(
        self,
        network: nn.Module,
        config: UNetConfig,
        sampling: Sampling | None = None,
        metadata: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.network, self.config, self.sampling = network, config, sampling or Sampling()
        self.metadata = metadata or {}

    @property
    def sampling(self) -> Sampling:
        """Sampler settings; assign them here, or one by one, by the names of `Sampling`."""
        return Sampling(
            noise_level=self.noise_level,
            guidance=self.guidance,
            guidance_power=self.guidance_power,
            guidance_from=self.guidance_from,
            steps=self.steps,
            solver=self.solver,
            grid=self.grid,
        )

    @sampling.setter
    def sampling(self, sampling: Sampling) -> None:
        self.noise_level, self.steps = sampling.noise_level, sampling.steps
        self.guidance, self.guidance_power = sampling.guidance, sampling.guidance_power
        self.guidance_from = sampling.guidance_from
        self.solver, self.grid = sampling.solver, sampling.grid

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        """v(x_t, t, condition) without guidance, for losses. x_t (B, C, H, W), t (B,), condition (B, D)."""
        return self.network(x_t, t, condition)

    def guided(self, x_t: Tensor, t: Tensor, condition: Tensor, sampling: Sampling | None = None) -> Tensor:
        """(1 + w) v(x_t, t, condition) - w v(x_t, t, none), classifier-free guidance (arXiv:2207.12598).

        w is `Sampling.guidance_at` of t, a row's own; rows of w = 0 take one evaluation. sampling: whose guidance acts;
        None: the generator's own.
        """
        sampling = sampling or self.sampling
        if sampling.guidance == 0 or not (w := sampling.guidance_at(t)).any():  # (B,), >= 0
            return self.network(x_t, t, condition)
        acts = w > 0
        rows = [torch.cat([value, value[acts]]) for value in (x_t, t, condition)]
        keep = torch.arange(len(rows[1]), device=t.device) < len(t)  # first all rows with their condition
        v, v_none = self.network(*rows, keep).tensor_split([len(t)])
        w = lift(w[acts], v_none).to(v)
        return v.index_put((acts,), (1 + w) * v[acts] - w * v_none)

    @torch.no_grad()
    def sample(self, x0: Tensor, condition: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """(x1, source), (B, C, H, W) each: source = x0 + noise_level n; x1, the end of its flow, in [-1, 1].

        x0 (B, C, H, W) in [-1, 1]; condition (B, D); seed (B,) int64, the random stream of n for each sample.
        Dropout is active unless the generator is in eval mode.

        Raises:
            ValueError: if an input has the wrong shape, is not finite, or x0 leaves [-1, 1].
        """
        check_images(x0, self.config.size, "x0")
        check_rows(condition, (len(x0), self.config.condition_dim), "condition")
        if not len(x0):
            return x0.clone(), x0.clone()
        source = x0 + self.noise_level * normal_like(x0, seed) if self.noise_level else x0.clone()
        return self.flow(source, condition), source

    def flow(self, source: Tensor, condition: Tensor) -> Tensor:
        """End of the flow from a source (B, C, H, W) under a condition (B, D), clamped to [-1, 1]."""
        sampling = self.sampling  # validates attributes that were set one by one
        times = GRIDS[sampling.grid](sampling.steps)
        return SOLVERS[sampling.solver](lambda x, t: self.guided(x, t, condition, sampling), source, times).clamp(-1, 1)

    def save_pretrained(self, folder: str | Path, metadata: dict[str, Any] | None = None) -> None:
        """Write model.safetensors, config.json and a model card, README.md; metadata: None is the generator's own."""
        config = GeneratorConfig(
            network=self.config, sampling=self.sampling, metadata=self.metadata if metadata is None else metadata
        )
        parameters = sum(parameter.numel() for parameter in self.parameters())
        card = model_card(config.metadata, network=self.config, sampling=self.sampling, parameters=parameters)
        save_weights(folder, self.network.state_dict(), asdict(config))
        write_atomically(weight_files(folder)[0].with_name(hub.CARD), card.encode())

    def push_to_hub(self, repo_id: str, metadata: dict[str, Any] | None = None, *, private: bool | None = None) -> str:
        """Upload to "owner/name" on the Hugging Face Hub and return the URL; see `save_pretrained`, `hub.upload`."""
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, metadata)
            return hub.upload(folder, repo_id, private)

    @classmethod
    def from_pretrained(cls, path_or_name: str | Path) -> Self:
        """Generator from a folder, a published .pth, the library ("embedded") or the Hub ("hf:owner/name").

        In eval mode on the CPU. A .pth gives its EMA weights; converting the file once makes loading faster.

        Raises:
            FileNotFoundError: if there is no such generator.
            ValueError: if its files are damaged or do not describe a generator.
        """
        if Path(path_or_name).suffix == ".pth":
            return cls.from_published(read_published(path_or_name))
        folder = resolve_folder(path_or_name)
        config, weights = load_weights(folder, GeneratorConfig)
        network = load_model(lambda: UNet(config.network), weights, folder)
        return cls(network, config.network, config.sampling, config.metadata).eval()

    @classmethod
    def from_published(cls, published: Published) -> Self:
        """Generator of a published checkpoint (`read_published`) with the published sampler, in eval mode."""
        network = load_model(lambda: UNet(published.network), published.weights, published.metadata["source"])
        return cls(network, published.network, SAMPLINGS["cellflux"], published.metadata).eval()


def resolve_folder(path_or_name: str | Path) -> Path:
    """Folder of a generator: the path itself, one shipped under this name, or a download from the Hub.

    Raises:
        FileNotFoundError: if none of them exists, or it is a folder of another layout.
    """
    if hub.is_address(path_or_name):
        return hub.download(str(path_or_name))
    for path in (Path(path_or_name), ASSETS / path_or_name):
        if path.is_dir():
            hub.check_layout(path, path_or_name)
        if path.exists():
            return path
    shipped = sorted(path.name for path in ASSETS.iterdir() if path.is_dir()) if ASSETS.is_dir() else []
    raise FileNotFoundError(
        f"no generator at {path_or_name}: need a folder that save_pretrained wrote, a published .pth, "
        f"one of {shipped}, or 'hf:owner/name' on the Hub"
    )


class GeneratorPolicy(TensorDictModuleBase):
    """The generator as a policy: reads x0, condition, seed; writes action = x1 and source, see `CellFlux.sample`.

    The batch may have any shape.
    """

    in_keys = ("x0", "condition", "seed")
    out_keys = ("action", "source")

    def __init__(self, generator: CellFlux):
        super().__init__()
        self.generator = generator

    def forward(self, td: TensorDictBase) -> TensorDictBase:
        x0, condition = td["x0"], td["condition"]
        rows = x0.reshape(-1, *x0.shape[-3:]), condition.reshape(-1, condition.shape[-1]), td["seed"].reshape(-1)
        x1, source = self.generator.sample(*rows)
        return td.set("action", x1.reshape(x0.shape)).set("source", source.reshape(x0.shape))

"""The sampler as a chain of Gaussian steps, x' = x + h v + eta sqrt(h) n, so that what it did has a probability.

B batch, C channels, H, W pixels, K steps of the grid, S noisy ones (the window), D condition size.

The steps outside the window are the solver's and draw nothing, and a generator is judged by the solver alone. What the
noise adds to the law of the images is taken from the noise of the source (`Chain.source_level`). The usual remedy, a
drift correction (Flow-GRPO, arXiv:2505.05470), reads the score off v as if the source were standard normal, which
control cells are not: it leads elsewhere. Ours asks nothing of the controls, but an early window.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import ProbabilisticTensorDictModule, TensorDictModuleBase
from torch import Tensor
from torch.distributions import Distribution

from cellenv.generator import GRIDS, CellFlux
from cellenv.path import lift
from cellenv.solvers import SOLVERS, Solver, Velocity
from cellenv.streams import normal_like, seed_at


def step_mean(x_t: Tensor, v: Tensor, h: Tensor) -> Tensor:
    """x_t + h v; x_t, v (B, C, H, W), h (B,)."""
    return x_t + lift(h, x_t) * v


def log_density(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """log N(x; mean, std^2 I) as a mean over C, H, W, (B,): a sum over pixels leaves any clip at the first update.

    x, mean: (B, C, H, W) in float32 or better. std: (B,).
    """
    z = (x - mean) / lift(std, x)
    return -0.5 * z.square().flatten(1).mean(1) - std.log() - 0.5 * math.log(2 * math.pi)


def step_kl(mean: Tensor, mean_ref: Tensor, std: Tensor) -> Tensor:
    """KL(N(mean, std^2 I), N(mean_ref, std^2 I)) = mean((mean - mean_ref)^2) / (2 std^2), mean over C, H, W, (B,)."""
    return (mean - mean_ref).square().flatten(1).mean(1) / (2 * std.square())


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Which steps of a grid of times are noisy, and how much."""

    times: Tensor  # (K + 1,) float64
    window: tuple[int, int]  # the first noisy step and the one after the last, S apart
    eta: float
    solver: Solver  # of the steps without noise

    def __post_init__(self) -> None:
        first, end = self.window
        if not 0 <= first < end < len(self.times):
            raise ValueError(f"need a window 0 <= first < end <= {len(self.times) - 1} of steps, got {self.window}")
        if self.eta <= 0:
            raise ValueError(f"need eta > 0, got {self.eta}; without noise a step has no probability")

    @classmethod
    def of(cls, generator: CellFlux, *, window: tuple[int, int], eta: float) -> Self:
        """On the grid of the generator, with its solver."""
        times = GRIDS[generator.grid](generator.steps)
        return cls(times=times, window=window, eta=eta, solver=SOLVERS[generator.solver])

    def steps(self) -> tuple[Tensor, Tensor, Tensor]:
        """t, h and std = eta sqrt(h) of the noisy steps, (S,) float64 each."""
        noisy = slice(*self.window)
        h = self.times.diff()[noisy]
        return self.times[noisy], h, self.eta * h.sqrt()

    def source_level(self, noise_level: float) -> float:
        """sqrt(noise_level^2 - sum_k std_k^2 / (1 - t_k - h_k)^2), the noise that the source keeps for itself.

        Early on the flow carries noise n of the source to (1 - t) n, up to t^2 and whatever the controls are, since x_t
        knows nothing of x1 yet; noise std_k at the end of step k is therefore noise std_k / (1 - t_k - h_k) of the
        source. Ours; the law of the images keeps its spread.
        """
        t, h, std = self.steps()
        left = noise_level**2 - (std / (1 - t - h)).square().sum().item()
        if left < 0:
            raise ValueError(
                f"need less noise than the source's, {noise_level}; eta {self.eta} on steps {self.window} of "
                f"{len(self.times) - 1} is more: take a smaller eta or an earlier window"
            )
        return math.sqrt(left)

    def walk(self, v: Velocity, source: Tensor, seed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(x1, path, log_prob): the end, (B, C, H, W); the points between noisy steps, (B, S + 1, C, H, W); (B, S).

        seed: (B,) int64; the noise of a sample at noisy step k is the stream (seed, k) alone.
        """
        first, end = self.window
        x = self._flow(v, source, self.times[: first + 1])
        path, log_probs = [x], []
        for k, step in enumerate(zip(*self.steps(), strict=True)):
            t, h, std = (value.to(x).expand(len(x)) for value in step)  # (B,) each
            mean = step_mean(x, v(x, t), h)
            seeds = torch.tensor([seed_at(s, k) for s in seed.tolist()], dtype=torch.int64)
            x = mean + lift(std, x) * normal_like(x, seeds)
            path.append(x)
            log_probs.append(log_density(x, mean, std))
        x1 = self._flow(v, x, self.times[end:])
        return x1, torch.stack(path, 1), torch.stack(log_probs, 1)

    def _flow(self, v: Velocity, x: Tensor, times: Tensor) -> Tensor:
        return self.solver(v, x, times) if len(times) > 1 else x


class ChainPolicy(TensorDictModuleBase):
    """Reads x0, condition, seed. Writes action = x1 clamped to [-1, 1], path and action_log_prob: see `Chain.walk`."""

    in_keys = ("x0", "condition", "seed")
    out_keys = ("action", "path", "action_log_prob")

    def __init__(self, generator: CellFlux, chain: Chain):
        super().__init__()
        self.generator, self.chain = generator, chain
        chain.source_level(generator.noise_level)  # raises what is wrong before the first rollout

    @torch.no_grad()
    def forward(self, td: TensorDictBase) -> TensorDictBase:
        x0, condition, seed = (td[key] for key in self.in_keys)
        source = x0 + self.chain.source_level(self.generator.noise_level) * normal_like(x0, seed)
        x1, path, log_prob = self.chain.walk(lambda x, t: self.generator.guided(x, t, condition), source, seed)
        return td.set("action", x1.clamp(-1, 1)).set("path", path).set("action_log_prob", log_prob)


def transitions(rollout: TensorDictBase, chain: Chain) -> TensorDict:
    """The noisy steps of every path as decisions, [B, S]: x_t, x_next, t, h, std, condition, action_log_prob."""
    path, log_prob = rollout["path"], rollout["action_log_prob"]
    B, S = log_prob.shape
    t, h, std = (value.to(path).expand(B, S) for value in chain.steps())
    return TensorDict(
        {
            "x_t": path[:, :-1],
            "x_next": path[:, 1:],
            "t": t,
            "h": h,
            "std": std,
            "condition": rollout["condition"][:, None].expand(B, S, -1),
            "action_log_prob": log_prob,
        },
        batch_size=[B, S],
    )


def rows_of(steps: TensorDictBase) -> TensorDictBase:
    """[B, S] -> [S B], all samples at the first step, then all at the next: a stride over rows meets every step."""
    return steps.transpose(0, 1).reshape(-1)


class GaussianStep(Distribution):
    """N(loc, scale^2 I) of an image, loc (B, C, H, W), scale (B,); its log_prob is `log_density`, (B,)."""

    arg_constraints = {}  # noqa: RUF012 - PyTorch's form; a nan is the trainer's to find

    def __init__(self, loc: Tensor, scale: Tensor):
        super().__init__(loc.shape[:1], loc.shape[1:], validate_args=False)
        self.loc, self.scale = loc, scale

    def log_prob(self, value: Tensor) -> Tensor:
        return log_density(value, self.loc, self.scale)


class StepLaw(TensorDictModuleBase):
    """Reads x_t, t, h, std, condition. Writes loc = x_t + h v and scale = std, the law of the next point under v.

    guidance: in place of the generator's own, if not None.
    """

    in_keys = ("x_t", "t", "h", "std", "condition")
    out_keys = ("loc", "scale")

    def __init__(self, generator: CellFlux, guidance: float | None = None):
        super().__init__()
        self.generator, self.guidance = generator, guidance

    def forward(self, td: TensorDictBase) -> TensorDictBase:
        x_t, t, h, std, condition = (td[key] for key in self.in_keys)
        loc = step_mean(x_t, self.generator.guided(x_t, t, condition, self.guidance), h)
        return td.set("loc", loc).set("scale", std)


def step_choice() -> ProbabilisticTensorDictModule:
    """(loc, scale) -> x_next, the end of an actor as TorchRL's losses know it; `StepLaw` is the rest."""
    return ProbabilisticTensorDictModule(
        in_keys=["loc", "scale"],
        out_keys=["x_next"],
        distribution_class=GaussianStep,
        return_log_prob=True,
        log_prob_key="action_log_prob",
    )

"""SDE sampling: some sampler steps become Gaussian, x' = x + h v + eta sqrt(h) n, and so have a likelihood.

B batch, C channels, H, W pixels, K steps of the time grid, S noisy steps (the window), D condition size.

Steps outside the window are the deterministic solver's; evaluation uses the solver alone. To keep the distribution of
images, the noise of the window is taken out of the source noise (`SDESampler.source_level`). The usual remedy, a drift
correction (Flow-GRPO, arXiv:2505.05470), derives the score from v for a standard normal source. Control cells are not
normal, so it converges to another distribution; ours assumes nothing about the controls but needs an early window.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import ProbabilisticTensorDictModule, TensorDictModuleBase
from torch import Tensor
from torch.distributions import Distribution

from cellenv.generator import GRIDS, CellFlux, Sampling
from cellenv.path import lift
from cellenv.solvers import SOLVERS, Solver, Velocity
from cellenv.streams import normal_like, seed_at


def step_mean(x_t: Tensor, v: Tensor, h: Tensor) -> Tensor:
    """Mean of a noisy step, x_t + h v; x_t, v (B, C, H, W), h (B,)."""
    return x_t + lift(h, x_t) * v


def log_density(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """log N(x; mean, std^2 I) as a mean over C, H, W, (B,).

    A sum over pixels would make nearly every ratio leave its clip range at the first update.
    x, mean: (B, C, H, W) in float32 or wider. std: (B,).
    """
    z = (x - mean) / lift(std, x)
    return -0.5 * z.square().flatten(1).mean(1) - std.log() - 0.5 * math.log(2 * math.pi)


def velocity_error(mean: Tensor, mean_ref: Tensor, h: Tensor) -> Tensor:
    """|v - v_ref|^2 = |mean - mean_ref|^2 / h^2 of two Gaussian steps from one point, mean over C, H, W, (B,).

    The KL divergence of the steps is h / (2 eta^2) times this, eta^2 h being their variance (per pixel, as in
    `log_density`): with the default h = 1/8 and eta = 1/2, a quarter of it.
    """
    return (mean - mean_ref).square().flatten(1).mean(1) / h.square()


@dataclass(frozen=True, kw_only=True)
class SDESampler:
    """Sampler whose steps in a window of the time grid add Gaussian noise; the others are the solver's."""

    times: Tensor  # (K + 1,) float64
    sde_window: tuple[int, int]  # first noisy step, and the one after the last; S apart
    eta: float  # a step of length h adds noise of std eta sqrt(h)
    solver: Solver  # of the steps outside the window

    def __post_init__(self) -> None:
        first, end = self.sde_window
        if not 0 <= first < end < len(self.times):
            steps = len(self.times) - 1
            raise ValueError(f"need an sde_window 0 <= first < end <= {steps} of steps, got {self.sde_window}")
        if self.eta <= 0:
            raise ValueError(f"need eta > 0, got {self.eta}; without noise a step has no likelihood")

    @classmethod
    def from_generator(cls, generator: CellFlux, *, sde_window: tuple[int, int], eta: float) -> Self:
        """Build it on the generator's own time grid and solver.

        Raises:
            ValueError: the window is not within the grid, or eta <= 0.
        """
        times = GRIDS[generator.grid](generator.steps)
        return cls(times=times, sde_window=sde_window, eta=eta, solver=SOLVERS[generator.solver])

    def noisy_steps(self) -> tuple[Tensor, Tensor, Tensor]:
        """t, h and std = eta sqrt(h) of the noisy steps, (S,) float64 each."""
        noisy = slice(*self.sde_window)
        h = self.times.diff()[noisy]
        return self.times[noisy], h, self.eta * h.sqrt()

    def source_level(self, noise_level: float) -> float:
        """sqrt(noise_level^2 - sum_k std_k^2 / (1 - t_k - h_k)^2), the source noise that keeps the total unchanged.

        At early times the flow scales source noise n to (1 - t) n, up to O(t^2) and for any controls, since x_t does
        not depend on x1 yet. Noise std_k added at the end of step k thus acts as source noise std_k / (1 - t_k - h_k).
        Derived here; it keeps the spread of the generated images.

        Raises:
            ValueError: the noisy steps add more noise than the source has.
        """
        t, h, std = self.noisy_steps()
        left = noise_level**2 - (std / (1 - t - h)).square().sum().item()
        if left < 0:
            raise ValueError(
                f"need less noise than the source's, {noise_level}; eta {self.eta} on steps {self.sde_window} of "
                f"{len(self.times) - 1} is more: take a smaller eta or an earlier window"
            )
        return math.sqrt(left)

    def sample_with_log_prob(self, v: Velocity, source: Tensor, seed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(x1, path, log_prob): (B, C, H, W); the points between noisy steps, (B, S + 1, C, H, W); (B, S).

        seed: (B,) int64; noisy step k of a sample draws from the stream (seed, k).
        """
        first, end = self.sde_window
        x = self._solve(v, source, self.times[: first + 1])
        path, log_probs = [x], []
        for k, step in enumerate(zip(*self.noisy_steps(), strict=True)):
            t, h, std = (value.to(x).expand(len(x)) for value in step)  # (B,) each
            mean = step_mean(x, v(x, t), h)
            seeds = torch.tensor([seed_at(s, k) for s in seed.tolist()], dtype=torch.int64)
            x = mean + lift(std, x) * normal_like(x, seeds)
            path.append(x)
            log_probs.append(log_density(x, mean, std))
        x1 = self._solve(v, x, self.times[end:])
        return x1, torch.stack(path, 1), torch.stack(log_probs, 1)

    def _solve(self, v: Velocity, x: Tensor, times: Tensor) -> Tensor:
        """Integrate without noise; x itself if times holds no step."""
        return self.solver(v, x, times) if len(times) > 1 else x


class SDEPolicy(TensorDictModuleBase):
    """Reads x0, condition, seed; writes action = x1 clamped to [-1, 1], path and action_log_prob.

    path and action_log_prob: see `SDESampler.sample_with_log_prob`.
    """

    in_keys = ("x0", "condition", "seed")
    out_keys = ("action", "path", "action_log_prob")

    def __init__(self, generator: CellFlux, sampler: SDESampler):
        super().__init__()
        self.generator, self.sampler = generator, sampler
        sampler.source_level(generator.noise_level)  # raises on too much noise before the first rollout

    @torch.no_grad()
    def forward(self, td: TensorDictBase) -> TensorDictBase:
        x0, condition, seed = (td[key] for key in self.in_keys)
        source = x0 + self.sampler.source_level(self.generator.noise_level) * normal_like(x0, seed)

        def v(x: Tensor, t: Tensor) -> Tensor:
            return self.generator.guided(x, t, condition)

        x1, path, log_prob = self.sampler.sample_with_log_prob(v, source, seed)
        return td.set("action", x1.clamp(-1, 1)).set("path", path).set("action_log_prob", log_prob)


def transitions(rollout: TensorDictBase, sampler: SDESampler) -> TensorDict:
    """Noisy steps of every path, batch size [B, S]: x_t, x_next, t, h, std, condition, action_log_prob, group."""
    path, log_prob = rollout["path"], rollout["action_log_prob"]
    B, S = log_prob.shape
    t, h, std = (value.to(path).expand(B, S) for value in sampler.noisy_steps())
    return TensorDict(
        {
            "x_t": path[:, :-1],
            "x_next": path[:, 1:],
            "t": t,
            "h": h,
            "std": std,
            "condition": rollout["condition"][:, None].expand(B, S, -1),
            "action_log_prob": log_prob,
            "group": rollout["group"][:, None].expand(B, S),
        },
        batch_size=[B, S],
    )


def flatten_transitions(steps: TensorDictBase) -> TensorDictBase:
    """Reshape [B, S] to [S B], step by step, so that every strided subset of rows (a minibatch) covers all steps."""
    return steps.transpose(0, 1).reshape(-1)


class GaussianTransition(Distribution):
    """N(loc, scale^2 I) of an image, loc (B, C, H, W), scale (B,); log_prob is `log_density`, (B,)."""

    arg_constraints = {}  # noqa: RUF012 - PyTorch's form; the trainer reports nan

    def __init__(self, loc: Tensor, scale: Tensor):
        super().__init__(loc.shape[:1], loc.shape[1:], validate_args=False)
        self.loc, self.scale = loc, scale

    def log_prob(self, value: Tensor) -> Tensor:
        return log_density(value, self.loc, self.scale)


class TransitionPolicy(TensorDictModuleBase):
    """Reads x_t, t, h, std, condition; writes loc = x_t + h v and scale = std of the next point.

    sampling: whose guidance acts; None: the generator's own.
    """

    in_keys = ("x_t", "t", "h", "std", "condition")
    out_keys = ("loc", "scale")

    def __init__(self, generator: CellFlux, sampling: Sampling | None = None):
        super().__init__()
        self.generator, self.sampling = generator, sampling

    def forward(self, td: TensorDictBase) -> TensorDictBase:
        x_t, t, h, std, condition = (td[key] for key in self.in_keys)
        loc = step_mean(x_t, self.generator.guided(x_t, t, condition, self.sampling), h)
        return td.set("loc", loc).set("scale", std)


def transition_distribution() -> ProbabilisticTensorDictModule:
    """Module from loc and scale to x_next with its log-probability; after `TransitionPolicy`, a TorchRL actor."""
    return ProbabilisticTensorDictModule(
        in_keys=["loc", "scale"],
        out_keys=["x_next"],
        distribution_class=GaussianTransition,
        return_log_prob=True,
        log_prob_key="action_log_prob",
    )

"""Where the noise of DiffusionNFT's gradient comes from: the rollouts, or how their images are re-noised.

    python -m examples.studies.gradient_noise

On policy, at the weights of the embedded base: g is the gradient of one iteration. Each rollout is re-noised several
times: with source and times drawn per group of images, per image, and per group with times in one quarter of [0, 1).
Prints estimates of the variance of E[g | rollout], of the mean variance of g given its rollout, and of |E g|^2, with
each weight's gradient divided by its rms in the first of these, as AdamW sees it. K times per image
(`--times-per-sample`) in place of one divide the second by K.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from examples.studies.command_line import parse_script


@dataclass(frozen=True, kw_only=True)
class GradientNoiseConfig:
    iterations: int = 8  # rollouts of 144 images; at least 3
    draws: int = 3  # of sources and times for each of them; at least 2
    times_per_sample: int = 2  # K, of each image in a draw


PRESETS = {"default": GradientNoiseConfig(), "smoke": GradientNoiseConfig(iterations=3, draws=2)}

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

# ruff: noqa: E402
import torch
from tensordict import TensorDictBase
from torch import Tensor
from tqdm import tqdm

from algorithms.clock import Clock
from algorithms.launch import start_accelerator
from algorithms.recipes import nft
from algorithms.recipes.post_training import Components, build_components
from algorithms.trainer import Algorithm


def quarter(u: Tensor, k: int) -> Tensor:
    """Times in the k-th quarter of [0, 1), k = 0 to 3; u (n,) in [0, 1) -> (n,) float32."""
    return ((k + u) / 4).clamp(max=0.999).float()


WAYS: dict[str, dict[str, Any]] = {
    "per group": {"noise_per": "group"},
    "per image": {"noise_per": "sample"},
    **{f"t {k / 4} to {(k + 1) / 4}": {"times": partial(quarter, k=k)} for k in range(4)},
}


def gradient(components: Components[nft.NFTConfig], algorithm: Algorithm, rows: TensorDictBase) -> Tensor:
    """Gradient of the mean loss over the rows, all weights concatenated."""
    components.theta.zero_grad()
    parts = -(-len(rows) // components.config.optim.micro_batch_size)
    for micro_batch in (rows[m::parts] for m in range(parts)):
        with components.accelerator.autocast():
            loss = algorithm.loss(micro_batch)["loss_nft"]
        (loss * len(micro_batch) / len(rows)).backward()
    return torch.cat([weight.grad.flatten() for weight in components.theta.parameters()])


class Moments(NamedTuple):
    """Of gradients g, each of one draw of sources and times for one rollout."""

    signal: float  # |E g|^2
    error: float  # its standard error
    rollouts: float  # variance of E[g | rollout]
    renoising: float  # mean variance of g given its rollout

    @property
    def signal_to_noise(self) -> float:
        """|E g|^2 / E|g - E g|^2."""
        return self.signal / (self.rollouts + self.renoising)


def moments(gradients: Tensor) -> Moments:
    """Unbiased estimates from J draws for each of n independent rollouts, (n, J, P); n >= 3, J >= 2.

    |E g|^2 is the mean of the products of different rollouts; its error is the jackknife's.
    """
    n, J = gradients.shape[:2]
    mean = gradients.mean(1)  # (n, P), over the draws of a rollout
    renoising = gradients.var(1).sum(1).mean()
    rollouts = mean.var(0).sum() - renoising / J
    products = mean @ mean.T
    pairs = products - products.diag().diag()
    signal = pairs.sum() / (n * (n - 1))
    without = (pairs.sum() - 2 * pairs.sum(1)) / ((n - 1) * (n - 2))  # (n,), each leaves one rollout out
    error = ((n - 1) * without.var(correction=0)).sqrt()
    return Moments(*(x.item() for x in (signal, error, rollouts, renoising)))


def main(config: GradientNoiseConfig) -> None:
    with TemporaryDirectory() as folder:
        preset = nft.PRESETS["default"]
        renoise = replace(preset.renoise, times_per_sample=config.times_per_sample)
        nft_config = replace(preset, output_dir=Path(folder), renoise=renoise)
        accelerator = start_accelerator(mixed_precision="auto", output_dir=nft_config.output_dir)
        components = build_components(nft_config, accelerator)
        algorithm = nft.build(components)
        clock = Clock(accelerator.device)
        rollouts = [algorithm.collect(i, clock) for i in tqdm(range(config.iterations), desc="rollouts")]
        rms = None
        for name, change in WAYS.items():
            draws = [replace(algorithm.build_batch, seed=j, **change) for j in range(config.draws)]
            gradients = [
                torch.stack([gradient(components, algorithm, draw(rollout, i)) for draw in draws])
                for i, rollout in enumerate(tqdm(rollouts, desc=name))
            ]
            g = torch.stack(gradients)  # (n, J, P)
            rms = g.square().mean((0, 1)).sqrt().clamp(min=1e-12) if rms is None else rms
            found = moments(g / rms)
            print(
                f"{name:12s} variance: rollouts {found.rollouts:.1e}, re-noising {found.renoising:.1e}; "
                f"|E g|^2 {found.signal:.1e} ± {found.error:.1e}; signal to noise {found.signal_to_noise:.4f}"
            )


if __name__ == "__main__":
    main(CONFIG)

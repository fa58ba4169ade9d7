"""Variance of DiffusionNFT's gradient, with source and times drawn per group of images or per image.

    python -m examples.studies.gradient_noise

On policy, at the weights of the embedded base: g_i is the gradient of iteration i, from its own rollout. Prints
estimates of the variance E|g - E g|^2 and of |E g|^2, which is far below it.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from examples.studies.command_line import parse_script


@dataclass(frozen=True, kw_only=True)
class GradientNoiseConfig:
    iterations: int = 16  # of 144 images; at least 3


PRESETS = {"default": GradientNoiseConfig(), "smoke": GradientNoiseConfig(iterations=3)}

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


def gradient(components: Components[nft.NFTConfig], algorithm: Algorithm, rows: TensorDictBase) -> Tensor:
    """Gradient of the mean loss over the rows, all weights concatenated."""
    components.theta.zero_grad()
    parts = -(-len(rows) // components.config.optim.micro_batch_size)
    for micro_batch in (rows[m::parts] for m in range(parts)):
        with components.accelerator.autocast():
            loss = algorithm.loss(micro_batch)["loss_nft"]
        (loss * len(micro_batch) / len(rows)).backward()
    return torch.cat([weight.grad.flatten() for weight in components.theta.parameters()])


def moments(gradients: Tensor) -> tuple[float, float, float]:
    """(|E g|^2, its standard error, E|g - E g|^2) of independent gradients (n, .), unbiased.

    |E g|^2 is the mean of the products of different gradients; its error is the jackknife's.
    """
    n = len(gradients)
    products = gradients @ gradients.T
    squared_norm = products.diag().mean()
    pairs = products - products.diag().diag()
    signal = pairs.sum() / (n * (n - 1))
    without = (pairs.sum() - 2 * pairs.sum(1)) / ((n - 1) * (n - 2))  # (n,), each leaves one gradient out
    error = ((n - 1) * without.var(correction=0)).sqrt()
    return signal.item(), error.item(), (squared_norm - signal).item()


def main(config: GradientNoiseConfig) -> None:
    with TemporaryDirectory() as folder:
        nft_config = replace(nft.PRESETS["default"], output_dir=Path(folder))
        accelerator = start_accelerator(mixed_precision="auto", output_dir=nft_config.output_dir)
        components = build_components(nft_config, accelerator)
        algorithm = nft.build(components)
        clock = Clock(accelerator.device)
        rollouts = [algorithm.collect(i, clock) for i in tqdm(range(config.iterations), desc="rollouts")]
        for noise_per in ("group", "sample"):
            build_batch = replace(algorithm.build_batch, noise_per=noise_per)
            gradients = [
                gradient(components, algorithm, build_batch(rollout, i))
                for i, rollout in enumerate(tqdm(rollouts, desc=noise_per))
            ]
            signal, error, noise = moments(torch.stack(gradients))
            print(f"{noise_per:6s}  variance {noise:.1e}  |E g|^2 {signal:.1e} ± {error:.1e}")


if __name__ == "__main__":
    main(CONFIG)

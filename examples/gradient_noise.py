"""How noisy the gradient of DiffusionNFT is, with a source and times for each group of images or for each image.

    python examples/gradient_noise.py

On policy, at the weights of the embedded base: g_i is the gradient of iteration i, of its own rollout. Prints estimates
of the variance E|g - E g|^2 and of |E g|^2, which is far below it.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from command_line import parse


@dataclass(frozen=True, kw_only=True)
class Config:
    iterations: int = 16  # of 144 images; at least 3


PRESETS = {"default": Config(), "smoke": Config(iterations=3)}

if __name__ == "__main__":
    CONFIG = parse(PRESETS, __doc__)  # before the heavy imports: --help is quick

# ruff: noqa: E402
import torch
import train_nft
from post_training import Setup, three_models
from tensordict import TensorDict
from torch import Tensor
from tqdm import tqdm

from algorithms.clock import Clock
from algorithms.launch import start_accelerator
from algorithms.trainer import Algorithm
from cellenv.data.synthetic import SyntheticCells


def gradient(setup: Setup, algorithm: Algorithm, rows: TensorDict) -> Tensor:
    """Of the mean loss over the rows, all weights in a row."""
    setup.theta.zero_grad()
    parts = -(-len(rows) // setup.config.micro_batch)
    for piece in (rows[m::parts] for m in range(parts)):
        with setup.accelerator.autocast():
            loss = algorithm.loss(piece)["loss_nft"]
        (loss * len(piece) / len(rows)).backward()
    return torch.cat([weight.grad.flatten() for weight in setup.theta.parameters()])


def moments(gradients: Tensor) -> tuple[float, float, float]:
    """(|E g|^2, its standard error, E|g - E g|^2) of gradients (n, .), without bias: pairs share the mean alone."""
    n, products = len(gradients), gradients @ gradients.T
    total, pairs = products.diag().mean(), products - products.diag().diag()
    signal = pairs.sum() / (n * (n - 1))
    without = (pairs.sum() - 2 * pairs.sum(1)) / ((n - 1) * (n - 2))  # (n,), the jackknife's
    error = ((n - 1) * without.var(correction=0)).sqrt()
    return signal.item(), error.item(), (total - signal).item()


def main(config: Config) -> None:
    with TemporaryDirectory() as folder:
        settings = replace(train_nft.Config(), output_dir=Path(folder))
        accelerator = start_accelerator(mixed_precision="auto", output_dir=settings.output_dir, threads=None)
        theta, old, ref = three_models(settings)
        data = SyntheticCells("train")
        setup = Setup(config=settings, accelerator=accelerator, data=data, theta=theta, old=old, ref=ref)
        algorithm = train_nft.build(setup)
        rollouts = [
            algorithm.collect(i, Clock(accelerator.device)) for i in tqdm(range(config.iterations), desc="rollouts")
        ]
        for noise_per in ("group", "sample"):
            prepare = replace(algorithm.prepare, noise_per=noise_per)
            rows = (prepare(rollout, i) for i, rollout in enumerate(tqdm(rollouts, desc=noise_per)))
            signal, error, noise = moments(torch.stack([gradient(setup, algorithm, each) for each in rows]))
            print(f"{noise_per:6s}  variance {noise:.1e}  |E g|^2 {signal:.1e} ± {error:.1e}")


if __name__ == "__main__":
    main(CONFIG)

"""A tiny generator, rewarded for brightness, that samples by a chain of Gaussian steps; B == W == 4 where it can be."""

import copy
import json
from contextlib import nullcontext

import torch
from nft_toys import DATA, ToyNet
from torch import nn
from torchrl.envs import Compose, TransformedEnv

from algorithms.clock import Clock
from algorithms.launch import start_accelerator
from algorithms.policies import Chain, ChainPolicy
from algorithms.rollouts import Bandit
from algorithms.trainer import TrainConfig, train
from cellenv.env import VirtualCellEnv
from cellenv.generator import CellFlux, GeneratorPolicy, Sampling
from cellenv.networks import UNet, UNetConfig
from cellenv.streams import rng_at
from rewards.transforms import ImageReward, WeightedSum

CONFIG = UNetConfig(
    size=(3, 4, 4), condition_dim=5, width=16, multipliers=(1, 2), blocks=1, attention=(2,), dropout=0.3, predicts="x1"
)


def toy_generator(network=None, **sampling):
    """A perceptron that goes nowhere in particular."""
    return CellFlux(network or ToyNet(), CONFIG, Sampling(**({"steps": 4} | sampling))).eval()


def tiny_unet():
    network = UNet(CONFIG)
    for i, parameter in enumerate(network.parameters()):
        nn.init.normal_(parameter, std=0.2, generator=rng_at(3, i))
    return network


def toy_chain(generator, window=(0, 2), eta=0.5):
    return Chain.of(generator, window=window, eta=eta)


def toy_bandit(policy, *, groups=8, group_size=8, chunk=64, autocast=nullcontext, reward=None):
    bright = ImageReward("bright", reward or (lambda images: images.flatten(1).mean(1)))
    return Bandit(
        env=TransformedEnv(VirtualCellEnv(DATA), Compose(bright, WeightedSum({"bright": 1.0}))),
        policy=policy,
        data=DATA,
        groups=range(groups),
        group_size=group_size,
        seed=5,
        chunk=chunk,
        device=torch.device("cpu"),
        autocast=autocast,
    )


def toy_rollout(generator, chain, **options):
    return toy_bandit(ChainPolicy(generator, chain), **options)(0, Clock())


def brightness(generator):
    """Of the plain sampler, on contexts of its own, over all ranks."""
    return toy_bandit(GeneratorPolicy(generator))(1000, Clock())["next", "reward"].mean().item()


def toy_train(tmp_path, build, **config):
    """(before, after, log): the brightness that `build(theta, ref, chain)` reaches, and the lines of its log."""
    theta = toy_generator()
    algorithm = build(theta, copy.deepcopy(theta), toy_chain(theta))
    before = brightness(theta)
    usual = {"iterations": 15, "learning_rate": 1e-2, "optimizer_steps": 2, "micro_batch": 64}
    train(start_accelerator(threads=1), TrainConfig(output_dir=tmp_path, **(usual | config)), algorithm)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    return before, brightness(theta), lines

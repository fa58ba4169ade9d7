"""Tiny generator with an SDE sampler, rewarded for brightness. B == W == 4 where possible."""

import copy
import json
from contextlib import nullcontext
from functools import partial

import torch
from torch import nn
from torchrl.envs import Compose, TransformedEnv

from algorithms.advantages import identity
from algorithms.clock import Clock
from algorithms.launch import start_accelerator
from algorithms.losses.critic import Critic, CriticLoss
from algorithms.losses.ppo import PPOLoss, build_ppo_batch
from algorithms.returns import NormalisedReturns
from algorithms.rollouts import RolloutCollector, groups_of_rank
from algorithms.sde import SDEPolicy, SDESampler
from algorithms.train_config import OptimConfig
from algorithms.trainer import Algorithm, CriticTraining, train
from cellenv.env import VirtualCellEnv
from cellenv.generator import CellFlux, GeneratorPolicy, Sampling
from cellenv.networks import UNet, UNetConfig
from cellenv.streams import rng_at
from rewards.transforms import ImageReward, WeightedSum
from tests.algorithms.config_toys import train_config
from tests.algorithms.nft_toys import DATA, ToyNet, brightness

CONFIG = UNetConfig(
    size=(3, 4, 4), condition_dim=5, width=16, multipliers=(1, 2), blocks=1, attention=(2,), dropout=0.3, predicts="x1"
)


def toy_generator(network=None, **sampling):
    """Untrained perceptron as a generator of four steps."""
    return CellFlux(network or ToyNet(), CONFIG, Sampling(**({"steps": 4} | sampling))).eval()


def tiny_unet():
    network = UNet(CONFIG)
    for i, parameter in enumerate(network.parameters()):
        nn.init.normal_(parameter, std=0.2, generator=rng_at(3, i))
    return network


def toy_sampler(generator, sde_window=(0, 2), eta=0.5):
    return SDESampler.from_generator(generator, sde_window=sde_window, eta=eta)


def toy_collector(policy, *, groups=8, group_size=8, batch_size=64, autocast=nullcontext):
    """groups: how many, or the ids of this rank's."""
    rewards = Compose(ImageReward("bright", brightness), WeightedSum({"bright": 1.0}))
    return RolloutCollector(
        env=TransformedEnv(VirtualCellEnv(DATA), rewards),
        policy=policy,
        data=DATA,
        groups=range(groups) if isinstance(groups, int) else groups,
        group_size=group_size,
        seed=5,
        batch_size=batch_size,
        device=torch.device("cpu"),
        autocast=autocast,
    )


def toy_rollout(generator, sampler, **options):
    return toy_collector(SDEPolicy(generator, sampler), **options)(0, Clock())


def mean_brightness(generator):
    """Mean reward of the solver's samples, without SDE noise, on contexts that training does not use."""
    return toy_collector(GeneratorPolicy(generator))(1000, Clock())["next", "reward"].mean().item()


def toy_ppo(theta=None, ref=None, sampler=None, *, accelerator=None, control=None, warmup_iterations=0):
    """PPO on eight groups of eight, shared among the ranks, with a critic and statistics of each compound."""
    theta = theta or toy_generator()
    ref, sampler = ref or copy.deepcopy(theta), sampler or toy_sampler(theta)
    rank, ranks = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    gather = accelerator.gather if accelerator else identity
    critic = Critic(3, 5, rng_at(1))
    returns = NormalisedReturns({}, compounds=3, memory=64, gather=gather)
    reward_fn = partial(control, reward_fn=returns) if control else returns
    optim = OptimConfig(learning_rate=3e-3, epochs=3, optimizer_steps=2, micro_batch_size=64)
    return Algorithm(
        loss=PPOLoss(theta, ref, returns=returns, clip_epsilon=0.01, kl_weight=0.01),
        collect=toy_collector(SDEPolicy(theta, sampler), groups=groups_of_rank(8, rank, ranks)),
        build_batch=partial(build_ppo_batch, sampler=sampler, critic=critic, reward_fn=reward_fn, gather=gather),
        theta=theta,
        old=theta,
        frozen=[ref],
        critic=CriticTraining(loss=CriticLoss(critic), optim=optim, warmup_iterations=warmup_iterations),
    )


def toy_train(tmp_path, build, **config):
    """(before, after, log): mean brightness around training `build(theta, ref, sampler)`, and the lines of its log."""
    theta = toy_generator()
    algorithm = build(theta, copy.deepcopy(theta), toy_sampler(theta))
    before = mean_brightness(theta)
    defaults = {"iterations": 15, "learning_rate": 1e-2, "optimizer_steps": 2, "micro_batch_size": 64}
    train(start_accelerator(threads=1), train_config(tmp_path, **(defaults | config)), algorithm)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    return before, mean_brightness(theta), lines

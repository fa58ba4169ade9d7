"""What each process of a two-process test does: a gradient, a run of DiffusionNFT and one of PPO."""

import sys
from pathlib import Path

import torch

from algorithms.launch import start_accelerator
from algorithms.trainer import train
from tests.algorithms.config_toys import train_config
from tests.algorithms.nft_toys import ToyNet, toy_gradient, toy_run
from tests.algorithms.sde_toys import toy_generator, toy_ppo


def toy_ppo_run(output_dir, accelerator):
    """Loss, critic included, after two iterations of PPO in epochs of minibatches; the critic warms up in the first."""
    theta = toy_generator(ToyNet(seed=accelerator.process_index))  # DDP sends rank 0's
    algorithm = toy_ppo(theta, toy_generator(), accelerator=accelerator, warmup_iterations=1)
    optim = {"learning_rate": 3e-3, "epochs": 2, "optimizer_steps": 2, "micro_batch_size": 64}
    train(accelerator, train_config(Path(output_dir), iterations=2, seed=5, **optim), algorithm)
    return torch.nn.ModuleDict({"ppo": algorithm.loss, "critic": algorithm.critic.loss})


def main(output_dir):
    """Every rank writes its results."""
    accelerator = start_accelerator(threads=1)
    gradient = toy_gradient(accelerator)
    loss = toy_run(output_dir, accelerator, model=ToyNet(seed=accelerator.process_index))
    ppo = toy_ppo_run(f"{output_dir}/ppo", accelerator)
    result = {"gradient": gradient, "weights": loss.state_dict(), "ppo": ppo.state_dict()}
    torch.save(result | {"ranks": accelerator.num_processes}, f"{output_dir}/rank-{accelerator.process_index}.pt")
    accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What each process of a two-process test does: a gradient, runs of DiffusionNFT and PPO, and two that are stopped."""

import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch

from algorithms.launch import start_accelerator
from algorithms.trainer import train
from tests.algorithms.config_toys import train_config
from tests.algorithms.nft_toys import ToyNet, signal_at, toy_algorithm, toy_gradient, toy_run
from tests.algorithms.sde_toys import toy_generator, toy_ppo


def toy_ppo_run(output_dir, accelerator):
    """Loss, critic included, after two iterations of PPO in epochs of minibatches; the critic warms up in the first."""
    theta = toy_generator(ToyNet(seed=accelerator.process_index))  # DDP sends rank 0's
    algorithm = toy_ppo(theta, toy_generator(), accelerator=accelerator, warmup_iterations=1)
    optim = {"learning_rate": 3e-3, "epochs": 2, "optimizer_steps": 2, "micro_batch_size": 64}
    train(accelerator, train_config(Path(output_dir), iterations=2, seed=5, **optim), algorithm)
    return torch.nn.ModuleDict({"ppo": algorithm.loss, "critic": algorithm.critic.loss})


def nan_on_one_rank(output_dir, accelerator, model=None):
    """Message of the error, on each rank, after a bad pixel in an image of rank 1."""
    algorithm = toy_algorithm(model, accelerator=accelerator)

    def collect(iteration, clock):
        td = algorithm.collect(iteration, clock)
        if accelerator.process_index == 1:
            td["action"][7, 0, 0, 0] = float("nan")
        return td

    try:
        train(accelerator, train_config(Path(output_dir), iterations=2), replace(algorithm, collect=collect))
    except FloatingPointError as error:
        return str(error)


def signal_on_one_rank(output_dir, accelerator):
    """Exit code, on each rank, of a run in which rank 1 gets a SIGTERM in iteration 2."""
    before = signal_at(signal.SIGTERM, 2 if accelerator.process_index == 1 else -1)
    try:
        toy_run(output_dir, accelerator, before=before)
    except SystemExit as stopped:
        return stopped.code


def main(output_dir):
    """Every rank writes its results."""
    accelerator = start_accelerator(threads=1)
    gradient = toy_gradient(accelerator)
    loss = toy_run(output_dir, accelerator, model=ToyNet(seed=accelerator.process_index))
    ppo = toy_ppo_run(f"{output_dir}/ppo", accelerator)
    result = {"gradient": gradient, "weights": loss.state_dict(), "ppo": ppo.state_dict()}
    result["ranks"] = accelerator.num_processes
    result["nan"] = nan_on_one_rank(f"{output_dir}/nan", accelerator)
    result["exit"] = signal_on_one_rank(f"{output_dir}/stopped", accelerator)
    result["grouped"] = torch.distributed.is_initialized()
    torch.save(result, f"{output_dir}/rank-{accelerator.process_index}.pt")
    accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])

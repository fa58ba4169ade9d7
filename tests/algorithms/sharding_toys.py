"""What each process of a test of shards does: whole recipes, an actor with a critic, and a run that meets a nan."""

import sys
from pathlib import Path
from unittest.mock import patch

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from algorithms.command_line import parse
from algorithms.launch import start_accelerator
from algorithms.recipes import nft, post_training
from algorithms.sharding import is_sharded, whole_copier
from algorithms.trainer import train
from tests.algorithms.config_toys import train_config
from tests.algorithms.ddp_toys import nan_on_one_rank
from tests.algorithms.sde_toys import tiny_unet, toy_generator, toy_ppo

USUAL = "--preset smoke --threads 1 --mixed-precision no --show-every 9 --save-every 9 --trackers"
STEPS = "--learning-rate 1e-2 --optimizer-steps 2 --micro-batch-size 3"
EVALUATION = {"rows": {row: {"n_contexts": 4} for row in ("base", "rl")}, "paired": {}, "baselines": {}, "rewards": []}


def recipe(inputs: Path, output_dir: Path, flags: str = ""):
    """`train nft` without its evaluation, from the generator and with the reward in a folder; returns the loss."""
    losses = []

    def build(components):
        algorithm = nft.build(components)
        losses.append(algorithm.loss)
        return algorithm

    where = ["--generator", str(inputs / "base"), "--output-dir", str(output_dir)]
    reward = ["--reward", f"bright={inputs / 'mine.py'}:brightness"]
    config = parse(nft.PRESETS, None, [*where, *reward, *USUAL.split(), *STEPS.split(), *flags.split()]).config
    with patch.object(post_training, "evaluate_models", return_value=EVALUATION):
        post_training.post_train(config, build)
    return losses[0]


def network(rank: int = 0):
    """Weights that only the main process has right, which sends them to the others."""
    unet = tiny_unet().eval()
    return unet if rank == 0 else unet.apply(lambda module: [p.data.zero_() for p in module.parameters(recurse=False)])


def ppo(output_dir, accelerator):
    """Actor and critic; returns a whole copy of the actor."""
    theta = toy_generator(network(accelerator.process_index))
    copy_theta = whole_copier(theta)
    algorithm = toy_ppo(theta, toy_generator(network()), accelerator=accelerator)
    optim = {"learning_rate": 3e-3, "optimizer_steps": 1, "micro_batch_size": 64}
    train(accelerator, train_config(Path(output_dir), iterations=1, seed=5, **optim), algorithm)
    return copy_theta()


def as_on_gpus(accelerator: Accelerator) -> Accelerator:
    """Accelerate leaves plain data parallelism for FSDP on GPUs alone."""
    accelerator.state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
    return accelerator


def main(folder: str) -> None:
    """The main process writes models, every process the rest."""
    accelerator, folder = as_on_gpus(start_accelerator(threads=1, may_shard=True)), Path(folder)
    loss = recipe(folder, folder / "straight")
    result = {"sharded": is_sharded(loss), "bytes": sum(p.to_local().nbytes for p in loss.parameters())}
    recipe(folder, folder / "stopped", "--iterations 1")
    recipe(folder, folder / "stopped", "--resume")
    recipe(folder, folder / "lora", "--lora-rank 2")
    actor = ppo(folder / "ppo", accelerator)
    if accelerator.is_main_process:
        actor.save_pretrained(folder / "model")
    result["nan"] = nan_on_one_rank(folder / "nan", accelerator, network())
    torch.save(result, folder / f"rank-{accelerator.process_index}.pt")
    accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What each process of a test of shards does: runs of DiffusionNFT, one of PPO, and one that meets a nan."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from algorithms.launch import start_accelerator
from algorithms.sharding import is_sharded, whole_copier
from algorithms.trainer import train
from tests.algorithms.config_toys import train_config
from tests.algorithms.ddp_toys import nan_on_one_rank
from tests.algorithms.nft_toys import toy_run
from tests.algorithms.sde_toys import tiny_unet, toy_generator, toy_ppo

ITERATIONS = 2


def network(rank: int = 0):
    """Weights that only the main process has right, which sends them to the others."""
    unet = tiny_unet().eval()
    return unet if rank == 0 else unet.apply(lambda module: [p.data.zero_() for p in module.parameters(recurse=False)])


def nft(output_dir, accelerator, **config):
    """A run on a U-Net; returns the loss."""
    model = network(accelerator.process_index)
    return toy_run(output_dir, accelerator, model=model, epochs=1, **({"iterations": ITERATIONS} | config))


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
    loss = nft(folder / "straight", accelerator)
    result = {"sharded": is_sharded(loss), "bytes": sum(p.to_local().nbytes for p in loss.parameters())}
    nft(folder / "stopped", accelerator, iterations=ITERATIONS - 1)
    nft(folder / "stopped", accelerator, resume=True)
    actor = ppo(folder / "ppo", accelerator)
    if accelerator.is_main_process:
        actor.save_pretrained(folder / "model")
    result["nan"] = nan_on_one_rank(folder / "nan", accelerator, network())
    torch.save(result, folder / f"rank-{accelerator.process_index}.pt")
    accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])

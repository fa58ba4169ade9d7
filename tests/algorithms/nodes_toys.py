"""What each process of a test does: a training on two nodes that do not share a disk, stopped and resumed."""

import os
import sys
from pathlib import Path

import torch

from algorithms.launch import start_accelerator
from tests.algorithms.nft_toys import toy_run


def main(folder: str) -> None:
    """Train straight and resumed, each node in a folder of its own; write both weights and the error without one."""
    accelerator = start_accelerator(threads=1)
    own = Path(folder) / f"node-{os.environ['GROUP_RANK']}"
    straight = toy_run(own / "straight", accelerator, iterations=4)
    toy_run(own / "stopped", accelerator, iterations=2)
    resumed = toy_run(own / "stopped", accelerator, iterations=4, resume=True)
    try:
        toy_run(own / "nothing", accelerator, resume=True)
        error = ""
    except FileNotFoundError as found:
        error = str(found)
    result = {"straight": straight.state_dict(), "resumed": resumed.state_dict(), "error": error}
    torch.save(result, Path(folder) / f"rank-{accelerator.process_index}.pt")
    accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])

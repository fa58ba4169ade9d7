"""An Accelerator that says so when it was started in a way that cannot work."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs

Precision = Literal["no", "bf16", "fp16"]


def start_accelerator(
    *,
    mixed_precision: Precision | None = None,
    trackers: Sequence[str] = (),
    output_dir: str | Path | None = None,
    threads: int | None = None,
) -> Accelerator:
    """mixed_precision None: what `accelerate launch` was told. trackers: by name, as Accelerate knows them.

    threads: of a process on a machine without a GPU; None shares the cores among the processes (`accelerate launch`
    leaves one thread to each).
    """
    cpu = not torch.accelerator.is_available()
    precision = mixed_precision or os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if cpu and precision == "fp16":
        raise ValueError("fp16 needs a GPU and this machine has none; use --mixed-precision bf16 or no")
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision=precision,
        log_with=list(trackers) or None,
        project_dir=output_dir,
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != asked:
        raise ValueError(
            f"{asked} processes were started, but each believes that there are {accelerator.num_processes} and would "
            "train alone; start with torchrun --nproc_per_node N"
        )
    if accelerator.gradient_accumulation_steps != 1:
        raise ValueError(
            f"gradient accumulation of {accelerator.gradient_accumulation_steps} came from the launcher; leave it "
            "at 1: the trainer accumulates over micro-batches by itself"
        )
    if cpu:
        torch.set_num_threads(threads or max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    return accelerator


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1

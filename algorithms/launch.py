"""An Accelerator that says so when it was started in a way that cannot work."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs

Precision = Literal["auto", "no", "bf16", "fp16"]


def start_accelerator(
    *,
    mixed_precision: Precision = "no",
    trackers: Sequence[str] = (),
    output_dir: str | Path | None = None,
    threads: int | None = None,
) -> Accelerator:
    """Of this process, on the GPU or CPU that it finds.

    mixed_precision: auto is what `accelerate launch` was told; told nothing or no, bf16 where the hardware has it.
    trackers: by name, as Accelerate knows them.
    threads: of a process on a machine without a GPU; None shares the cores among the processes (`accelerate launch`
    leaves one thread to each).
    """
    cpu = not torch.accelerator.is_available()
    precision = automatic_precision() if mixed_precision == "auto" else mixed_precision
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


def automatic_precision() -> str:
    """What `accelerate launch` was told; it says no when told nothing, and then the hardware decides."""
    told = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    return "bf16" if told == "no" and multiplies_bf16() else told


def multiplies_bf16() -> bool:
    """Whether this machine has instructions for bfloat16; where it has not, bf16 on a CPU is slower than float32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # PyTorch before 2.13 does not say
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1

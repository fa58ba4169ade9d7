"""Start Accelerate, and refuse launches that would train wrongly."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs

from algorithms.interruption import follow_launcher, has_launcher

Precision = Literal["auto", "no", "bf16", "fp16"]


def start_accelerator(
    *,
    mixed_precision: Precision = "no",
    trackers: Sequence[str] = (),
    output_dir: str | Path | None = None,
    threads: int | None = None,
    other_processes: int = 0,
) -> Accelerator:
    """Return the Accelerator of this process, on a GPU if there is one, else on the CPU.

    mixed_precision: auto is the launcher's; if that is unset, bf16 where the hardware has it.
    trackers: names, as Accelerate knows them.
    threads: CPU threads of a process on a machine without a GPU; None: `default_threads`. Runs with other numbers of
    threads round differently.
    other_processes: that this one starts beside it, which take a core each.

    Raises:
        ValueError: fp16 without a GPU; ranks that do not see each other; gradient accumulation set by the launcher.
    """
    follow_launcher()
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
    check_launch(accelerator)
    if cpu:
        torch.set_num_threads(threads or default_threads(other_processes))
    return accelerator


def check_launch(accelerator: Accelerator) -> None:
    """Raise if the launcher's processes or its gradient accumulation do not fit the trainer.

    Raises:
        ValueError: each rank believes that it is alone, or the launcher asks for gradient accumulation.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != world_size:
        raise ValueError(
            f"{world_size} processes were started, but each believes that there are {accelerator.num_processes} and "
            "would train alone; start with torchrun --nproc_per_node N"
        )
    if accelerator.gradient_accumulation_steps != 1:
        raise ValueError(
            f"gradient accumulation of {accelerator.gradient_accumulation_steps} came from the launcher; leave it "
            "at 1: the trainer accumulates over micro-batches by itself"
        )


def automatic_precision() -> str:
    """Precision set by `accelerate launch`; bf16 if that is "no", its default, and the hardware has it."""
    launcher = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    return "bf16" if launcher == "no" and has_native_bf16() else launcher


def has_native_bf16() -> bool:
    """Whether the hardware has bfloat16 instructions; without them, bf16 on a CPU is slower than float32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # absent before PyTorch 2.13
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def default_threads(other_processes: int = 0) -> int:
    """OMP_NUM_THREADS, or the cores shared among the processes of this machine, each with so many others beside it.

    Launchers set it to 1 where the user did not: from them, 1 counts as unset.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given) > (1 if has_launcher() else 0):
        return int(given)
    return max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - other_processes)


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1

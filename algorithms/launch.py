"""Start Accelerate, and refuse launches that would train wrongly."""

import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs, PartialState
from accelerate.utils import parse_flag_from_env

from algorithms.interruption import follow_launcher, has_launcher
from algorithms.sharding import sharded_layers
from algorithms.train_config import Precision

TIMEOUT = 1800.0  # seconds that a process waits for the others


def start_processes(*, timeout: float = TIMEOUT) -> PartialState:
    """Join the processes that a launcher started, if any; returns the rank and the device of this one.

    For what needs no training. The processes of a machine without a GPU share its cores.

    Raises:
        ValueError: ranks that do not see each other.
    """
    cpu = not has_accelerator()
    state = PartialState(cpu=cpu, timeout=timedelta(seconds=timeout))
    check_processes(state.num_processes)
    if cpu and state.num_processes > 1:
        share_cores()
    return state


def start_accelerator(
    *,
    mixed_precision: Precision = "no",
    trackers: Sequence[str] = (),
    output_dir: str | Path | None = None,
    threads: int | None = None,
    other_processes: int = 0,
    timeout: float = TIMEOUT,
    may_shard: bool = False,
) -> Accelerator:
    """Return the Accelerator of this process, on a GPU if there is one, else on the CPU.

    mixed_precision: auto is the launcher's; if that is unset, bf16 where the hardware has it.
    trackers: names, as Accelerate knows them.
    threads: CPU threads of a process on a machine without a GPU; None: `default_threads`. Runs with other numbers of
    threads round differently.
    other_processes: that this one starts beside it, which take a core each.
    timeout: seconds that a process waits for the others.
    may_shard: whether the command shards the weights if the launcher asks for FSDP (sharding.py).

    Raises:
        ValueError: fp16 without a GPU, or with FSDP; ranks that do not see each other; gradient accumulation set by the
            launcher; an engine that the command does not support.
    """
    follow_launcher()
    check_engine(may_shard)
    cpu = not has_accelerator()
    precision = automatic_precision() if mixed_precision == "auto" else mixed_precision
    if cpu and precision == "fp16":
        raise ValueError("fp16 needs a GPU and this machine has none; use --mixed-precision bf16 or no")
    if precision == "fp16" and sharded_layers():
        raise ValueError("fp16 is not supported with FSDP; use --mixed-precision bf16 or no")
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision=precision,
        log_with=list(trackers) or None,
        project_dir=output_dir,
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False),
            InitProcessGroupKwargs(timeout=timedelta(seconds=timeout)),
        ],
    )
    check_launch(accelerator)
    if cpu:
        share_cores(threads, other_processes)
    return accelerator


def share_cores(threads: int | None = None, other_processes: int = 0) -> None:
    """Set the CPU threads of this process; None: `default_threads`."""
    torch.set_num_threads(threads or default_threads(other_processes))


def has_accelerator() -> bool:
    """Whether there is an accelerator that computes in float64, unlike Apple's (MPS), and the launcher allows it."""
    if parse_flag_from_env("ACCELERATE_USE_CPU"):
        return False
    found = torch.accelerator.current_accelerator(check_available=True)
    return found is not None and found.type != "mps"


def check_launch(accelerator: Accelerator) -> None:
    """Raise if the launcher's processes or its gradient accumulation do not fit the trainer.

    Raises:
        ValueError: each rank believes that it is alone, or the launcher asks for gradient accumulation.
    """
    check_processes(accelerator.num_processes)
    if accelerator.gradient_accumulation_steps != 1:
        raise ValueError(
            f"gradient accumulation of {accelerator.gradient_accumulation_steps} came from the launcher; leave it "
            "at 1: the trainer accumulates over micro-batches by itself"
        )


def check_engine(may_shard: bool) -> None:
    """Raise ValueError if the launcher asks for an engine that the command does not support."""
    whole = "launch with accelerate_configs/multi_gpu.yaml or multi_node.yaml"
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true":
        raise ValueError(f"DeepSpeed is not supported: {whole}, or, for weights in shards, with fsdp2.yaml")
    if sharded_layers() and not may_shard:
        raise ValueError(f"FSDP is for post-training alone, here each process has whole weights: {whole}")


def check_processes(known: int) -> None:
    """Raise ValueError if a launcher started another number of processes than this one knows of."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if known != started:
        raise ValueError(
            f"{started} processes were started, but each believes that there are {known} and would work alone; start "
            "with torchrun --nproc_per_node N"
        )


def automatic_precision() -> str:
    """Precision set by `accelerate launch`; bf16 if that is "no", its default, and the hardware has it."""
    launcher = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    return "bf16" if launcher == "no" and has_native_bf16() else launcher


def has_native_bf16() -> bool:
    """Whether the hardware has bfloat16 instructions; without them, bf16 on a CPU is slower than float32."""
    if has_accelerator() and torch.cuda.is_available():
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

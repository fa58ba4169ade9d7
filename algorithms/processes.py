"""Work of the processes that a launcher started: loops over images that they share, results of one that all get."""

import os
import socket
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor
from tqdm import tqdm

from algorithms.presence import report

Result = TypeVar("Result")


def map_batches(function: Callable[[Tensor], Result], batches: Sequence[Tensor], what: str) -> list[Result]:
    """The results of all batches, in their order, on every process; each is computed on one.

    A batch holds the same images on any number of processes, so that figures equal those of one process bit for bit,
    on equal hardware and with as many threads.

    function: from indices of images to their numbers, on the CPU; the results travel between processes, so that images
        must not be among them. It waits for no other process. what: the text of the main process's progress bar.
    """
    report(what)
    state = PartialState()
    own = part_of(len(batches), state.process_index, state.num_processes)
    bar = tqdm([batches[i] for i in own], desc=what, unit="batch", leave=False, disable=not state.is_main_process)
    results = [function(batch) for batch in bar]
    gathered: list[Result] = gather_object(results)
    return gathered


def part_of(n: int, part: int, parts: int) -> Tensor:
    """Indices of one of so many consecutive parts of n items; the first ones have one more, if n does not divide.

    With fewer items than parts some are empty, of which the first, that of the main process, is never one.
    """
    return torch.arange(n).tensor_split(parts)[part]


def from_main(function: Callable[[], Result], what: str) -> Result:
    """What a function returns on the main process, on all of them, as if each had the main one's disk.

    Raises:
        Exception: what the function raises on the main process, on all of them. What is missing for several nodes says
            that they need a folder in common.
    """
    report(what)
    found: list[Result | Exception | None] = [None]
    if PartialState().is_main_process:
        try:
            found = [function()]
        except FileNotFoundError as error:
            where = (
                f" (process 0 looked on {socket.gethostname()}, and need not be on the same node at every start: "
                "several nodes need a folder that all of them share)"
            )
            found = [FileNotFoundError(f"{error}{where if on_several_nodes() else ''}")]
        except Exception as error:  # that the others would wait for
            found = [error]
    (result,) = broadcast_object_list(found)
    if isinstance(result, Exception):
        raise result
    return result


def run_and_leave(command: Callable[[], object]) -> None:
    """Run what a process does, and leave the group of processes, also if a signal stopped it.

    It leaves when nothing of a training is left: a DistributedDataParallel that outlives the group waits for gloo's
    threads while it holds the interpreter's lock, for which one of them may be waiting.

    Raises:
        SystemExit: as the command did.
    """
    code: str | int | None = None
    try:
        command()
    except SystemExit as stopped:
        code = stopped.code  # without the traceback, and the frames that it holds
    PartialState().destroy_process_group()
    if code is not None:
        raise SystemExit(code)


def on_several_nodes() -> bool:
    """Whether there are more processes than the launcher started on this machine."""
    processes = PartialState().num_processes
    return int(os.environ.get("LOCAL_WORLD_SIZE", processes)) < processes

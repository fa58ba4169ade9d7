"""Who keeps the other processes waiting: each says what it does, and a timeout names the process that did not come.

The words travel through the launcher's store, which also answers when a collective does not.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerate import PartialState
from torch.distributed import DistError
from torch.distributed.distributed_c10d import _get_default_store

GRACE = 2.0  # seconds in which processes that waited for the same one time out


def report(what: str) -> None:
    """Say what this process starts to do now, if there are others; waits for none."""
    if PartialState().num_processes > 1:
        _say("doing", {"what": what, "since": time.time()})


@contextmanager
def named_timeouts() -> Iterator[None]:
    """Turn the error of a collective that timed out into one that names the process that did not take part.

    Raises:
        TimeoutError: a collective timed out.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_timeout(error):
            raise
        raise TimeoutError(_blame()) from error


def _is_timeout(error: RuntimeError) -> bool:
    gloo = "Timed out waiting" in str(error)
    return gloo or (isinstance(error, DistError) and "timeout" in str(error).lower())


def _blame() -> str:
    """Which processes have not timed out themselves, what each does, and what to do."""
    state = PartialState()
    _say("waited", True)
    time.sleep(GRACE)
    missing = [rank for rank in range(state.num_processes) if not _heard("waited", rank)]
    own = _doing(state.process_index)
    others = "; ".join(f"process {rank} {_doing(rank)}" for rank in missing)
    return (
        f"process {state.process_index} {own} waited in vain for {others or 'the others'}: it hangs, or needs longer "
        "than --distributed.timeout. All processes stop; --resume continues a training from its last checkpoint"
    )


def _doing(rank: int) -> str:
    """What a process has said last, in brackets."""
    if not (said := _heard("doing", rank)):
        return "(which has said nothing)"
    return f"({said['what']}, for {time.time() - said['since']:.0f} s)"


def _say(key: str, value: Any) -> None:
    _get_default_store().set(f"{key}/{PartialState().process_index}", json.dumps(value))


def _heard(key: str, rank: int) -> Any:
    """What a process has said under a key; None if nothing."""
    store, name = _get_default_store(), f"{key}/{rank}"
    return json.loads(store.get(name)) if store.check([name]) else None

"""SIGTERM and Ctrl-C: noted where work is finished first, and passed on to workers that outlive their launcher."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)
PATIENCE = 5.0  # seconds within which a signal that comes again is the launcher's copy and not the user's second
LAUNCHERS = ("ACCELERATE_DYNAMO_BACKEND", "TORCHELASTIC_RUN_ID")  # variables of accelerate launch and torchrun


class StopRequest:
    """Inside the context, SIGTERM and SIGINT are noted in `number`, 0 before, and interrupt nothing.

    One that comes again after five seconds ends the process at once. What was noted and not acted on, by an exception,
    is raised again at the end of the context. Only the main thread can note signals.
    """

    def __init__(self) -> None:
        self.number = 0
        self._time = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.number and kind is None:
            signal.raise_signal(self.number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.number:
            self.number, self._time = number, time.monotonic()
        elif time.monotonic() > self._time + PATIENCE:
            os._exit(exit_code(number))


def exit_code(number: int) -> int:
    """Exit code of a process that a signal ended, as shells report it: 143 for SIGTERM, 130 for SIGINT."""
    return 128 + number


@contextmanager
def plain_interrupts() -> Iterator[None]:
    """Ctrl-C ends the process without a traceback, as SIGTERM does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def has_launcher() -> bool:
    """Whether `accelerate launch` or torchrun started this process."""
    return any(name in os.environ for name in LAUNCHERS)


@cache
def follow_launcher() -> None:
    """From now on, if a launcher started this process and ends, this process gets a SIGTERM within a second.

    `accelerate launch` passes no signal on to the one process that it starts; no launcher can, if it is killed.
    """
    if not has_launcher():
        return
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()

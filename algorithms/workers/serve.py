"""What runs in the process of a worker: it answers the trainer, and ends with it, however the trainer ends."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

from algorithms.workers.remote import WorkerSteps
from algorithms.workers.scorer import Steps


def serve(connection: Connection, build: Callable[[], Steps]) -> None:
    """Answer calls of (method of WorkerSteps, arguments) by (result, None) or (None, traceback), until the other end
    is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to a whole group of processes: the trainer answers them
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    steps: WorkerSteps | None = None
    while True:
        try:
            method, args = connection.recv()
        except EOFError:
            return
        try:
            steps = steps or WorkerSteps(build)
            answer = getattr(steps, method)(*args)
        except Exception:
            connection.send((None, traceback.format_exc()))
        else:
            connection.send((answer, None))


def end_with_parent() -> None:
    """Wait for the end of the trainer, which may be sudden, and end this process, whatever it does."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

"""The channel to a worker in a process of this machine."""

import multiprocessing
import threading
import weakref
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

from accelerate.utils import patch_environment

from algorithms.workers.remote import StepError, WorkerDied, WorkerTimeout
from algorithms.workers.scorer import Steps
from algorithms.workers.serve import serve

ONE_THREAD = {f"{library}_num_threads": 1 for library in ("omp", "mkl", "openblas", "numba")}
environment_lock = threading.Lock()


class ProcessChannel:
    """The channel to a new process, which builds its steps while the trainer goes on.

    Args:
        build: makes the steps in the process; pickled by name.
    """

    def __init__(self, build: Callable[[], Steps]):
        context = multiprocessing.get_context("spawn")
        self.connection, other_end = context.Pipe()
        self.process = context.Process(target=serve, args=(other_end, build), name="reward worker", daemon=True)
        with environment_lock, patch_environment(**ONE_THREAD):
            self.process.start()
        other_end.close()
        self.end = weakref.finalize(self, end, self.process)  # at the latest when this process exits

    def call(self, method: str, *args: Any, timeout: float) -> Any:
        """See `Channel`."""
        try:
            self._send((method, args), timeout)
            if not self.connection.poll(timeout):
                raise WorkerTimeout(f"no answer after {timeout:g} s")
            answer, error = self.connection.recv()
        except (EOFError, OSError) as lost:
            self.close()
            raise WorkerDied(f"the process ended with exit code {self.process.exitcode}") from lost
        if error is not None:
            raise StepError(error)
        return answer

    def _send(self, message: Any, timeout: float) -> None:
        """Send, and kill the worker at the timeout: one that does not read a full pipe would be waited for for ever."""
        killed = threading.Event()

        def kill() -> None:
            killed.set()
            self.process.kill()

        timer = threading.Timer(timeout, kill)
        timer.start()
        try:
            self.connection.send(message)
        except OSError as error:
            if killed.is_set():
                raise WorkerTimeout(f"took no batch in {timeout:g} s") from error
            raise
        finally:
            timer.cancel()

    def close(self) -> None:
        """See `Channel`."""
        self.end()


def end(process: BaseProcess) -> None:
    """Kill a process and wait for its end."""
    process.kill()
    process.join()

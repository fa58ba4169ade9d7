"""When a run saves: every so many steps, after so many minutes, at its end, and before a signal ends it."""

import logging
import signal
import time
from typing import Self

import torch

from algorithms.interruption import StopRequest, exit_code
from algorithms.logs import finish_trackers
from algorithms.training_state import TrainingState

logger = logging.getLogger(__name__)


class Autosave(StopRequest):
    """Inside the context, a call after each step saves what is due, and ends the process if SIGTERM or SIGINT came.

    All ranks do so after the same step. every: steps; minutes: since the last checkpoint. A disk that has no room for
    the checkpoints is refused at the beginning.
    """

    def __init__(self, state: TrainingState, *, every: int, minutes: float):
        super().__init__()
        self.state, self.every, self.minutes = state, every, minutes
        self._saved = time.monotonic()

    def __enter__(self) -> Self:
        self.state.check_space()
        return super().__enter__()

    def __call__(self, done: int) -> None:
        """After `done` steps.

        Raises:
            SystemExit: a signal came; a checkpoint is written.
        """
        late = time.monotonic() > self._saved + 60 * self.minutes
        number, late = self._agreed(self.number, late)
        if late or number or done % self.every == 0 or done == self.state.steps:
            self.state.save(done)
            self._saved = time.monotonic()
        if number:
            accelerator = self.state.accelerator
            if accelerator.is_main_process:
                logger.warning(
                    "%s: stopped after %d of %d, with a checkpoint in %s; --resume goes on",
                    signal.Signals(number).name,
                    done,
                    self.state.steps,
                    self.state.output_dir,
                )
            finish_trackers(accelerator)
            raise SystemExit(exit_code(number))

    def _agreed(self, number: int, late: bool) -> tuple[int, bool]:
        """The largest values on any rank."""
        accelerator = self.state.accelerator
        if accelerator.num_processes > 1:
            own = torch.tensor([[number, late]], device=accelerator.device)
            number, late = accelerator.gather(own).amax(0).tolist()
        return number, bool(late)

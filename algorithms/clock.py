"""Wall-clock timer per phase."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


class Clock:
    """Accumulates seconds per phase: `with clock("train"): ...`; time outside any phase is `other`.

    device: if not a CPU, it is synchronised at every reading, so that its work counts in the phase that launched it.
    started: called with the name of every phase that begins.
    """

    def __init__(self, device: torch.device | str = "cpu", started: Callable[[str], object] = lambda phase: None):
        self.device, self.started = torch.device(device), started
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.start = self._now()

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        self.started(phase)
        start = self._now()
        try:
            yield
        finally:
            self.seconds[phase] += self._now() - start

    def lap(self) -> dict[str, float]:
        """Seconds per phase, `other` and `total` since the previous lap; the next lap starts now."""
        now = self._now()
        total = now - self.start
        phases = dict(self.seconds)
        self.start = now
        self.seconds.clear()
        return phases | {"other": total - sum(phases.values()), "total": total}

    def _now(self) -> float:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return time.perf_counter()

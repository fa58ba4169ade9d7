"""Where the time goes."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Clock:
    """Seconds by name: `with clock("train"): ...`; what no name covers is `other`.

    device: an accelerator is waited for at every reading, so that its work is counted where it was asked for.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.start = self._now()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = self._now()
        try:
            yield
        finally:
            self.seconds[name] += self._now() - start

    def lap(self) -> dict[str, float]:
        """Seconds by name, with `other` and `total`, since the lap before; no moment is lost between two laps."""
        now = self._now()
        total, named = now - self.start, dict(self.seconds)
        self.start = now
        self.seconds.clear()
        return named | {"other": total - sum(named.values()), "total": total}

    def _now(self) -> float:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return time.perf_counter()

"""Where the time goes."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Clock:
    """Seconds by name: `with clock("train"): ...`; what no name covers is `other`.

    wait: called before every reading, so that work on an accelerator is counted where it was asked for.
    """

    def __init__(self, wait: Callable[[], None] = lambda: None):
        self.wait = wait
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
        self.wait()
        return time.perf_counter()

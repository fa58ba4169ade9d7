"""A process that hangs stops the others within the timeout, and is named."""

import re
import time

import pytest

from algorithms.presence import named_timeouts
from tests.algorithms.torchrun import torchrun


@pytest.mark.slow
def test_a_process_that_hangs_is_named_with_what_it_does(tmp_path):
    start = time.monotonic()
    done = torchrun(2, "tests.algorithms.presence_toys", tmp_path, tmp_path / "run")
    assert done.returncode != 0 and time.monotonic() - start < 300  # and not the 600 s that it hangs
    (message,) = re.findall(r"TimeoutError: (.*)", done.stderr)
    assert re.match(
        r"process 0 \(.* of iteration 1, for \d+ s\) waited in vain for process 1 \(rewards of iteration 1, for \d+ s\)"
        ": it hangs, or needs longer than --distributed.timeout",
        message,
    )


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="timed out in my own code"), named_timeouts():
        raise RuntimeError("timed out in my own code")

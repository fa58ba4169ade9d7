"""What each process of a test does: a training in which the second one hangs."""

import sys
import time

from algorithms.launch import start_accelerator
from algorithms.presence import named_timeouts
from tests.algorithms import nft_toys

HANGS_AT = 1  # iteration


def main(folder: str) -> None:
    """Train, as a command does; the rewards of process 1 do not end."""
    accelerator = start_accelerator(threads=1, timeout=3)
    brightness, calls = nft_toys.brightness, []

    def hanging(images):
        calls.append(images)
        if accelerator.process_index == 1 and len(calls) == HANGS_AT + 1:
            time.sleep(600)
        return brightness(images)

    nft_toys.brightness = hanging
    with named_timeouts():
        nft_toys.toy_run(folder, accelerator)


if __name__ == "__main__":
    main(*sys.argv[1:])

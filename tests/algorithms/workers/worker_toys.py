"""Reward steps that work, fail, hang or end their process, on toy batches."""

import os
import signal
import time
from functools import partial

import torch
from tensordict import TensorDict

IMAGES = torch.linspace(-1, 1, 6).reshape(6, 1, 1, 1)


def batch(start=0, n=6):
    """Images of one pixel, whose brightness is their reward."""
    return TensorDict({"action": IMAGES[:n] + start, "sample": start + torch.arange(n), "unused": torch.zeros(n)}, [n])


def bright(images):
    return images.flatten(1).mean(1)


def fail(images):
    raise ZeroDivisionError("of the toy")


def hang(images):
    time.sleep(600)


def end_once(file, images):
    """End the process at the first call that finds no file, by a signal as the kernel does when memory is short."""
    if not file.exists():
        file.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return bright(images)


def end_always(images):
    os._exit(7)


def process(images):
    """The process that computes this, and its threads."""
    return torch.tensor([os.getpid(), torch.get_num_threads(), int(os.environ["OMP_NUM_THREADS"])] * 2)


class ToySteps:
    """Steps by name, each a function of images; `reward` is the sum of those that were taken."""

    def __init__(self, functions):
        self.functions = functions

    @property
    def names(self):
        return tuple(self.functions)

    def begin(self, td):
        self.td, self.scores = td, {}

    def run(self, name):
        self.scores[name] = self.functions[name](self.td["action"]).double()[:, None]

    def skip(self, name):
        self.scores[name] = torch.full((len(self.td), 1), torch.nan, dtype=torch.float64)

    def finish(self):
        return TensorDict({"rewards": self.scores, "reward": sum(self.scores.values())}, self.td.batch_size)


def toy_steps(**functions):
    """What a worker calls to build its steps; pickled by name."""
    return partial(ToySteps, functions)

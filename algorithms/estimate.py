"""Estimate the cost of a command, network function evaluations, time and memory, from a measured part of its work."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from cellenv.generator import CellFlux

if TYPE_CHECKING:
    from algorithms.evaluation.best_of_n import BestOfNConfig
    from algorithms.evaluation.evaluate import EvaluateConfig
    from algorithms.memory import TrainingMemory


class Estimate(NamedTuple):
    """Cost of a whole command on this machine."""

    nfe: int  # images evaluated by the generator's network; a backward pass counts as two
    seconds: float
    memory: int  # peak of a process in bytes; GPU memory if there is a GPU
    training: TrainingMemory | None = None  # by what takes it, of post-training

    def __str__(self) -> str:
        minutes, seconds = divmod(round(self.seconds), 60)
        return (
            f"network function evaluations  {self.nfe:,}\n"
            f"time                          {minutes} min {seconds} s\n"
            f"memory                        {self.memory / 2**30:.1f} GiB a process"
        ) + (f"\n\n{self.training}" if self.training else "")


def seconds_of(work: Callable[[], object]) -> float:
    """Wall-clock seconds of a call, after a first call that compiles and fills caches."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_memory() -> int:
    """Peak memory of this process so far in bytes; GPU memory if there is a GPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def estimate_sampling(generators: Sequence[CellFlux], images: int, batch_size: int) -> Estimate:
    """Estimate sampling this number of images with each generator from one batch."""
    nfe, seconds = 0, 0.0
    for generator in generators:
        nfe += images * generator.sampling.nfe
        seconds += sampling_seconds(generator, min(batch_size, images)) * images
    return Estimate(nfe=nfe, seconds=seconds, memory=peak_memory())


def sampling_seconds(generator: CellFlux, batch_size: int) -> float:
    """Seconds for each image of a batch, on a GPU if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator.to(device)
    x0 = torch.zeros(batch_size, *generator.config.size, device=device)
    condition = torch.zeros(batch_size, generator.config.condition_dim, device=device)
    seed = torch.arange(batch_size, device=device)
    return seconds_of(lambda: sample(generator, x0, condition, seed)) / batch_size


def sample(generator: CellFlux, x0: torch.Tensor, condition: torch.Tensor, seed: torch.Tensor) -> torch.Tensor:
    """Sampled images on the CPU; copying them waits for the GPU."""
    return generator.sample(x0, condition, seed)[0].cpu()


def estimate_evaluation(
    config: EvaluateConfig | BestOfNConfig, generators: Sequence[CellFlux], images: int
) -> Estimate:
    """Estimate an evaluation: sampling this number of images with each generator; measuring them, and as many real."""
    from algorithms.build import build_cells, build_judge, build_rewards
    from algorithms.evaluation.evaluator import build_evaluator
    from algorithms.evaluation.measurement import measure_images

    sampling = estimate_sampling(generators, images, config.batch_size)
    data = build_cells(config.data, "test", unseen=config.unseen)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    evaluator = build_evaluator(
        data, build_rewards(config.reward, device, data), judge=build_judge(config.eval, data), device=device
    )
    rows = data.treated[: config.batch_size]
    contexts = data.contexts(rows, torch.Generator().manual_seed(0))
    real = data.images(rows)
    measuring = seconds_of(lambda: measure_images(real, contexts, evaluator)) / len(rows)
    seconds = sampling.seconds + measuring * images * (len(generators) + 1)
    return Estimate(nfe=sampling.nfe, seconds=seconds, memory=peak_memory())

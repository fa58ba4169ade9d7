"""Train for an hour, and see whether memory and open files stay as they are.

    python -m examples.studies.soak --output-dir runs/soak

Runs post-training with a reward worker in processes of its own, and stops it by SIGTERM when the time is over. It
counts the resident memory and the open files of all of them. The slope of the memory after the warm-up, by least
squares, is what leaks. Writes soak.csv, a line for each sample, and soak.png; the run is in OUTPUT_DIR/run.
"""

from dataclasses import dataclass
from pathlib import Path

from examples.studies.command_line import parse_script


@dataclass(frozen=True, kw_only=True)
class SoakConfig:
    output_dir: Path = Path("runs/soak")
    minutes: float = 60.0
    warm_up: float = 10.0  # minutes that the slope leaves out
    interval: float = 5.0  # seconds between samples

    def __post_init__(self) -> None:
        if not 0 <= self.warm_up < self.minutes:
            raise ValueError(f"warm_up must be below minutes, got {self.warm_up} and {self.minutes}")


PRESETS = {
    "default": SoakConfig(),
    "smoke": SoakConfig(output_dir=Path("runs/soak-smoke"), minutes=1.0, warm_up=0.5, interval=1.0),
}

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

# ruff: noqa: E402
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import psutil
from matplotlib.figure import Figure

from algorithms.evaluation.charts import encode_png
from algorithms.files import write_whole
from algorithms.logs import read_log
from examples.studies.results import write_csv

RECIPE = "train", "nft"
WORDS = "--preset smoke --iterations 1000000 --save-every 20 --show-every 20 --threads 1 --reward.workers 1".split()
TERMINATED = 128 + signal.SIGTERM  # exit code of a training that was told to stop


class Sample(NamedTuple):
    """What the processes of a run hold at a moment."""

    minutes: float  # since the start
    processes: int
    memory: float  # MB, resident, of all together
    files: int  # open


def count(run: psutil.Process, minutes: float) -> Sample:
    """What a process and all that it started hold now."""
    memory, files = [], []
    for process in [run, *run.children(recursive=True)]:
        try:
            memory.append(process.memory_info().rss / 1e6)
            files.append(process.num_fds())
        except psutil.NoSuchProcess:  # ended since
            continue
    return Sample(minutes, len(files), sum(memory), sum(files))


def watch(start: Callable[[], subprocess.Popen[bytes]], minutes: float, interval: float) -> list[Sample]:
    """Samples of a run every `interval` seconds, until it is terminated after so many minutes.

    Raises:
        RuntimeError: it ended before, or in another way.
    """
    samples: list[Sample] = []
    with start() as child:
        try:
            run, began = psutil.Process(child.pid), time.monotonic()
            while child.poll() is None and (since := (time.monotonic() - began) / 60) < minutes:
                samples.append(count(run, since))
                time.sleep(interval)
            child.terminate()
            code = child.wait()
        finally:
            child.kill()
    if code != TERMINATED:
        raise RuntimeError(f"the run ended with exit code {code} after {samples[-1].minutes:.1f} minutes")
    return samples


def growth(samples: Sequence[Sample]) -> float:
    """Slope of the memory over time, MB an hour, by least squares."""
    hours = np.array([sample.minutes for sample in samples]) / 60
    slope, _ = np.polyfit(hours, [sample.memory for sample in samples], 1)
    return float(slope)


def plot(samples: Sequence[Sample], warm_up: float) -> bytes:
    """PNG of memory and open files over time."""
    figure = Figure(figsize=(8.8, 2.8), dpi=110, layout="constrained")
    axes = figure.subplots(1, 2)
    minutes = [sample.minutes for sample in samples]
    for plot, name, title in zip(axes, ("memory", "files"), ("resident memory, MB", "open files"), strict=True):
        plot.plot(minutes, [getattr(sample, name) for sample in samples], color="#3d5a9e")
        plot.axvline(warm_up, color="#999999", linewidth=1, linestyle=":")
        plot.set(title=title, xlabel="minutes", ylim=(0, None))
    return encode_png(figure, axes)


def main(config: SoakConfig) -> None:
    run = config.output_dir / "run"
    shutil.rmtree(run, ignore_errors=True)
    config.output_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "algorithms.cli", *RECIPE, *WORDS, "--output-dir", str(run)]
    with (config.output_dir / "run.log").open("wb") as log:
        samples = watch(lambda: subprocess.Popen(command, stdout=log, stderr=log), config.minutes, config.interval)
    warm = [sample for sample in samples if sample.minutes >= config.warm_up]
    write_csv(config.output_dir / "soak.csv", [sample._asdict() for sample in samples])
    write_whole(config.output_dir / "soak.png", plot(samples, config.warm_up))
    iterations = len(read_log(run / "log.jsonl"))
    files, memory = ([getattr(sample, name) for sample in warm] for name in ("files", "memory"))
    print(f"{iterations} iterations in {config.minutes:g} minutes, {len(warm)} samples after {config.warm_up:g}")
    print(f"memory {min(memory):.0f} to {max(memory):.0f} MB, growing by {growth(warm):.1f} MB an hour")
    print(f"open files {min(files)} to {max(files)}, of {warm[-1].processes} processes")


if __name__ == "__main__":
    main(CONFIG)

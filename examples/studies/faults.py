"""Do a run what clusters do, and count how often it ends as if nothing had happened.

    python -m examples.studies.faults --output-dir runs/faults

Of each job (post-training without its evaluation, base, a baseline) one small run is left alone. Others are killed or
terminated at random moments, or their files may not grow beyond a random size, as on a full disk; each is then started
again with --resume (without, where it had no checkpoint yet). A run survives if its model equals the first one's in
every byte. A damaged checkpoint, bits flipped, cut or zeroed, survives if the one before it is read in its place.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from examples.studies.command_line import parse_script


@dataclass(frozen=True, kw_only=True)
class FaultsConfig:
    output_dir: Path = Path("runs/faults")
    jobs: tuple[str, ...] = ("nft", "base", "baseline")
    kills: int = 10  # of each job, by SIGKILL
    terminations: int = 4  # of each job, by SIGTERM
    full_disks: int = 2  # of each job
    damages: int = 70  # of each job, of its newest checkpoint
    seed: int = 0


DEFAULT = FaultsConfig()
SMOKE = replace(DEFAULT, output_dir=Path("runs/faults-smoke"), kills=1, terminations=1, full_disks=1, damages=3)
PRESETS = {"default": DEFAULT, "smoke": SMOKE}

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

# ruff: noqa: E402
import logging
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from types import ModuleType
from typing import Any

import torch
from tqdm import tqdm

from algorithms import checkpoint
from algorithms.command_line import parse
from algorithms.files import write_whole
from algorithms.interruption import plain_interrupts
from algorithms.launch import start_accelerator
from algorithms.recipes import base, nft
from algorithms.recipes.base_training import train_base
from algorithms.recipes.post_training import build_components
from algorithms.run_folder import run_folder
from algorithms.trainer import train
from cellenv.weights_io import file_digest
from examples.baselines import train as baselines

STEPS = 6
COMMON = ["--preset", "smoke", "--save-every", "2", "--threads", "1", "--mixed-precision", "no"]
NFT = f"--iterations {STEPS} --groups 2 --group-size 2 --show-every 9".split()
SERVER = get_context("forkserver")  # imports once; every run is a fresh process
SERVER.set_forkserver_preload(["algorithms.recipes.post_training", "examples.baselines.train"])


def post_train(config: nft.NFTConfig) -> None:
    """Train the generator and save it, without the evaluation, which changes no weights."""
    accelerator = start_accelerator(threads=config.threads)
    components = build_components(config, accelerator)
    with run_folder(config.output_dir, resume=config.resume):
        ema = train(accelerator, config, nft.build(components), settings={"seed": str(config.seed)})
        with ema.swapped(components.theta):
            components.theta.save_pretrained(config.output_dir / "model")


@dataclass(frozen=True)
class Job:
    """A training, and the folder of the model that it ends with."""

    name: str
    module: ModuleType
    main: Callable[[Any], None]
    words: Sequence[str]
    model: str


JOBS = (
    Job("nft", nft, post_train, [*COMMON, *NFT], "model"),
    Job("base", base, train_base, [*COMMON, "--steps", str(STEPS), "--draw-every", "6"], f"generator-{STEPS:06d}"),
    Job("baseline", baselines, baselines.main, [*COMMON, "--model", "phendiff", "--steps", str(STEPS)], "model"),
)


def work(name: str, words: Sequence[str], log: Path, most_bytes: int | None) -> None:
    """Do the job in this process; most_bytes: no file may become larger."""
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if most_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
    job = next(job for job in JOBS if job.name == name)
    with plain_interrupts():
        job.main(parse(job.module.PRESETS, None, words).config)


class Trial:
    """One run of a job in a folder of its own."""

    def __init__(self, job: Job, folder: Path):
        self.job, self.folder, self.log = job, folder, folder.with_suffix(".log")
        shutil.rmtree(folder, ignore_errors=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)

    def start(self, *, most_bytes: int | None = None) -> Any:
        """Start it, or go on with it; returns the process."""
        has_begun = bool(checkpoint.list_checkpoints(self.folder / "checkpoints"))
        words = [*self.job.words, "--output-dir", str(self.folder), *(["--resume"] if has_begun else [])]
        process = SERVER.Process(target=work, args=(self.job.name, words, self.log, most_bytes))
        process.start()
        return process

    def finish(self) -> str:
        """Start it, wait until it ends; returns the digest of its model, or what went wrong."""
        process = self.start()
        process.join()
        file = self.folder / self.job.model / "model.safetensors"
        return file_digest(file) if process.exitcode == 0 else f"exit code {process.exitcode}, see {self.log}"


def hit_by(number: signal.Signals) -> Callable[[Trial, float, random.Random], str]:
    """A fault: the signal comes at a random moment of a run that takes so many seconds."""

    def fault(trial: Trial, seconds: float, rng: random.Random) -> str:
        process = trial.start()
        process.join(timeout=rng.uniform(0, seconds))
        while process.exitcode is not None:  # over before the signal: from the start, with another moment
            shutil.rmtree(trial.folder)
            process = trial.start()
            process.join(timeout=rng.uniform(0, seconds))
        os.kill(process.pid, number)
        process.join()
        return f"exit code {process.exitcode}, {len(list(trial.folder.rglob('*.pt')))} checkpoints"

    return fault


def full_disk(trial: Trial, seconds: float, rng: random.Random) -> str:
    """A fault: no file may grow beyond a random part of what a checkpoint takes."""
    largest = max(path.stat().st_size for path in trial.folder.with_name("undisturbed").rglob("*.pt"))
    process = trial.start(most_bytes=rng.randrange(largest))
    process.join()
    return f"exit code {process.exitcode}"


def damage(content: bytes, rng: random.Random) -> bytes:
    """The bytes with one bit flipped, the end cut off, or a block of zeros."""
    at = rng.randrange(len(content))
    flipped = bytes([content[at] ^ (1 << rng.randrange(8))])
    return rng.choice(
        [
            content[:at] + flipped + content[at + 1 :],
            content[:at],
            content[:at] + bytes(min(512, len(content) - at)) + content[at + 512 :],
        ]
    )


def survived_damages(run: Path, times: int, rng: random.Random) -> int:
    """How often a run reads a usable state after damage to its newest checkpoint, which is put back."""
    newest = checkpoint.list_checkpoints(run / "checkpoints")[-1]
    content, survived = newest.read_bytes(), 0
    files = [path for folder in checkpoint.FOLDERS for path in checkpoint.list_checkpoints(run / folder)]
    intact = {state["iteration"]: state for state in map(checkpoint.load, files)}
    for _ in range(times):
        newest.write_bytes(damage(content, rng))
        state = checkpoint.load_to_continue(run, STEPS, 0.0)
        survived += same(state["parts"], intact[state["iteration"]]["parts"])
    newest.write_bytes(content)
    return survived


def same(a: Any, b: Any) -> bool:
    """Whether two nested states are equal, bit for bit."""
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def main(config: FaultsConfig) -> None:
    logging.getLogger("algorithms.checkpoint").setLevel(logging.ERROR)
    faults = {
        "killed (SIGKILL)": (hit_by(signal.SIGKILL), config.kills),
        "terminated (SIGTERM)": (hit_by(signal.SIGTERM), config.terminations),
        "disk full": (full_disk, config.full_disks),
    }
    first = SERVER.Process(target=int)  # starts the server, so that no run is timed with it
    first.start()
    first.join()
    lines = ["| job | fault | times | survived |", "|---|---|---|---|"]
    for job in [job for job in JOBS if job.name in config.jobs]:
        folder, rng = config.output_dir / job.name, random.Random(config.seed)
        start = time.perf_counter()
        undisturbed = Trial(job, folder / "undisturbed").finish()
        seconds = time.perf_counter() - start
        for name, (fault, times) in faults.items():
            survived = 0
            for i in tqdm(range(times), desc=f"{job.name}, {name}, {seconds:.0f} s", file=sys.stderr):
                trial = Trial(job, folder / f"{name.split()[0]}-{i}")
                what = fault(trial, seconds, rng)
                outcome = trial.finish()
                survived += outcome == undisturbed
                tqdm.write(f"{trial.folder}: {what}; then {outcome[:60]}", file=sys.stderr)
            lines.append(f"| {job.name} | {name} | {times} | {survived} |")
        damaged = survived_damages(folder / "undisturbed", config.damages, rng)
        lines.append(f"| {job.name} | newest checkpoint damaged | {config.damages} | {damaged} |")
        write_whole(config.output_dir / "table.md", "\n".join([*lines, ""]).encode())
    print("\n".join(lines))


if __name__ == "__main__":
    main(CONFIG)

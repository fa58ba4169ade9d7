"""Do a run what clusters do, and count how often it ends as if nothing had happened.

    python -m examples.studies.faults --output-dir runs/faults

Of each job (post-training without its evaluation, base, a baseline) one small run is left alone. Others are killed or
terminated at random moments, one in each of equal parts of a run's processor time, or their files may not grow beyond a
random size, as on a full disk; each is then started again with --resume (without, where it had no checkpoint yet). A
run survives if its model equals the first one's in every byte. A damaged checkpoint, bits flipped, cut or zeroed,
survives if the one before it is read in its place. Of two processes, one is killed at a random moment: the other must
stop, and both survive as above. A reward worker is killed: the run must go on by itself.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from examples.studies.command_line import parse_script


@dataclass(frozen=True, kw_only=True)
class FaultsConfig:
    output_dir: Path = Path("runs/faults")
    jobs: tuple[str, ...] = ("nft", "base", "baseline", "nft-processes", "nft-workers")
    kills: int = 10  # of each job, by SIGKILL
    terminations: int = 4  # of each job of one process, by SIGTERM
    full_disks: int = 2  # of each job of one process
    damages: int = 70  # of each job of one process, of its newest checkpoint
    seed: int = 0


DEFAULT = FaultsConfig()
SMOKE = replace(DEFAULT, output_dir=Path("runs/faults-smoke"), kills=1, terminations=1, full_disks=1, damages=3)
PRESETS = {"default": DEFAULT, "smoke": SMOKE}

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

# ruff: noqa: E402
import logging
import math
import os
import random
import resource
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from types import ModuleType
from typing import Any

import psutil
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
from examples.studies.damaged_checkpoints import survived_damages

STEPS = 6
COMMON = ["--preset", "smoke", "--save-every", "2", "--threads", "1", "--mixed-precision", "no"]
NFT = f"--iterations {STEPS} --groups 2 --group-size 2 --show-every 9".split()
PATIENCE = 120.0  # seconds in which a process must end after another one was killed; a busy machine takes some
HUNG = "hung"
SERVER = get_context("forkserver")  # imports once; every run is a fresh process
SERVER.set_forkserver_preload(["algorithms.recipes.post_training", "examples.baselines.train"])


def post_train(config: nft.NFTConfig) -> None:
    """Train the generator and save it, without the evaluation, which changes no weights."""
    accelerator = start_accelerator(threads=config.threads)
    components = build_components(config, accelerator)
    with run_folder(config.output_dir, resume=config.resume), components.scorer:
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
    processes: int = 1
    workers: bool = False  # that compute its rewards, and are killed


JOBS = (
    Job("nft", nft, post_train, [*COMMON, *NFT], "model"),
    Job("base", base, train_base, [*COMMON, "--steps", str(STEPS), "--draw-every", "6"], f"generator-{STEPS:06d}"),
    Job("baseline", baselines, baselines.main, [*COMMON, "--model", "impa", "--steps", str(STEPS)], "model"),
    Job("nft-processes", nft, post_train, [*COMMON, *NFT], "model", processes=2),
    Job("nft-workers", nft, post_train, [*COMMON, *NFT, "--reward.workers", "1"], "model", workers=True),
)


def work(name: str, words: Sequence[str], log: Path, most_bytes: int | None, environment: Mapping[str, str]) -> None:
    """Do the job in this process; most_bytes: no file may become larger. environment: of one of several processes."""
    os.environ.update(environment)
    with log.open("a", encoding="utf-8") as file:
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

    def start(self, *, most_bytes: int | None = None) -> list[Any]:
        """Start it, or go on with it; returns its processes."""
        has_begun = bool(checkpoint.list_checkpoints(self.folder / "checkpoints"))
        words = [*self.job.words, "--output-dir", str(self.folder), *(["--resume"] if has_begun else [])]
        environments = ranks(self.job.processes) if self.job.processes > 1 else [{}]
        given = [(self.job.name, words, self.log, most_bytes, environment) for environment in environments]
        self.processes = [SERVER.Process(target=work, args=args) for args in given]
        for process in self.processes:
            process.start()
        return self.processes

    def wait(self, patience: float | None = None) -> list[int | str]:
        """Exit codes of the processes after they ended; one that takes longer than `patience` is killed."""
        codes: list[int | str] = []
        for process in self.processes:
            process.join(patience)
            if process.exitcode is None:
                process.kill()
                process.join()
                codes.append(HUNG)
            else:
                codes.append(process.exitcode)
        return codes

    def finish(self) -> str:
        """Start it, or go on with it, until it ends; returns the digest of its model, or what went wrong."""
        self.start()
        return self.outcome()

    def outcome(self) -> str:
        """The digest of the model of a run that ends, or what went wrong."""
        file = self.folder / self.job.model / "model.safetensors"
        codes = self.wait()
        return f"exit codes {codes}, see {self.log}" if any(codes) else file_digest(file)


Fault = Callable[[Trial, float, random.Random], str]


def ranks(processes: int) -> list[dict[str, str]]:
    """What a launcher tells each of several processes on this machine."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(found.getsockname()[1])}
    shared |= {name: str(processes) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")}
    return [shared | {name: str(rank) for name in ("RANK", "LOCAL_RANK")} for rank in range(processes)]


def run_until(process: Any, seconds: float) -> float:
    """Wait until a process has computed so long, or ends; returns its processor time, by which no other work counts."""
    used = 0.0
    while process.exitcode is None and used < seconds:
        time.sleep(0.02)
        try:
            used = sum(psutil.Process(process.pid).cpu_times()[:2])
        except psutil.NoSuchProcess:
            process.join()
    return used


def start_over(trial: Trial, moment: float, rng: random.Random) -> Any:
    """One process of a new run that has computed for `moment` seconds, or less if it would end before."""
    while True:
        process = rng.choice(trial.start())
        run_until(process, moment)
        if process.exitcode is None:
            return process
        trial.wait()
        shutil.rmtree(trial.folder)
        moment *= 0.9


def hit_by(number: signal.Signals) -> Fault:
    """A fault: the signal comes to one process of a run that has computed for `moment` seconds."""

    def fault(trial: Trial, moment: float, rng: random.Random) -> str:
        os.kill(start_over(trial, moment, rng).pid, number)
        start = time.perf_counter()
        codes = trial.wait(PATIENCE)
        ended = f"{time.perf_counter() - start:.1f} s later all have ended"
        return f"exit codes {codes}, {ended}, {len(list(trial.folder.rglob('*.pt')))} checkpoints"

    return fault


def kill_worker(trial: Trial, moment: float, rng: random.Random) -> str:
    """A fault: a reward worker is killed when the run has computed for `moment` seconds, and the run goes on."""
    process = start_over(trial, moment, rng)
    while not (found := workers_of(process.pid)):
        if process.exitcode is not None:  # over before the first worker
            return f"exit code {process.exitcode} without workers: {HUNG}"
        time.sleep(0.05)
    os.kill(rng.choice(found), signal.SIGKILL)
    return f"one of {len(found)} workers killed, exit codes {trial.wait()}"


def workers_of(pid: int) -> list[int]:
    """Processes that a process has spawned."""
    children = [
        int(child)
        for file in Path(f"/proc/{pid}/task").glob("*/children")
        for child in file.read_text(encoding="utf-8").split()
    ]
    return [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def full_disk(trial: Trial, moment: float, rng: random.Random) -> str:
    """A fault: no file may grow beyond a random part of what a checkpoint takes."""
    largest = max(path.stat().st_size for path in trial.folder.with_name("undisturbed").rglob("*.pt"))
    (process,) = trial.start(most_bytes=rng.randrange(largest))
    process.join()
    return f"exit code {process.exitcode}"


def faults_of(job: Job, config: FaultsConfig) -> dict[str, tuple[Fault, int]]:
    """What happens to a job, and how often, by name."""
    if job.workers:
        return {"reward worker killed (SIGKILL)": (kill_worker, config.kills)}
    if job.processes > 1:
        return {f"one of {job.processes} processes killed (SIGKILL)": (hit_by(signal.SIGKILL), config.kills)}
    return {
        "killed (SIGKILL)": (hit_by(signal.SIGKILL), config.kills),
        "terminated (SIGTERM)": (hit_by(signal.SIGTERM), config.terminations),
        "disk full": (full_disk, config.full_disks),
    }


def main(config: FaultsConfig) -> None:
    logging.getLogger("algorithms.checkpoint").setLevel(logging.ERROR)
    first = SERVER.Process(target=int)  # starts the server, so that no run is timed with it
    first.start()
    first.join()
    lines = ["| job | fault | times | survived |", "|---|---|---|---|"]
    for job in [job for job in JOBS if job.name in config.jobs]:
        folder, rng = config.output_dir / job.name, random.Random(config.seed)
        first_run = Trial(job, folder / "undisturbed")
        seconds = run_until(first_run.start()[0], math.inf)
        undisturbed = first_run.outcome()
        for name, (fault, times) in faults_of(job, config).items():
            survived = 0
            for i in tqdm(range(times), desc=f"{job.name}, {name}, {seconds:.0f} s", file=sys.stderr):
                trial = Trial(job, folder / f"{name.split()[0]}-{i}")
                what = fault(trial, (i + rng.random()) / times * seconds, rng)
                outcome = trial.outcome() if job.workers else trial.finish()
                survived += outcome == undisturbed and HUNG not in what
                tqdm.write(f"{trial.folder}: {what}; then {outcome[:60]}", file=sys.stderr)
            lines.append(f"| {job.name} | {name} | {times} | {survived} |")
        if job.processes == 1 and not job.workers:
            damaged = survived_damages(folder / "undisturbed", STEPS, config.damages, rng)
            lines.append(f"| {job.name} | newest checkpoint damaged | {config.damages} | {damaged} |")
        write_whole(config.output_dir / "table.md", "\n".join([*lines, ""]).encode())
    print("\n".join(lines))


if __name__ == "__main__":
    main(CONFIG)

"""Runs of equal cost: each candidate trains until its budget of network passes is spent, and is examined on the way."""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import train_awm
import train_grpo
import train_nft
import train_ppo
import train_rft
import train_rwr
from accelerate import Accelerator
from evaluate import make_rulers
from exam import Exam
from plans import Candidate, Plan
from post_training import FREE, Setup, three_models
from results import Marks, Point, Results, Run, keep, kept, save_csv, told
from settings import Settings
from tqdm import tqdm

from algorithms.checkpoint import fingerprint
from algorithms.ema import EMA
from algorithms.launch import start_accelerator
from algorithms.passes import counting
from algorithms.trainer import Algorithm, TrainConfig, train
from cellenv.data.synthetic import Split, SyntheticCells
from cellenv.generator import CellFlux

TREATED = 80  # images of each compound: another draw of the split than the one that chose the defaults of train_nft.py
WARM_UP = 5  # iterations; the scripts' own 20 would be half of these short runs, and of a cheap iteration a fourth

SCRIPTS = {
    "nft": train_nft,
    "grpo": train_grpo,
    "ppo": train_ppo,
    "awm": train_awm,
    "rwr": train_rwr,
    "rft": train_rft,
}


def run_all(
    plan: Plan, candidates: Sequence[Candidate], seeds: Sequence[int], *, split: Split, label: str = "setting"
) -> Results:
    """Every candidate with every seed; what an earlier call finished is read. Writes results.csv after every run.

    split: of the contexts that they are examined on. label: what a candidate is, for the head of the table.
    """
    bench = Bench(plan=plan, split=split)
    wanted = [(candidate, seed) for seed in seeds for candidate in candidates]  # one seed of all, then the next
    done = {(c.name, seed): bench.finished(c, seed) for c, seed in wanted}

    def runs() -> list[Run]:
        known = (done[candidate.name, seed] for candidate in candidates for seed in seeds)
        return [run for run in known if run is not None]

    missing = [(c, seed) for c, seed in wanted if done[c.name, seed] is None]
    for candidate, seed in (bar := tqdm(missing, unit="run", disable=not missing)):
        bar.set_description(f"{candidate.name}, seed {seed}")
        made_elsewhere = bench.finished(candidate, seed)  # since the start, by a process that shares the folder
        done[candidate.name, seed] = made_elsewhere or bench.run(candidate, seed)
        save_csv(plan.output_dir / "results.csv", runs(), label)
    save_csv(plan.output_dir / "results.csv", runs(), label)
    return Results(runs=runs(), base=bench.marks["base"], real=bench.marks["real"])


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all runs share; each part is made when it is first needed."""

    plan: Plan
    split: Split

    @cached_property
    def accelerator(self) -> Accelerator:
        plan = self.plan
        accelerator = start_accelerator(
            mixed_precision=plan.mixed_precision, output_dir=plan.output_dir, threads=plan.threads
        )
        if accelerator.num_processes > 1:
            raise ValueError(f"need one process, got {accelerator.num_processes}: start with python")
        return accelerator

    @cached_property
    def data(self) -> SyntheticCells:
        return SyntheticCells("train")

    @cached_property
    def exam(self) -> Exam:
        data, device = SyntheticCells(self.split, treated=TREATED), self.accelerator.device
        return Exam.of(data, make_rulers(data, device=device), contexts=self.plan.contexts)

    @cached_property
    def settings(self) -> dict[str, str]:
        """What decides the marks of a generator, the one that all start from among it."""
        base = fingerprint(CellFlux.from_pretrained(self.plan.generator))
        exam = {"split": self.split, "treated": str(TREATED), "contexts": str(self.plan.contexts)}
        return {"generator": base} | exam

    @cached_property
    def marks(self) -> dict[str, Marks]:
        """Of the base, and of real cells."""
        file = self.runs_dir / "exam.json"
        if (known := kept(file, self.settings)) is None:
            base = CellFlux.from_pretrained(self.plan.generator).to(self.accelerator.device)
            known = {"base": vars(self.exam(base)), "real": vars(self.exam.mark(self.exam.real))}
            keep(file, self.settings, known)
        return {name: Marks(**marks) for name, marks in known.items()}

    @property
    def runs_dir(self) -> Path:
        return self.plan.runs_dir or self.plan.output_dir

    def folder(self, candidate: Candidate, seed: int) -> Path:
        """Of a run; what several tables ask for has one folder, whatever they call it."""
        return self.runs_dir / run_name(self.plan, candidate) / f"seed{seed}"

    def finished(self, candidate: Candidate, seed: int) -> Run | None:
        """The run that lies in its folder, or None."""
        content = kept(self.folder(candidate, seed) / "run.json", self._told(candidate))
        return None if content is None else replace(Run.of(content), name=candidate.name)

    def run(self, candidate: Candidate, seed: int) -> Run:
        """Train and examine; leaves run.json, log.jsonl and the averaged model/. What a stopped run left is removed."""
        folder, accelerator = self.folder(candidate, seed), self.accelerator
        shutil.rmtree(folder, ignore_errors=True)
        points = [Point(iteration=0, passes=0, seconds=0.0, marks=self.marks["base"])]
        script, config = SCRIPTS[candidate.algorithm], settings_of(self.plan, candidate, seed, folder)
        theta, old, ref = three_models(config)
        setup = Setup(
            config=config,
            accelerator=accelerator,
            data=self.data,
            theta=theta,
            old=old,
            ref=ref,
            weights=candidate.weights,
        )
        for iteration, passes, seconds, ema in spend(setup, script.build(setup), self.plan):
            with ema.swapped(theta):
                points.append(Point(iteration=iteration, passes=passes, seconds=seconds, marks=self.exam(theta)))
                theta.save_pretrained(folder / "model")
        run = Run(name=candidate.name, seed=seed, points=points)
        keep(folder / "run.json", self._told(candidate), asdict(run))
        shutil.rmtree(folder / "checkpoints")
        accelerator.free_memory()
        return run

    def _told(self, candidate: Candidate) -> dict[str, str]:
        """What decides a run, but for its seed: the defaults too, which may change between two calls."""
        plan = {"budget": str(self.plan.budget), "points": str(self.plan.points)}
        run = {"algorithm": candidate.algorithm, "weights": str(candidate.weights)}
        config = told(settings_of(self.plan, candidate, 0, self.plan.output_dir), (*FREE, "seed"))
        return config | {"mixed_precision": self.accelerator.mixed_precision} | plan | run | self.settings


def run_name(plan: Plan, candidate: Candidate) -> str:
    """What a candidate does: its algorithm, and what differs from the script as it is; "nft,beta=0.1"."""
    asked, own = (settings_of(plan, c, 0, plan.output_dir) for c in (candidate, replace(candidate, options={})))
    options = {key: getattr(asked, key) for key in candidate.options}
    changed = {key: value for key, value in options.items() if value != getattr(own, key)}
    told = [*sorted(changed.items()), *sorted((candidate.weights or {}).items())]
    return ",".join([candidate.algorithm, *(f"{key}={value}" for key, value in told)])


def settings_of(plan: Plan, candidate: Candidate, seed: int, folder: Path) -> Settings:
    """The config of the candidate's script; equal images an iteration, in groups of any size."""
    options = {"group_size": plan.group_size, "warm_up": WARM_UP} | dict(candidate.options)
    groups, rest = divmod(plan.images, options["group_size"])
    if rest or not groups:
        raise ValueError(f"need images in whole groups of {options['group_size']}, got {plan.images} an iteration")
    return SCRIPTS[candidate.algorithm].Config(
        output_dir=folder,
        generator=plan.generator,
        groups=groups,
        mixed_precision=plan.mixed_precision,
        threads=plan.threads,
        trackers=(),
        seed=seed,
        **options,
    )


def spend(setup: Setup, algorithm: Algorithm, plan: Plan) -> Iterator[tuple[int, int, float, EMA]]:
    """Train until another iteration would exceed the budget; at each point (iterations, passes, seconds, average).

    Counted are the passes of all three sets of weights in rollouts and training, not those of an examination, nor
    those of PPO's critic, which is small. What one iteration costs is counted in the first.
    """
    networks = [model.network for model in (setup.theta, setup.old, setup.ref)]
    spent, seconds = 0, 0.0

    def train_until(iterations: int) -> EMA:
        nonlocal spent, seconds
        config = replace(setup.config, iterations=iterations, save_every=iterations, resume=spent > 0)
        start = time.perf_counter()
        with counting(networks) as passes:
            ema = train(setup.accelerator, TrainConfig.of(config), algorithm)
        spent, seconds = spent + passes.total, seconds + time.perf_counter() - start
        return ema

    train_until(1)
    price = spent
    if price > plan.budget:
        raise ValueError(f"need a budget of at least one iteration, {price} passes; got {plan.budget}")
    for goal in sorted({max(1, plan.budget * k // plan.points // price) for k in range(1, plan.points + 1)}):
        ema = train_until(goal)
        yield goal, spent, seconds, ema

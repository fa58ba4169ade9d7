"""Runs of equal cost: each candidate trains until its budget of network evaluations (NFE) is spent."""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import Accelerator
from tqdm import tqdm

from algorithms.checkpoint import fingerprint
from algorithms.ema import EMA
from algorithms.evaluation.evaluator import build_evaluator
from algorithms.evaluation.periodic_eval import EvalResult, PeriodicEval
from algorithms.launch import start_accelerator
from algorithms.nfe import count_nfe
from algorithms.recipes.post_training import Components, build_components
from algorithms.trainer import Algorithm, train
from cellenv.data.synthetic import Split, SyntheticCells
from cellenv.generator import CellFlux
from examples.studies.cache import config_signature, load_cached, save_cached
from examples.studies.candidates import candidate_config, recipe_of, run_name
from examples.studies.comparison_config import Candidate, ComparisonConfig
from examples.studies.results import CandidateRun, Point, Results, save_csv

DRAW, TREATED = 1, 80  # images other than those that chose the defaults of `train nft`, and how many of each compound

UNDECISIVE = (  # fields that do not decide a run, and its seed
    *("seed", "output_dir", "resume", "iterations", "trackers", "save_every", "save_minutes", "show_every", "threads"),
    *("eval.contexts", "eval.judge", "eval.base", "data.cache"),
)


def run_all(
    config: ComparisonConfig,
    candidates: Sequence[Candidate],
    seeds: Sequence[int],
    *,
    split: Split,
    label: str = "setting",
) -> Results:
    """Run every candidate with every seed, and write results.csv after every run; finished runs are read.

    split: evaluation contexts. label: name of the candidates' column in the CSV.

    Raises:
        ValueError: a finished run was made with other settings, or the budget is less than one iteration.
    """
    runner = ComparisonRunner(config=config, split=split)
    wanted = [(candidate, seed) for seed in seeds for candidate in candidates]  # all candidates before the next seed
    done = {(candidate.name, seed): runner.load(candidate, seed) for candidate, seed in wanted}

    def finished() -> list[CandidateRun]:
        known = (done[candidate.name, seed] for candidate in candidates for seed in seeds)
        return [run for run in known if run is not None]

    missing = [(candidate, seed) for candidate, seed in wanted if done[candidate.name, seed] is None]
    for candidate, seed in (bar := tqdm(missing, unit="run", disable=not missing)):
        bar.set_description(f"{candidate.name}, seed {seed}")
        made_elsewhere = runner.load(candidate, seed)  # since the start, by a process that shares the folder
        done[candidate.name, seed] = made_elsewhere or runner.run(candidate, seed)
        save_csv(config.output_dir / "results.csv", finished(), label)
    save_csv(config.output_dir / "results.csv", finished(), label)
    return Results(runs=finished(), base=runner.references["base"], real=runner.references["real"])


@dataclass(frozen=True, kw_only=True)
class ComparisonRunner:
    """What all runs share; each part is built when first needed."""

    config: ComparisonConfig
    split: Split

    @cached_property
    def accelerator(self) -> Accelerator:
        """A single-process Accelerator.

        Raises:
            ValueError: several processes were started.
        """
        config = self.config
        accelerator = start_accelerator(
            mixed_precision=config.mixed_precision, output_dir=config.output_dir, threads=config.threads
        )
        if accelerator.num_processes > 1:
            raise ValueError(f"need one process, got {accelerator.num_processes}: start with python")
        return accelerator

    @cached_property
    def data(self) -> SyntheticCells:
        """Training cells."""
        return SyntheticCells("train")

    @cached_property
    def periodic_eval(self) -> PeriodicEval:
        """Evaluation on held-out contexts."""
        data = SyntheticCells(self.split, draw=DRAW, treated=TREATED)
        evaluator = build_evaluator(data, device=self.accelerator.device)
        config = self.config
        return PeriodicEval.create(data, evaluator, contexts=config.contexts, group_size=config.samples)

    @cached_property
    def eval_signature(self) -> dict[str, str]:
        """Settings that decide the evaluation of a generator, and the base that all runs start from."""
        return {
            "generator": fingerprint(CellFlux.from_pretrained(self.config.generator)),
            "split": self.split,
            "draw": str(DRAW),
            "treated": str(TREATED),
            "contexts": str(self.config.contexts),
            "samples": str(self.config.samples),
        }

    @cached_property
    def references(self) -> dict[str, EvalResult]:
        """Evaluation of the base and of real cells."""
        file = self.runs_dir / "references.json"
        if (known := load_cached(file, self.eval_signature)) is None:
            base = CellFlux.from_pretrained(self.config.generator).to(self.accelerator.device)
            results = {
                "base": self.periodic_eval(base),
                "real": self.periodic_eval.evaluate(self.periodic_eval.real),
            }
            known = {name: vars(result) for name, result in results.items()}
            save_cached(file, self.eval_signature, known)
        return {name: EvalResult(**result) for name, result in known.items()}

    @property
    def runs_dir(self) -> Path:
        """Folder of all runs."""
        return self.config.runs_dir or self.config.output_dir

    def folder(self, candidate: Candidate, seed: int) -> Path:
        """Run directory; candidates of identical config share one, whatever their names."""
        return self.runs_dir / run_name(self.config, candidate) / f"seed{seed}"

    def load(self, candidate: Candidate, seed: int) -> CandidateRun | None:
        """Finished run in its folder, or None."""
        content = load_cached(self.folder(candidate, seed) / "run.json", self._signature(candidate))
        return None if content is None else replace(CandidateRun.from_dict(content), name=candidate.name)

    def run(self, candidate: Candidate, seed: int) -> CandidateRun:
        """Train and evaluate one candidate; writes run.json, log.jsonl and the EMA model/ over an unfinished run."""
        folder, accelerator = self.folder(candidate, seed), self.accelerator
        shutil.rmtree(folder, ignore_errors=True)
        points = [Point(iteration=0, nfe=0, seconds=0.0, result=self.references["base"])]
        recipe = recipe_of(candidate)
        components = build_components(
            candidate_config(self.config, candidate, seed, folder), accelerator, data=self.data
        )
        theta = components.theta
        for progress in train_within_budget(components, recipe.build(components), self.config):
            with progress.ema.swapped(theta):
                result = self.periodic_eval(theta)
                theta.save_pretrained(folder / "model")
            points.append(
                Point(iteration=progress.iterations, nfe=progress.nfe, seconds=progress.seconds, result=result)
            )
        run = CandidateRun(name=candidate.name, seed=seed, points=points)
        save_cached(folder / "run.json", self._signature(candidate), asdict(run))
        shutil.rmtree(folder / "checkpoints")
        accelerator.free_memory()
        return run

    def _signature(self, candidate: Candidate) -> dict[str, str]:
        """Settings that decide a run except for its seed, the recipe's defaults included."""
        config = config_signature(candidate_config(self.config, candidate, 0, self.config.output_dir), UNDECISIVE)
        return {
            **config,
            "algorithm": candidate.algorithm,
            "mixed_precision": self.accelerator.mixed_precision,
            "budget": str(self.config.budget),
            "points": str(self.config.points),
            **{f"evaluation.{name}": value for name, value in self.eval_signature.items()},
        }


class Progress(NamedTuple):
    """A run after some iterations."""

    iterations: int
    nfe: int
    seconds: float  # of training these iterations
    ema: EMA


def train_within_budget(
    components: Components[Any], algorithm: Algorithm, config: ComparisonConfig
) -> Iterator[Progress]:
    """Train until another iteration would exceed the budget; yields at evenly spaced points.

    Counts NFE of theta, old and ref in rollouts and training, not of evaluations and not of PPO's small critic. The
    first iteration tells the NFE of each; with a critic's warm-up, which costs less, the first one after it. Where the
    learning rate falls at the end, every point is the end of such a run, and has the NFE and the time of one:
    iterations that are trained again, from before the fall of an earlier point, count once.

    Raises:
        ValueError: the budget is less than one iteration.
    """
    networks = [model.network for model in components.models]
    config_of_run = components.config
    nfe, seconds = 0, 0.0

    def train_until(iterations: int, *, cooldown: float = config_of_run.optim.cooldown) -> EMA:
        nonlocal nfe, seconds
        optim = replace(config_of_run.optim, cooldown=cooldown)
        stage = replace(config_of_run, iterations=iterations, save_every=iterations, resume=nfe > 0, optim=optim)
        start = time.perf_counter()
        with count_nfe(networks) as counted:
            ema = train(components.accelerator, stage, algorithm)
        nfe += counted.total
        seconds += time.perf_counter() - start
        return ema

    if warmup := algorithm.first_update:
        train_until(warmup, cooldown=0)
    spent, warmup_seconds = nfe, seconds
    train_until(warmup + 1, cooldown=0)
    per_iteration = nfe - spent
    if nfe > config.budget:
        raise ValueError(f"need a budget of at least one iteration, {nfe} NFE; got {config.budget}")
    shares = [config.budget * k // config.points for k in range(1, config.points + 1)]
    for iterations in sorted({warmup + max(1, (share - spent) // per_iteration) for share in shares}):
        ema = train_until(iterations)
        own = (iterations - warmup) * per_iteration  # NFE; nfe - spent has those of earlier points' falls as well
        own_seconds = (seconds - warmup_seconds) * own / (nfe - spent)
        yield Progress(iterations, spent + own, warmup_seconds + own_seconds, ema)

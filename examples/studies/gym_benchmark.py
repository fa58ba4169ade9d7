"""Baselines of the Gymnasium benchmark: learning curves over seeds, and the leaderboard of docs/benchmark.md.

    pip install 'cellfluxrl[benchmark]'
    python -m examples.studies.gym_benchmark                     # Select and Steer, five seeds
    python -m examples.studies.gym_benchmark --preset smoke      # a few steps of everything

All agents learn from the same training contexts, drawn once, and are scored on the fixed contexts of the test split: 0
is the untouched generator, 1 the oracle. Intervals (95 %) resample contexts and seeds. Writes leaderboard.md,
leaderboard.csv, curves.csv and curves.png anew after every run. A second call reads the finished runs in DIR/runs;
processes with other --seeds may share a DIR, and a last call with all of them makes the table.
"""

from examples.studies.command_line import parse_script
from examples.studies.gym_config import PRESETS, BenchmarkConfig

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from algorithms.launch import has_native_bf16
from cellenv.data.synthetic import SyntheticCells
from cellenv.generator import CellFlux
from cellenv.gym import Scale, Select, Steer, World
from cellenv.gym.score import SCALES, fixed_contexts, play
from cellenv.streams import rng_at
from examples.studies.cache import config_signature, load_cached, save_cached
from examples.studies.gym_agents import LEARNERS, RULES
from examples.studies.gym_cached_task import CachedSelect, CachedTask
from examples.studies.gym_report import write_benchmark
from examples.studies.gym_training import AgentRun, best_constant, random_rewards, train_agent

TASKS = {"Select": (Select, CachedSelect), "Steer": (Steer, CachedTask)}
RESUMABLE_FIELDS = ("tasks", "output_dir", "seeds", "generator")  # do not decide a run; the scale names the generator


def run_baselines(train: CachedTask, test: CachedTask, scale: Scale, config: BenchmarkConfig) -> Iterator[AgentRun]:
    """Every baseline on one task; finished runs are read."""
    task = test.kind
    signature = config_signature(config, RESUMABLE_FIELDS) | {"scale": str(scale.fingerprint)}

    def cached(agent: str, seed: int, make: Callable[[], AgentRun]) -> AgentRun:
        file = config.output_dir / "runs" / f"{task}-{agent}-{seed}.json"
        if (known := load_cached(file, signature)) is None:
            known = make().to_dict()
            save_cached(file, signature, known)
        curve = tuple((steps, score) for steps, score in known["curve"])
        return AgentRun(task, agent, seed, np.asarray(known["rewards"]), curve)

    def play_rule(name: str) -> AgentRun:
        return AgentRun(task, name, 0, play(test, RULES[task][name], test.scenes))

    def play_randomly(seed: int) -> AgentRun:
        return AgentRun(task, "random", seed, random_rewards(test, test.scenes, seed))

    yield AgentRun(task, "oracle", 0, np.asarray(scale.oracle))
    yield cached("best constant", 0, partial(best_constant, train, test, config))
    for name in RULES[task]:
        yield cached(name, 0, partial(play_rule, name))
    for seed in config.seeds:
        yield cached("random", seed, partial(play_randomly, seed))
        for name in LEARNERS[task]:
            yield cached(name, seed, partial(train_agent, name, train, test, scale, seed, config))


def load_or_fit_scale(test: CachedTask, folder: Path) -> Scale:
    """The shipped scale or the folder's; if neither is of this generator and contexts, a new one, written there."""
    own = folder / "scales.json"
    reasons = []
    for file in [SCALES, own] if own.is_file() else [SCALES]:
        try:
            return Scale.load(test, test.scenes, file)
        except ValueError as error:
            reasons.append(error)
    print(*reasons, "measuring it now", sep="\n")
    scale = Scale.fit(test, test.scenes)
    scale.save(own)
    return scale


def benchmark(worlds: Mapping[str, World], config: BenchmarkConfig) -> str:
    """Run everything and return the leaderboard; agents learn in the world "train" and are scored in "test"."""
    runs: list[AgentRun] = []
    scales: dict[str, Scale] = {}
    board = ""
    training = worlds["train"].data.draw_contexts(config.train_contexts, rng_at(config.train_contexts))
    fixed = fixed_contexts(worlds["test"].data, config.contexts)
    for name in config.tasks:
        task, cached_task = TASKS[name]
        train = cached_task(task(worlds["train"], observation="features"), training)
        test = cached_task(task(worlds["test"], observation="features"), fixed)
        scales[name] = load_or_fit_scale(test, config.output_dir)
        for run in run_baselines(train, test, scales[name], config):
            runs.append(run)
            board = write_benchmark(runs, scales, config.output_dir)
    return board


def main(config: BenchmarkConfig) -> None:
    generator = CellFlux.from_pretrained(config.generator)
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if has_native_bf16() else "fp32"
    config = replace(config, precision=precision)  # which runs are stored with, and read again
    worlds = {
        "train": World(generator, SyntheticCells("train"), precision=precision),
        "test": World(generator, SyntheticCells("test")),
    }
    print(benchmark(worlds, config))


if __name__ == "__main__":
    main(CONFIG)
